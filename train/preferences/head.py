"""Log-probabilities of tokens from the last hidden states, only where a token carries loss.

A vocabulary is long: the logits of all tokens are often the largest tensor of a step. `dense` makes them, for the
scored tokens only; `chunked` (TRL's kernel) and `cut_cross_entropy` (arXiv 2411.09009) never hold them all and compute
them twice; `liger` (arXiv 2410.10989) holds them once and turns them into their gradient in place. `dense` is the
reference in tests.

The head runs inside the model's own forward, which ZeRO-3's hooks need, and which adapters wrap.
"""

from __future__ import annotations

from importlib.util import find_spec
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor

from residency.errors import ResidencyError

Head = Literal["dense", "chunked", "liger", "cut_cross_entropy"]
LARGE = 2**28
"""Logits (tokens x vocabulary) from which a dense head costs more than computing them twice: 1 GiB in float32."""
CHUNK = 32768
"""Columns of the vocabulary at a time in `chunked`."""


def choose(asked: str, model: Any, tokens: int) -> Head:
    """The head that `engine.head` asks for, or for `auto` the one that fits the largest forward pass.

    Args:
        tokens: most tokens that one forward pass scores; the same number on all ranks.

    Raises:
        ResidencyError: a library that is not installed, or needs a GPU, or an adapter on the head.
    """
    output = causal(model).get_output_embeddings()
    plain = type(output) is torch.nn.Linear  # an adapter on it works only where the module itself is called
    if asked == "auto":
        if not plain or tokens * output.weight.shape[0] < LARGE:
            return "dense"
        return "cut_cross_entropy" if _usable("cut_cross_entropy") and output.bias is None else "chunked"
    package = {"liger": "liger_kernel", "cut_cross_entropy": "cut_cross_entropy"}.get(asked)
    if package and not _usable(package):
        raise ResidencyError(
            f"engine.head = {asked}: {package.replace('_', '-')} is not installed, or there is no GPU",
            cure="Use auto",
        )
    if asked in ("chunked", "cut_cross_entropy") and not plain:
        raise ResidencyError(f"engine.head = {asked}: the head has an adapter", cure="Use dense")
    assert asked in ("dense", "chunked", "liger", "cut_cross_entropy"), asked
    return asked  # type: ignore[return-value]


def causal(model: Any) -> Any:
    """The causal language model inside adapters, if there are any."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _usable(package: str) -> bool:
    return torch.cuda.is_available() and find_spec(package) is not None


def attach(model: Any, head: Head) -> None:
    """Teach a causal language model `model(..., rows=, columns=, targets=)`: log-probabilities `[tokens]`.

    `rows` and `columns` say where the hidden state stands that predicts each of `targets`. Without `targets` the model
    is what it was. Adapters around it stay.

    Raises:
        ResidencyError: a head with a bias under `cut_cross_entropy`, which knows none.
    """
    model = causal(model)
    original = model.forward
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if head == "cut_cross_entropy" and bias is not None:
        raise ResidencyError(
            "engine.head = cut_cross_entropy: this model's head has a bias", cure="Use chunked"
        )

    def forward(self: Any, *args: Any, targets: Tensor | None = None, **inputs: Any) -> Any:
        if targets is None:
            return original(*args, **inputs)
        rows, columns = inputs.pop("rows"), inputs.pop("columns")
        hidden = self.base_model(*args, **inputs | {"use_cache": False}).last_hidden_state[rows, columns]
        return log_probabilities(self, head, hidden, targets)

    model.forward = MethodType(forward, model)


def log_probabilities(model: Any, head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target, float32 `[tokens]`, from hidden states `[tokens, width]`."""
    output, config = model.get_output_embeddings(), model.config.get_text_config()
    scale, cap = _scale(config), getattr(config, "final_logit_softcapping", None)
    if head == "dense":
        logits = output(hidden).float() * scale
        logits = cap * torch.tanh(logits / cap) if cap else logits
        return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if head == "liger":
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction

        logits = output(hidden) * scale
        return -LigerCrossEntropyFunction.apply(  # type: ignore[no-any-return]
            logits, targets, None, -100, 0.0, 0.0, "none", cap
        )[0].float()
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    with maybe_gather_lm_head_ctx(output.weight, output.bias):
        if head == "chunked":
            from trl.kernels import ChunkedLogProbFunction

            return ChunkedLogProbFunction.apply(  # type: ignore[no-any-return]
                hidden, output.weight, output.bias, targets, 1.0, CHUNK, cap, scale, ()
            )[0]
        from cut_cross_entropy import linear_cross_entropy

        nats: Tensor = linear_cross_entropy(
            hidden * scale, output.weight, targets, softcap=cap, reduction="none", filter_eps=None
        )
        return -nats.float()


def _scale(config: Any) -> float:
    """What a model multiplies its logits by, under the name that its family has for it (as TRL reads them)."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling if config.model_type == "hyperclovax" else 1 / scaling)
