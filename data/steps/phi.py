"""Identifiers of patients are replaced by their kind, or their documents dropped, or the chain stopped.

What is looked for are the kinds of HIPAA Safe Harbor (45 CFR 164.514(b)(2)) that a text can hold; how, see
`residency.data.steps.phi_finder`. Names are found after titles and labels, and by a spaCy model where one is given. No
tool finds every identifier: the step's recall by kind stands in `docs/benchmarks.md`. No message, count or log holds
an identifier."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from residency.data.curation.batch import Batch
from residency.data.steps.phi_finder import Finder, Hit
from residency.data.steps.settings import PhiSettings
from residency.errors import Exit, ResidencyError


class Phi:
    """The step; see the module.

    Attributes:
        counts: identifiers found, by kind.

    Raises:
        ResidencyError: `names_model` is not installed.
    """

    def __init__(self, settings: PhiSettings) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        model = settings.names_model
        if model and not Path(model).is_dir() and not (model.isidentifier() and find_spec(model)):
            raise ResidencyError(
                f"names_model = {model}: no such spaCy model is installed",
                cure=f"python -m spacy download {model}",
            )

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self.settings.kinds, self.settings.names_model)

    def __call__(self, batch: Batch) -> list[str | None]:
        """Rewrites rows, or says `phi_<kind>` of each row's first identifier.

        Raises:
            ResidencyError: mode `fail`, and a row holds an identifier.
        """
        if self.settings.mode == "replace":
            batch.rewrite(self._replaced)
            return [None] * len(batch.rows)
        reasons: list[str | None] = []
        for row, text in zip(batch.rows, batch.texts, strict=True):
            hits = self._found(text)
            if hits and self.settings.mode == "fail":
                raise ResidencyError(
                    f"row {row['id']}: an identifier (kind {hits[0].kind}) at character {hits[0].start}",
                    cure="Remove it, or set the mode of the step phi to replace or drop",
                    code=Exit.GATE_REFUSED,
                )
            reasons.append(f"phi_{hits[0].kind}" if hits else None)
        return reasons

    def looked_for(self) -> dict[str, Any]:
        """What was looked for and with what, for the passport."""
        return {
            "kinds": list(self.settings.kinds),
            "names": f"spaCy model {self.settings.names_model}"
            if self.settings.names_model
            else "labels only",
            "mode": self.settings.mode,
            "presidio_analyzer": version("presidio-analyzer"),
        }

    def _found(self, text: str) -> list[Hit]:
        hits = self._finder.find(text)
        self.counts.update(hit.kind for hit in hits)
        return hits

    def _replaced(self, text: str) -> str:
        parts, at = [], 0
        for hit in self._found(text):
            parts += [text[at : hit.start], f"[{hit.kind.upper()}]"]
            at = hit.end
        return "".join([*parts, text[at:]]) if parts else text

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_finder"}
