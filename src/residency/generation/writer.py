"""A model ready to write: weights, tokenizer and window, loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from residency.generation.generate import Reply


@dataclass
class Writer:
    """A model, its tokenizer, and how many tokens it may read."""

    model: Any
    tokenizer: Any
    max_length: int
    directory: Path | None = None
    """Where it was loaded from; None for a model made in a test."""

    @classmethod
    def load(
        cls,
        directory: Path,
        max_length: int,
        *,
        tokenizer: Path | None = None,
        precision: str = "auto",
        attention: str = "auto",
    ) -> Self:
        """Load an artifact or a model directory.

        Args:
            tokenizer: directory of the tokenizer, where that is another one.
            precision: as in `residency.model.load`, and so is `attention`.

        Raises:
            ResidencyError: an adapter whose base differs, or weights that cannot be read.
        """
        from residency.model import load, virtual_prompt

        model, made = load(directory, precision=precision, attention=attention, tokenizer=tokenizer)
        model.eval()
        window = getattr(model.config.get_text_config(), "max_position_embeddings", max_length)
        return cls(model, made, min(max_length, window - len(virtual_prompt(model))), directory)

    def write(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[Reply]]:
        """For each tokenised prompt, `samples` replies (`residency.generation.generate.write`)."""
        from residency.generation.generate import write

        return write(
            self,
            prompts,
            max_new_tokens=max_new_tokens,
            stop=stop,
            temperature=temperature,
            samples=samples,
            seed=seed,
        )
