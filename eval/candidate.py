"""The model under evaluation: weights, tokenizer and window, ready to score and to write.

Loaded once and given to every task. An adapter is swapped on the resident base (`swap`), so a series of adapters costs
one load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from residency.artifact import sha256
from residency.errors import ResidencyError
from residency.eval.items import Item, fit
from residency.eval.prompt import Asked, Row, ask
from residency.eval.settings import AskedTask, Scorer
from residency.generation.writer import Writer
from residency.model import base_of, is_prompt, virtual_prompt, with_adapter

if TYPE_CHECKING:
    from residency.eval.likelihood.score import Scored


@dataclass
class Candidate(Writer):
    """A model, its tokenizer, and how many tokens it may read; it scores and writes."""

    _swaps: int = 0

    def swap(self, adapter: Path, *, base: Path | None = None) -> None:
        """Put another adapter on the resident weights, in place of the one there is; its tokenizer comes with it.

        Args:
            adapter: an artifact that holds an adapter, or a checkpoint of one.
            base: the weights that it was trained on; found through its manifest or configuration unless given.

        Raises:
            ResidencyError: it was trained on other weights than these, or they cannot be found to compare.
        """
        import torch
        from peft import PeftModel
        from transformers import AutoTokenizer

        assert self.directory, "a model without files has no weights to compare"
        _refuse_other_base(adapter, base or _base_of_adapter(adapter), base_of(self.directory)[0])
        name = f"swapped_{self._swaps}"
        self._swaps += 1
        if is_prompt(adapter):
            self.model = with_adapter(self.model, adapter)
            window = getattr(self.model.config.get_text_config(), "max_position_embeddings", self.max_length)
            self.max_length = min(self.max_length, window - len(virtual_prompt(self.model)))
        elif isinstance(self.model, PeftModel):
            before = list(self.model.peft_config)
            self.model.load_adapter(str(adapter), adapter_name=name)
            self.model.set_adapter(name)
            for known in before:
                self.model.delete_adapter(known)
        else:
            self.model = PeftModel.from_pretrained(self.model, str(adapter), adapter_name=name)
            if torch.cuda.is_available():
                self.model = self.model.to("cuda")
        self.model.eval()
        if (adapter / "tokenizer_config.json").exists():
            self.tokenizer = AutoTokenizer.from_pretrained(adapter)

    def ask(
        self,
        task: AskedTask,
        row: Row,
        solved: list[Row],
        *,
        template: str,
        scorer: Scorer = "option-text",
        order: int = 0,
    ) -> Item:
        """One row, asked in one way and tokenised, with as many of its solved examples as fit."""

        def asked(kept: int) -> Asked:
            latest = solved[len(solved) - kept :]
            return ask(task, row, self.tokenizer, scorer=scorer, template=template, order=order, shots=latest)

        return fit(task, row, self.tokenizer, self.max_length, len(solved), asked)

    def score(self, items: list[Item]) -> list[list[Scored]]:
        """For each item, the log-likelihood of each of its pieces."""
        from residency.eval.likelihood.score import log_likelihoods

        return log_likelihoods(self.model, [item.pieces for item in items])


def _base_of_adapter(adapter: Path) -> Path:
    base, found = base_of(adapter)
    if found is None:
        raise ResidencyError(f"{adapter} holds no adapter (no adapter_config.json)")
    return base


def _refuse_other_base(adapter: Path, wanted: Path, resident: Path) -> None:
    if wanted.resolve() != resident.resolve() and _weights_digest(wanted) != _weights_digest(resident):
        raise ResidencyError(
            f"{adapter} was trained on {wanted}, whose weights are not those of {resident}",
            cure="Evaluate it by itself: its own base is then loaded",
        )


def _weights_digest(directory: Path) -> list[tuple[str, str]]:
    return [(path.name, sha256(path)) for path in sorted(directory.glob("*.safetensors"))]
