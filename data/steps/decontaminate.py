"""Finds documents that hold items of the recipe's evaluation tasks (`residency.data.curation.exam_index`).

Every hit is kept: which item of which task, in which document, and the sentence that matched. Evaluation can so
tell items that were seen in training from clean ones; the documents are dropped or only flagged."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.curation.exam_index import ExamIndex
from residency.data.steps.settings import DecontaminateSettings

SENTENCE = re.compile(r"(?<=[.!?。！？])\s*|\n+")
WORD = re.compile(r"\w+")
LONGEST = 300  # characters of a sentence that are kept


class Decontaminate:
    """The step; see the module.

    Attributes:
        found: hits of the rows seen so far: `task`, `item`, `document`, `coverage`, `sentence`.
        counts: hits by task.
    """

    def __init__(self, settings: DecontaminateSettings, index: Path) -> None:
        self.settings, self.directory = settings, index
        self.found: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()

    @cached_property
    def _index(self) -> ExamIndex:
        return ExamIndex.load(self.directory)

    def __call__(self, batch: Batch) -> list[str | None]:
        """Drops rows that hold an item, or only notes them."""
        reasons: list[str | None] = [None] * len(batch.rows)
        for row, number, coverage in self._index.find(batch, self.settings.coverage):
            item = self._index.items[number]
            self.counts[item["task"]] += 1
            self.found.append(
                {
                    "task": item["task"],
                    "item": item["item"],
                    "document": str(batch.rows[row]["id"]),
                    "coverage": round(coverage, 3),
                    "sentence": matching_sentence(batch.texts[row], item["text"]),
                }
            )
            if self.settings.mode == "drop":
                reasons[row] = f"contaminated_{item['task']}"
        return reasons

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_index"}


def matching_sentence(text: str, item: str) -> str:
    """The sentence of a text that shares most stretches of four words with an item, cut to a readable length."""
    stretches = _stretches(item)
    sentences = [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]
    return max(sentences, key=lambda sentence: len(_stretches(sentence) & stretches), default="")[:LONGEST]


def _stretches(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return set(zip(words, words[1:], words[2:], words[3:], strict=False))
