"""From timings to figures: rates, ratios, and the share of what the machine's matrix products reach.

FLOPs of a trained token, forward and backward: `6 N + 6 L d s`. N counts the weights of all linear layers, the language
model head among them and the input embedding not; L d are the layers' attention widths; s is the mean length that a
token attends over within its own document (sum of squares over sum, halved by causality: 12 becomes 6). The other
convention, common in reports, counts `12 L d T` with T the row length, documents or not (PaLM, arXiv 2204.02311,
appendix B). Both are divided by a matrix product measured in the same job, not by a data sheet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.turns import Timing

MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """One printed number, with the least that it shall be, or the most."""

    name: str
    value: float
    goal: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        least = f" goal >={self.goal:g}" if self.goal is not None else ""
        most = f" goal <={self.at_most:g}" if self.at_most is not None else ""
        return f"figure {self.name} {self.value:.5g}{least}{most}"


@dataclass(frozen=True)
class Result:
    """What one arm measured: per timing over all ranks, and of its whole corpus."""

    timings: list[Timing]
    kept: float
    lengths: NDArray[np.int64]
    loss: float
    model: Any

    @property
    def rate(self) -> float:
        """Median tokens with loss per second."""
        return median(timing.loss_tokens / timing.seconds for timing in self.timings)

    @property
    def token_rate(self) -> float:
        """Median tokens per second, with loss or without, padding not counted."""
        return median(timing.tokens / timing.seconds for timing in self.timings)


def flops_per_token(model: Any, lengths: NDArray[np.int64], max_length: int) -> tuple[float, float]:
    """FLOPs of a trained token: within documents and causal, and as `12 L d T`."""
    import torch

    config = model.config
    weights = sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear))
    width = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    span = float((lengths.astype(np.float64) ** 2).sum() / lengths.sum())
    return 6 * weights + 6 * width * span, 6 * weights + 12 * width * max_length


def matmul_speed(dtype: Any, device: Any) -> float:
    """Best FLOP/s of a few square matrix products on this rank."""
    import torch

    side = 8192 if torch.cuda.is_available() else 1536
    one, other = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(one, other)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds))


def subject_figures(
    subject: str, results: dict[str, Result], ceiling: float, max_length: int
) -> list[Figure]:
    """All figures of one subject (`cpt` or `sft`).

    A ratio per step token compares tokens with loss per second of training. Per corpus token kept, each side's rate
    counts only as far as its data still hold the corpus: what was cut off is never learnt, however fast.
    """
    ours, packed, padded = results["ours"], results["trl_packed"], results["trl_padded"]
    figures = [
        Figure("step_token_ratio_to_trl_packed", ours.rate / packed.rate, 0.97),
        Figure("corpus_token_ratio_to_trl_packed", ours.rate * ours.kept / (packed.rate * packed.kept), 1.0),
        Figure("step_token_ratio_to_trl_padded", ours.rate / padded.rate, 1.5),
    ]
    for name, result in results.items():
        own, common = flops_per_token(result.model, result.lengths, max_length)
        figures += [
            Figure(f"{name}_loss_tokens_per_second", result.rate),
            Figure(f"{name}_tokens_per_second", result.token_rate),
            Figure(f"{name}_corpus_kept", result.kept),
            Figure(f"{name}_mfu_of_ceiling", result.token_rate * own / ceiling),
            Figure(f"{name}_mfu_of_ceiling_12LdT", result.token_rate * common / ceiling),
            Figure(f"{name}_peak_memory_mib", max(timing.peak_bytes for timing in result.timings) / MIB),
            Figure(f"{name}_loss", result.loss),
        ]
    return [Figure(f"{subject}_{figure.name}", figure.value, figure.goal) for figure in figures]
