"""What the page on data knows of a run: its finished corpora, the mixtures made of them, and exam items in the text.

Only artifacts of the planned identities count, whatever else lies in the folder; what is not finished is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from residency.artifact import RunPaths, read_attempt, read_manifest
from residency.data import passport
from residency.data.curation import parts
from residency.data.curation.batch import pieces
from residency.eval.pages.data_corpus import Corpus, kind_of
from residency.eval.pages.report_run import Run, Stage

CORPUS = "corpus-"


@dataclass(frozen=True)
class Hit:
    """An exam item in a document."""

    corpus: str
    task: str
    item: str
    question: str
    """Text of the item; empty where it is not known."""
    document: str
    coverage: float
    sentence: str
    dropped: bool
    """Whether the document was dropped for it, or only flagged."""
    withheld: str


@dataclass(frozen=True)
class Mixture:
    """What a training stage learns from."""

    stage: str
    kind: str
    measured: dict[str, Any]

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Corpus to planned and realised share, tokens, documents and epochs; empty for preference pairs."""
        return dict(self.measured.get("mixture", {}))

    @property
    def drift(self) -> float:
        """The largest difference of a share from its plan."""
        return max((abs(part["realised"] - part["planned"]) for part in self.parts.values()), default=0.0)


@dataclass
class DataRun:
    """A run, as far as its data go."""

    name: str
    corpora: list[Corpus]
    exams: list[Corpus]
    """Items of evaluation tasks that are no corpora of the recipe."""
    mixtures: list[Mixture]
    waiting: dict[str, str]
    """Corpora and mixtures that are not finished, with the reason where they failed."""
    uses: dict[str, list[str]]
    """Corpus to what it is used for."""

    @cached_property
    def hits(self) -> list[Hit]:
        """Exam items found in documents, the best covered first."""
        found = [hit for corpus in self.corpora for hit in _hits(corpus)]
        return sorted(found, key=lambda hit: -hit.coverage)

    def tokens_per_character(self, name: str) -> tuple[float, str] | None:
        """Measured by the stage that took most of a corpus, and that stage's name; None where none did.

        What was cut off long dialogues is counted in, as its characters are.
        """
        corpus = next(corpus for corpus in self.corpora if corpus.name == name)
        taken = [(mixture, mixture.parts[name]) for mixture in self.mixtures if name in mixture.parts]
        if not taken or not corpus.rows.characters:
            return None
        mixture, part = max(taken, key=lambda pair: pair[1]["epochs"])
        documents = part["epochs"] * corpus.train
        cut = part.get("truncated_tokens", 0) * documents / part["documents"]
        return (part["tokens"] + cut) / (part["epochs"] * corpus.rows.characters), mixture.stage


def read(paths: RunPaths, graph: dict[str, Any]) -> DataRun:
    """Everything that the page needs.

    Args:
        graph: `name` and `stages` as in `recipe.json`; only artifacts of these identities count.
    """
    stages = [_stage(paths, fields) for fields in graph["stages"]]
    run = Run(paths.root, graph["name"], stages, [])
    made = [
        Corpus(stage.name.removeprefix(CORPUS), paths.artifact(stage.name, stage.identity), stage.manifest)
        for stage in stages
        if stage.kind == "corpus" and stage.manifest
    ]
    mixtures = [
        Mixture(stage.name, stage.kind, tokens.measured)
        for stage in run.training
        if (tokens := run.helper(stage, "tokens", "pairs")) and tokens.manifest
    ]
    wanted = [stage for stage in stages if stage.kind in ("corpus", "tokens", "pairs")]
    return DataRun(
        name=run.name,
        corpora=[corpus for corpus in made if corpus.manifest.stage.startswith(CORPUS)],
        exams=[corpus for corpus in made if not corpus.manifest.stage.startswith(CORPUS)],
        mixtures=mixtures,
        waiting={stage.name: stage.reason for stage in wanted if not stage.manifest},
        uses=_uses(stages),
    )


def _stage(paths: RunPaths, fields: dict[str, Any]) -> Stage:
    stage = Stage(
        fields["name"], fields["kind"], fields["identity"], fields.get("parents") or {}, fields.get("for")
    )
    artifact = paths.artifact(stage.name, stage.identity)
    if (artifact / "manifest.json").exists():
        stage.manifest = read_manifest(artifact)
    else:
        attempt = read_attempt(paths.attempt(stage.name, stage.identity))
        stage.reason = str(attempt.get("reason") or "") if attempt.get("status") == "failed" else ""
    return stage


def _uses(stages: list[Stage]) -> dict[str, list[str]]:
    """Corpus to training stages, and to what else needs it."""
    uses: dict[str, list[str]] = {}
    for stage in stages:
        for role, parent in stage.parents.items():
            match stage.kind:
                case "tokens" | "pairs" | "replies" | "prompts" if role.startswith("corpus:"):
                    use = stage.serves or stage.name
                case "vocab" if role.startswith("corpus:"):
                    use = stage.name
                case "scratch":
                    use = "tokenizer"
                case "evaluate" if role.startswith("items:"):
                    use = "evaluation"
                case "corpus" if role.startswith("corpus:"):
                    use = stage.name.removeprefix(CORPUS)
                case _:
                    continue
            known = uses.setdefault(parent.removeprefix(CORPUS), [])
            if use not in known:
                known.append(use)
    return uses


def _hits(corpus: Corpus) -> Iterator[Hit]:
    path = corpus.artifact / "contamination.jsonl"
    steps = [step["step"] for step in corpus.steps if kind_of(step["step"]) == "decontaminate"]
    if not path.exists() or not steps:
        return
    modes = [step["mode"] for step in corpus.manifest.settings["steps"] if step["kind"] == "decontaminate"]
    withheld, questions = corpus.withheld(steps[0]), _questions(corpus)
    for row in parts.load(path):
        question = questions.get((row["task"], row["item"]), "")
        yield Hit(corpus.name, question=question, dropped="drop" in modes, withheld=withheld, **row)


def _questions(corpus: Corpus) -> dict[tuple[str, str], str]:
    """Task and item to the question, of the exams that a corpus was searched for and that may be shown."""
    found = {}
    for role, place in corpus.manifest.parent_paths.items():
        exam = corpus.artifact / place
        task = role.removeprefix("exam:")
        if task == role or not (exam / "manifest.json").exists():
            continue
        if passport.forbidden(read_manifest(exam).passport, "text-logging"):
            continue
        for path in (exam / "train.jsonl", exam / "held_out.jsonl"):
            for row in parts.load(path) if path.exists() else ():
                found[task, str(row["id"])] = next(iter(pieces(row)), "")
    return found
