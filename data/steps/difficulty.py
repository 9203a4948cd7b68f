"""Writes how hard each document is, for a mixture that is ordered by it (`order: difficulty` or `curriculum`).

Hard is what a small model of plain text finds surprising (perplexity, in nats a word), or what a function of the
user's says, for example one that asks a model: labels of a model's judgement served better than people's in the
study of human-inspired orders (arXiv:2408.07888)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import open_model
from residency.data.steps.settings import DifficultySettings
from residency.data.synthesis.user_function import OnText
from residency.errors import ResidencyError


class Difficulty:
    """The step; see the module.

    Args:
        model: file of the model of the corpus `like`; None with a function.
    """

    def __init__(self, settings: DifficultySettings, model: Path | None = None) -> None:
        assert (model is None) == (settings.like is None), settings
        self.settings, self.model = settings, model
        self.judge = OnText(settings.call or "")

    def __call__(self, batch: Batch) -> list[str | None]:
        """Write each row's `difficulty`; drops nothing.

        Raises:
            ResidencyError: the function gives something that is no number.
        """
        if self.model is not None:
            judged = open_model(self.model).score(batch).tolist()
        else:
            judged = [self._number(row, text) for row, text in zip(batch.rows, batch.texts, strict=True)]
        batch.rows = [
            {**row, "difficulty": round(value, 4)} for row, value in zip(batch.rows, judged, strict=True)
        ]
        return [None] * len(batch.rows)

    def _number(self, row: dict[str, Any], text: str) -> float:
        value = self.judge(str(row["id"]), text)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ResidencyError(
                f"{self.settings.call}: returned no number for row {row['id']}", cure="Return a finite number"
            )
        return float(value)
