"""What is trained instead of all weights: low-rank adapters or a prompt. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Settings
from residency.train.settings.engine import Positive, Share


class LoraSettings(Settings):
    """Low-rank adapters instead of full fine-tuning (arXiv 2106.09685)."""

    rank: Positive = 16
    """Rank of the update."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale of the update; it is multiplied by alpha / rank."""
    dora: bool = False
    """Learn the length of each weight's columns apart from their direction (DoRA, arXiv 2402.09353)."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA, arXiv 2312.03732)."""
    quantised: bool = False
    """Hold the frozen weights in 4 bits (QLoRA, arXiv 2305.14314); needs a GPU and bitsandbytes."""
    also_train: list[str] = []
    """Modules that are trained whole beside the adapters, for example `embed_tokens` and `lm_head` after a `vocab`
    stage. Tied ones stay one."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get an adapter."""
    finish: Literal["merge", "keep"]
    """At the end of the stage: merge the adapter into the weights, or keep it beside them. Always said explicitly."""

    @model_validator(mode="after")
    def _has_targets(self) -> LoraSettings:
        if not self.targets:
            raise ValueError("targets names no module: give some, or all-linear")
        return self

    @model_validator(mode="after")
    def _one_kind_of_weights(self) -> LoraSettings:
        if self.dora and self.quantised:
            raise ValueError(
                "dora needs the length of whole weights, quantised has none: keep one of the two"
            )
        return self


class PromptTuningSettings(Settings):
    """A learnt prompt before every document, on a frozen model (arXiv 2104.08691; for clinical text arXiv
    2205.05535)."""

    tokens: Positive = 20
    """Virtual tokens; they count in `max_length`, before every document of a row."""
    text: str | None = None
    """Text whose embeddings the prompt starts from; random ones unless given."""
