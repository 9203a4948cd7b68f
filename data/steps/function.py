"""A function of the user's as a step, for example a filter of unsafe advice or a classifier of one's own.

`call: my_filters:unsafe_advice` imports `unsafe_advice(text: str) -> str | None` from `my_filters.py`, which must be
importable where the recipe is run (the current directory is)."""

from __future__ import annotations

import re

from residency.data.curation.batch import Batch
from residency.data.steps.settings import FunctionSettings
from residency.data.synthesis.user_function import OnText
from residency.errors import ResidencyError

REASON = re.compile(r"[a-z0-9_]{1,60}")  # it is counted by name: a text must never stand there


class Function:
    """The step; see the module."""

    def __init__(self, settings: FunctionSettings) -> None:
        self.settings, self.judge = settings, OnText(settings.call)

    def __call__(self, batch: Batch) -> list[str | None]:
        """What the function says of each row.

        Raises:
            ResidencyError: it returns something that is no reason, or raises an error itself.
        """
        return [self._reason(str(row["id"]), text) for row, text in zip(batch.rows, batch.texts, strict=True)]

    def _reason(self, id: str, text: str) -> str | None:
        reason = self.judge(id, text)
        if reason is not None and not (isinstance(reason, str) and REASON.fullmatch(reason)):
            raise ResidencyError(
                f"{self.settings.call}: returned a {type(reason).__name__} that is no reason for row {id}",
                cure="Return None, or a short name such as unsafe_advice",
            )
        return reason
