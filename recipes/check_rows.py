"""Corpora hold the kind of rows that the stages which read them learn from, as far as a first row tells. No torch here.

The same is checked where a stage's rows are prepared, but that is behind the stages above it.
"""

from __future__ import annotations

from residency.data import prompts, replies
from residency.data.reading import sources
from residency.data.rows.schema import recognise
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.recipes.plan import Plan
from residency.recipes.plan_order import corpora_of
from residency.recipes.schema import ScratchBase
from residency.train.settings import (
    PreferenceSettings,
    RewardSettings,
    RlSettings,
    SampleSettings,
    SftSettings,
    TextStage,
    TreeSettings,
    VocabSettings,
    WritingStage,
)

READ = {
    "text": "running text",
    "messages": "dialogues (messages)",
    "preference": "preference pairs",
    "labelled": "single replies with a label",
    "ranked": "ranked replies",
    "steps": "steps with values",
    "choice": "exam items",
    "answer": "questions with answers",
}


def check_rows(plan: Plan) -> None:
    """Every corpus suits the stages that read it.

    Raises:
        ResidencyError: one holds rows of another kind.
    """
    if isinstance(plan.recipe.base, ScratchBase):
        for name in plan.recipe.base.scratch.tokenizer:
            _check(plan, "base.scratch.tokenizer", name, ("text",))
    for name, stage in plan.recipe.stages.items():
        wanted = _wanted(stage)
        for corpus in corpora_of(plan.recipe, name) if wanted else []:
            _check(plan, f"stages.{name}", corpus, wanted)


def first_form(name: str, settings: CorpusSettings) -> str | None:
    """The kind of a corpus's rows as they are read; None where only a run tells: from the hub, or made of others.

    Raises:
        ResidencyError: no rows, or a first one that cannot be read.
    """
    if settings.synthesis is not None:
        return None
    if not settings.source.startswith(sources.WORLD) and not sources.is_local(settings.source):
        return None
    row = next(iter(sources.read(settings, 0)), None)
    if row is None:
        raise ResidencyError(f"corpora.{name}: {settings.source} has no rows")
    return recognise(row, settings.turns, settings.exam)


def _wanted(stage: object) -> tuple[str, ...]:
    """The kinds of rows that a stage learns from; none where it reads no corpus."""
    if isinstance(stage, VocabSettings):
        return ("text",)
    if isinstance(stage, TextStage | SftSettings):
        return ("text", "messages")
    if isinstance(stage, PreferenceSettings):
        return ("preference", "labelled") if stage.loss == "kto" else ("preference",)
    if isinstance(stage, RewardSettings):
        return tuple(replies.FORMS)
    if isinstance(stage, RlSettings | WritingStage):
        return prompts.ANSWERED if _checks_answers(stage) else prompts.SCHEMAS
    return ()


def _checks_answers(stage: RlSettings | WritingStage) -> bool:
    return isinstance(stage, TreeSettings) or any(reward.kind == "correct" for reward in stage.rewards)


def _check(plan: Plan, place: str, corpus: str, wanted: tuple[str, ...]) -> None:
    if isinstance(stage := plan.recipe.stages.get(corpus), WritingStage):
        form: str | None = "ranked" if isinstance(stage, SampleSettings) else "tree"
    elif f"corpus-{corpus}" in plan.absent:
        return
    else:
        settings = plan.recipe.corpora[corpus]
        form = "preference" if settings.rejected else first_form(corpus, settings)
    if form is not None and form not in wanted:
        raise ResidencyError(
            f"{place}: corpus {corpus} holds {READ.get(form, f'rows of kind {form}')}",
            cure=f"Give {' or '.join(READ[kind] for kind in wanted)}",
        )
