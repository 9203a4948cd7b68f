"""How the next token is drawn, and when a reply ends."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from residency.errors import Exit, ResidencyError

TAIL_TOKENS = 8  # a stop string that ends now began at most its bytes and so many special tokens ago


@dataclass(frozen=True)
class Settings:
    """How replies are written."""

    max_new_tokens: int
    stop: tuple[str, ...]
    temperature: float
    seed: int


Asked = tuple[list[int], int]
"""A prompt's token ids, and the number of the sample."""


def seed_of(seed: int, prompt: Sequence[int], sample: int) -> int:
    """Seed of one reply: of the run's, the prompt and the number of the sample, whatever else is asked."""
    told = f"{seed} {sample} {' '.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:4])


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string begins, or None."""
    return min((place for place in map(text.find, stop) if place >= 0), default=None)


def decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopStrings(StoppingCriteria):  # type: ignore[misc,unused-ignore]
    """Ends rows whose text holds a stop string. Text is compared, so token boundaries do not matter, and only the last
    tokens are decoded at each step."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_length: int, rows: int) -> None:
        self.tokenizer, self.stop, self.prompt_length = tokenizer, stop, prompt_length
        self.tail = max((len(text.encode()) for text in stop), default=0) + TAIL_TOKENS
        self.ended: list[int | None] = [None] * rows
        """Tokens of each row when it ended."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        written = input_ids[:, self.prompt_length :]
        for row, ids in enumerate(written[:, -self.tail :].tolist()):
            if self.ended[row] is None and first_stop(decoded(self.tokenizer, ids), self.stop) is not None:
                self.ended[row] = written.shape[1]
        return torch.tensor([ended is not None for ended in self.ended], device=input_ids.device)


class Numbers(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    """Refuses a model whose weights have diverged: the likeliest of what is no number would be some token."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise ResidencyError(
                "the model's logits are not numbers: its weights have diverged",
                cure="Lower the learning rate of the stage that trained it",
                code=Exit.DIVERGED,
            )
        return scores


class InverseSampler(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    """Leaves one token of each row: the one at which the cumulated probability passes the row's next random number."""

    def __init__(self, settings: Settings, asked: list[Asked], prompt_length: int, device: Any) -> None:
        self.temperature, self.prompt_length = settings.temperature, prompt_length
        seeds = [seed_of(settings.seed, ids, sample) for ids, sample in asked]
        draws = [
            torch.rand(
                settings.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            for seed in seeds
        ]
        self.draws = torch.stack(draws).to(device)  # [rows, places]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        place = input_ids.shape[1] - self.prompt_length
        below = (scores.double() / self.temperature).softmax(-1).cumsum(-1)  # [rows, vocabulary]
        wanted = self.draws[:, place : place + 1] * below[:, -1:]
        drawn = torch.searchsorted(below, wanted, right=True).clamp(max=below.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)
