"""The `tree` stage: a search for reasoning step by step to each prompt, its ends checked by the right answer.

The searches of a batch of prompts (`residency.train.replies.search`) advance together, so that what they want is
written at once. Like `sample`, nothing depends on ranks or on a resumed start. It leaves a corpus of `tree` rows, from
which selection makes dialogues, pairs of steps, or steps with values:

    {id, cluster, prompt: [message], nodes: [{parent: int | null, text, value, visits, end, correct: bool | null}]}

The texts from a first step (parent null) down to one that is an `end` make up a reply.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from residency.artifact import StageFile
from residency.data import prompts
from residency.errors import Exit
from residency.generation.decoding import Settings
from residency.generation.generate import Reply, draw
from residency.generation.writer import Writer
from residency.train import rewards
from residency.train.replies import writing
from residency.train.replies.room import fit_prompts
from residency.train.replies.search import Search, Tree, Wanted, search
from residency.train.replies.writing import Batch, Written
from residency.train.settings import TreeSettings
from residency.train.settings.rewards import CorrectReward

Row = dict[str, Any]


def run(stage: StageFile, attempt: Path, rank: int, world_size: int, owner: str) -> Exit:
    """This rank's share of the trees; rank 0 commits the corpus.

    Raises:
        ResidencyError: prompts without a right answer, or without room for the reasoning.
    """
    started = time.monotonic()
    settings = writing.settings_of(stage, TreeSettings)
    rows = prompts.load(stage.parents["tokens"], "train")
    scorer = rewards.build([CorrectReward(kind="correct")], stage.parents)
    scorer.check(rows, f"stages.{stage.name}.corpus")
    asked = [row["prompt_ids"] for row in rows]
    room = fit_prompts(stage, asked)
    weights = writing.check_weights(stage) if rank == 0 else {}
    writer = cache(lambda: writing.load_writer(stage, room))

    def work(batch: Batch) -> list[Written]:
        some = [rows[place] for place in batch]
        return [
            _written(row, *found)
            for row, found in zip(some, grow(writer(), some, settings, scorer), strict=True)
        ]

    batches = writing.batches(asked, settings.branches, settings.depth * settings.max_step_tokens)
    directory = writing.write(stage, attempt, rank, batches, work)
    if directory is None:
        return Exit.RUN_AGAIN
    if rank == 0:
        facts = writing.facts(stage, weights, world_size)
        writing.gather(stage, attempt, owner, "tree", batches, directory, _measure(facts, started))
    return Exit.DONE


class _Growing:
    """The search of one prompt, and what it waits for."""

    def __init__(self, row: Row, steps: Search) -> None:
        self.row, self.steps = row, steps
        self.wanted: Wanted | None = next(steps)
        self.tree: Tree | None = None
        self.tokens = 0

    def go_on(self, replies: list[Reply]) -> None:
        """Give it what it waited for."""
        self.tokens += sum(reply.tokens for reply in replies)
        try:
            self.wanted = self.steps.send(replies)
        except StopIteration as ended:
            self.wanted, self.tree = None, ended.value


def grow(
    writer: Writer, rows: list[Row], settings: TreeSettings, scorer: rewards.Scorer
) -> list[tuple[Tree, int]]:
    """The finished tree of each prompt, and how many tokens were written for it."""

    def begun(row: Row) -> Search:
        return search(
            settings,
            lambda reply: scorer.score([row], [reply], [0]).total[0] > 0,
            lambda text: len(_ids(writer, text)),
        )

    searches = [_Growing(row, begun(row)) for row in rows]
    while waiting := [(one, one.wanted) for one in searches if one.wanted]:
        asked = [(one.row["prompt_ids"], wanted) for one, wanted in waiting]
        for (one, _), replies in zip(waiting, _write(writer, asked, settings), strict=True):
            one.go_on(replies)
    return [(one.tree, one.tokens) for one in searches if one.tree]


def _write(
    writer: Writer, asked: list[tuple[list[int], Wanted]], settings: TreeSettings
) -> list[list[Reply]]:
    """What each search waits for, behind its prompt; all that is alike in length and end is written at once.

    Spaces at the end of the steps so far are left to the model: they begin a token, and behind a space alone it would
    write what it was never taught.
    """
    assert settings.seed is not None, "the planner fills the seed in"
    alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for at, (_, wanted) in enumerate(asked):
        alike[wanted.tokens, wanted.one_step].append(at)
    found: dict[int, list[Reply]] = {}
    for (tokens, one_step), places in sorted(alike.items()):
        how = Settings(tokens, (settings.step_end,) if one_step else (), settings.temperature, settings.seed)
        begun = [(at, [*asked[at][0], *_ids(writer, asked[at][1].text.rstrip(" "))]) for at in places]
        replies = draw(writer, [(ids, sample) for at, ids in begun for sample in asked[at][1].samples], how)
        waiting = iter(replies)
        found |= {
            at: [_behind(asked[at][1].text, next(waiting)) for _ in asked[at][1].samples] for at in places
        }
    return [found[at] for at in range(len(asked))]


def _behind(text: str, reply: Reply) -> Reply:
    """The reply without the spaces that the text before it ends with."""
    return replace(reply, text=reply.text.lstrip(" ")) if text.endswith(" ") else reply


def _ids(writer: Writer, text: str) -> list[int]:
    return list(writer.tokenizer.encode(text, add_special_tokens=False)) if text else []


def _written(row: Row, tree: Tree, tokens: int) -> Written:
    nodes = tree.rows()
    ends = [node for node in nodes if node["end"]]
    counts = {
        **tree.counts,
        "tokens": tokens,
        "nodes": len(nodes),
        "ends": len(ends),
        "right ends": sum(node["correct"] for node in ends),
        "solved": any(node["correct"] for node in ends),
    }
    kept = {"id": row["id"], "cluster": row["cluster"], "prompt": row["prompt"], "nodes": nodes}
    return Written(kept if nodes else None, counts)


def _measure(facts: dict[str, Any], started: float) -> Callable[[Counter[str]], dict[str, Any]]:
    def measure(counts: Counter[str]) -> dict[str, Any]:
        return {
            "simulations": counts["simulations"],
            "nodes": counts["nodes"],
            "ends": counts["ends"],
            "right_ends": counts["right ends"],
            "solved": counts["solved"],
            "dropped": {
                name: counts[name] for name in ("cut step", "step without text", "cut reply") if counts[name]
            },
            "tokens": counts["tokens"],
            "seconds": round(time.monotonic() - started, 2),
            **facts,
        }

    return measure
