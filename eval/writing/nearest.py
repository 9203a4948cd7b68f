"""Solved examples that are like the question, by the model's own hidden states: no second model is needed.

Source: the nearest-neighbour examples of Medprompt (arXiv:2311.16452), which embeds questions alone. States share a
large common part, so the mean of the examples' is taken off before cosines are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.eval.candidate import Candidate
from residency.eval.items import encode
from residency.eval.prompt import Row
from residency.eval.shots import Shots
from residency.eval.writing.hidden import middle_states


class NearestShots(Shots):
    """Rows by likeness to the question; the nearest stands last, next to it."""

    def __init__(self, candidate: Candidate, among: Shots, questions: list[Row]) -> None:
        super().__init__(among.task, among.count, among.rows)
        texts = list(dict.fromkeys(_text(row) for row in [*among.rows, *questions]))
        states = middle_states(candidate.model, [_ids(candidate, text) for text in texts], "mean")
        places = {text: place for place, text in enumerate(texts)}
        centre = states[[places[_text(row)] for row in among.rows]].mean(axis=0)
        units = _unit(states - centre)
        self._unit: dict[str, NDArray[np.float64]] = {text: units[place] for text, place in places.items()}

    def ranked(self, row: Row) -> list[Row]:
        """All rows that may stand before a question, the nearest first; equally near ones in the file's order."""
        known = super().ranked(row)
        if not known:
            return known
        likeness = np.stack([self._unit[_text(shot)] for shot in known]) @ self._unit[_text(row)]
        return [known[place] for place in np.argsort(-likeness, kind="stable")]

    def arranged(self, found: list[Row]) -> list[Row]:
        return found[::-1]


def _text(row: Row) -> str:
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _ids(candidate: Candidate, text: str) -> list[int]:
    """The question's tokens behind BOS, its end where it is longer than the window."""
    tokenizer: Any = candidate.tokenizer
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = start + encode(tokenizer, text)
    return ids[:1] + ids[1:][-(candidate.max_length - 1) :]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
