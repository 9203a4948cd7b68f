"""How a training stage is computed: recorded, never hashed (but for precision and clipping). No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from residency.data.settings import Settings

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EngineSettings(Settings):
    """How a training stage is computed: DeepSpeed ZeRO, memory, precision."""

    zero: Literal[0, 1, 2, 3] = 2
    """ZeRO stage: 1 splits the optimizer's state over the ranks, 2 the gradients too, 3 the weights too."""
    processes: Positive | None = None
    """Local ranks; all accelerators of the machine unless given, 1 on a machine without."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory (ZeRO 1-3)."""
    offload_parameters: bool = False
    """Keep the weights in host memory (ZeRO 3)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 on accelerators and float32 on CPU unless given."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    attention: Literal["auto", "eager", "sdpa", "flex_attention", "flash_attention_2"] = "auto"
    """The best that the machine offers unless given; the one used stands in the manifest."""
    head: Literal["auto", "dense", "chunked", "liger", "cut_cross_entropy"] = "auto"
    """How `preference` stages, and no others, compute the log-probabilities of tokens from the last hidden states;
    chosen by size and by what is installed unless given. All give the same numbers; only `dense` and `liger` hold all
    logits at once."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient of one step; 0 does not clip."""
    micro_batch_size: Positive | None = None
    """Rows per rank and forward pass; the whole step at once unless given."""

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> EngineSettings:
        if self.offload_parameters and self.zero != 3:
            raise ValueError("offload_parameters needs zero: 3")
        if self.offload_optimizer and self.zero == 0:
            raise ValueError("offload_optimizer needs zero: 1, 2 or 3")
        return self
