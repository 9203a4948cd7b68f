"""The model under evaluation: weights, tokenizer and window, ready to score and to write.

Loaded once and given to every task. An adapter is swapped on the resident base (`swap`), so a series of adapters costs
one load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.eval.items import Item

if TYPE_CHECKING:
    from residency.eval.score import Scored


@dataclass
class Candidate:
    """A model, its tokenizer, and how many tokens it may read."""

    model: Any
    tokenizer: Any
    max_length: int
    directory: Path | None = None
    """Where it was loaded from; None for a model made in a test."""

    @classmethod
    def load(cls, directory: Path, max_length: int) -> Candidate:
        """Load an artifact or a model directory.

        Raises:
            ResidencyError: an adapter whose base differs, or weights that cannot be read.
        """
        from residency.model import load

        model, tokenizer = load(directory)
        model.eval()
        window = getattr(model.config.get_text_config(), "max_position_embeddings", max_length)
        return cls(model, tokenizer, min(max_length, window), directory)

    def score(self, items: list[Item]) -> list[list[Scored]]:
        """For each item, the log-likelihood of each of its pieces."""
        from residency.eval.score import log_likelihoods

        return log_likelihoods(self.model, [item.pieces for item in items])
