"""The `sample` stage: several replies to each prompt, scored and ranked (rejection sampling, self-distillation).

The parent's model writes, adapter or not, on as many ranks as there are; DeepSpeed has no part in it. A reply is drawn
by random numbers that belong to the seed, its prompt and its number, so nothing depends on ranks or on a resumed start.
Equal replies to a prompt are kept once with how often they were `drawn`; those without text are dropped and counted.
Means are over all replies that were drawn and have text.

It leaves a corpus of `ranked` rows, best reply first:

    {id, cluster, prompt: [message], replies: [str], ranks: [int], scores: [float], rewards: {name: [float]},
     drawn: [int], truncated: [bool]}

Without rewards all replies share rank 1, and there are no `scores` and `rewards`.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from residency.artifact import StageFile
from residency.data import prompts
from residency.data.tokenization.rendering import Message, Renderer
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import Exit, ResidencyError
from residency.generation.decoding import Settings
from residency.generation.generate import Reply, draw
from residency.train import rewards
from residency.train.replies import writing
from residency.train.replies.room import fit_prompts
from residency.train.replies.writing import Batch, Written
from residency.train.settings import SampleSettings

Row = dict[str, Any]
DIGITS = 6  # of a score; ranks of another number of threads round otherwise behind them


def run(stage: StageFile, attempt: Path, rank: int, world_size: int, owner: str) -> Exit:
    """This rank's share of the replies; rank 0 commits the corpus.

    Raises:
        ResidencyError: prompts that leave no room for a reply, that cannot be asked or cannot be scored.
    """
    started = time.monotonic()
    settings = writing.settings_of(stage, SampleSettings)
    rows = prompts.load(stage.parents["tokens"], "train")
    scorer = rewards.build(settings.rewards, stage.parents)
    scorer.check(rows, f"stages.{stage.name}.corpus")
    asked = _asked(stage, settings, rows)
    room = fit_prompts(stage, asked)
    weights = writing.check_weights(stage) if rank == 0 else {}
    writer = cache(lambda: writing.load_writer(stage, room))
    assert settings.seed is not None, "the planner fills the seed in"
    how = Settings(settings.max_new_tokens, (), settings.temperature, settings.seed)

    def work(batch: Batch) -> list[Written]:
        wanted = [(asked[place], number) for place in batch for number in range(settings.replies)]
        replies = draw(writer(), wanted, how)
        return _rated([rows[place] for place in batch], replies, scorer, ranked=bool(settings.rewards))

    batches = writing.batches(asked, settings.replies, settings.max_new_tokens)
    directory = writing.write(stage, attempt, rank, batches, work)
    if directory is None:
        return Exit.RUN_AGAIN
    if rank == 0:
        facts = writing.facts(stage, weights, world_size)
        writing.gather(stage, attempt, owner, "ranked", batches, directory, _measure(facts, started))
    return Exit.DONE


def _asked(stage: StageFile, settings: SampleSettings, rows: list[Row]) -> list[list[int]]:
    """Ids of what the model is asked.

    Raises:
        ResidencyError: `ask` wants a reference, and a row has none; or a row in which the user says nothing.
    """
    if settings.ask is None:
        return [row["prompt_ids"] for row in rows]
    model = stage.parents["model"]
    renderer = Renderer(load_tokenizer(model), model.name, stage.settings["chat_template"])
    return [renderer.prompt(_instead(settings.ask, row, stage.name)) for row in rows]


def _instead(ask: str, row: Row, stage: str) -> list[Message]:
    """The prompt with `ask` in place of the last that the user says."""
    last = max((at for at, message in enumerate(row["prompt"]) if message["role"] == "user"), default=None)
    if last is None:
        raise ResidencyError(
            f"stages.{stage}.ask: in row {row['id']} the user says nothing", cure="Take it out"
        )
    known = {"{prompt}": row["prompt"][last]["content"], "{reference}": row["reference"]}
    if "{reference}" in ask and row["reference"] is None:
        raise ResidencyError(
            f"stages.{stage}.ask: row {row['id']} has no reply or right answer to put for {{reference}}",
            cure="Give a corpus of dialogues, or of items with answers",
        )
    said = re.sub(r"\{(?:prompt|reference)\}", lambda found: known[found[0]], ask)
    return [*row["prompt"][:last], {"role": "user", "content": said}, *row["prompt"][last + 1 :]]


def _rated(rows: list[Row], replies: list[Reply], scorer: rewards.Scorer, *, ranked: bool) -> list[Written]:
    """Replies of each row, equal ones once, with their scores, best first."""
    each = len(replies) // len(rows)
    drawn = [replies[at : at + each] for at in range(0, len(replies), each)]
    distinct = [list({reply.text: reply for reply in own if reply.is_text}.values()) for own in drawn]
    scored = [(row, reply) for row, own in zip(rows, distinct, strict=True) for reply in own]
    scores = scorer.score(
        [row for row, _ in scored],
        [reply.text for _, reply in scored],
        [reply.tokens for _, reply in scored],
        [reply.truncated for _, reply in scored],
    )
    values = {"score": scores.total, **scores.parts} if ranked else {}
    written, start = [], 0
    for row, own, kept in zip(rows, drawn, distinct, strict=True):
        here = slice(start, start := start + len(kept))
        rated = {name: [round(value, DIGITS) for value in told[here]] for name, told in values.items()}
        written.append(_written(row, own, kept, rated))
    return written


def _written(row: Row, drawn: list[Reply], kept: list[Reply], rated: dict[str, list[float]]) -> Written:
    """The row of one prompt, and what it adds to the stage's numbers.

    Args:
        kept: the replies that differ and have text.
        rated: `score` and each reward by its name, of the kept replies; empty without rewards.
    """
    tokens = sum(reply.tokens for reply in drawn)
    counts: dict[str, float] = {"drawn": len(drawn), "distinct": len(kept), "tokens": tokens}
    if not kept:
        return Written(None, counts)
    worth = rated.get("score") or [0.0] * len(kept)
    order = sorted(range(len(kept)), key=lambda at: -worth[at])
    times = Counter(reply.text for reply in drawn)
    told = [times[kept[at].text] for at in order]
    by_rank = {name: [values[at] for at in order] for name, values in rated.items()}
    made: Row = {
        "id": row["id"],
        "cluster": row["cluster"],
        "prompt": row["prompt"],
        "replies": [kept[at].text for at in order],
        "ranks": [1 + sum(other > worth[at] for other in worth) for at in order],
        "drawn": told,
        "truncated": [kept[at].truncated for at in order],
    }
    if rated:
        made["scores"] = by_rank["score"]
        made["rewards"] = {name: values for name, values in by_rank.items() if name != "score"}
    counts |= {"answered": 1, "told": sum(told)}
    counts["truncated"] = sum(times[reply.text] for reply in kept if reply.truncated)
    for name, values in by_rank.items():
        counts[f"sum {name}"] = sum(value * one for value, one in zip(values, told, strict=True))
        counts[f"best {name}"] = max(values)
    return Written(made, counts)


def _measure(facts: dict[str, Any], started: float) -> Callable[[Counter[str]], dict[str, Any]]:
    def measure(counts: Counter[str]) -> dict[str, Any]:
        seconds = time.monotonic() - started
        names = [name.removeprefix("sum ") for name in counts if name.startswith("sum ")]
        mean = {name: round(counts[f"sum {name}"] / counts["told"], DIGITS) for name in names}
        best = {name: round(counts[f"best {name}"] / counts["answered"], DIGITS) for name in names}
        return {
            "replies": counts["drawn"],
            "distinct_share": round(counts["distinct"] / counts["drawn"], DIGITS),
            "dropped": {"no text": counts["drawn"] - counts["told"]},
            "truncated_share": round(counts["truncated"] / counts["told"], DIGITS),
            "mean_score": mean.pop("score", None),
            "best_score": best.pop("score", None),
            "mean_rewards": mean,
            "best_rewards": best,
            "tokens": counts["tokens"],
            "seconds": round(seconds, 2),
            **facts,
        }

    return measure
