"""Whether a prompt and what is written behind it fit the window of the model that writes, and of one that scores it.

Asked by `residency check` with the longest prompt that is allowed, and by the hand-off contract with the longest that
there is. No torch here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residency.artifact import StageFile
from residency.errors import ResidencyError
from residency.model import base_of

WRITTEN = {"rl": ("max_new_tokens",), "sample": ("max_new_tokens",), "tree": ("depth", "max_step_tokens")}
"""Kind of a stage to the settings whose product is the longest text behind a prompt."""


def reply_tokens(kind: str, settings: dict[str, Any]) -> tuple[int, str]:
    """Most tokens that follow a prompt, and the settings that say so."""
    keys = WRITTEN[kind]
    return math.prod(settings[key] for key in keys), " * ".join(keys)


def window_of(model: Path) -> int | None:
    """Tokens that a model reads, without those of its learnt prompt; None where its configuration names no limit."""
    base, adapter = base_of(model)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    window = (config | (config.get("text_config") or {})).get("max_position_embeddings")
    if window is None:
        return None
    left = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")) if adapter else {}
    return int(window) - (left.get("num_virtual_tokens") or 0)


def check_room(
    name: str,
    kind: str,
    settings: dict[str, Any],
    longest: tuple[str, int],
    window: int | None,
    reader: str = "the model",
) -> int:
    """Tokens of the longest prompt and of what is written behind it; they fit the window.

    Args:
        name: of the stage in the recipe.
        longest: what the longest prompt is called, and its tokens.
        reader: whose window it is.

    Raises:
        ResidencyError: they do not fit.
    """
    (said, prompt), (new, told) = longest, reply_tokens(kind, settings)
    if window and prompt + new > window:
        lower = f"Set {told} to {window - prompt} or less, or lower max_length"
        raise ResidencyError(
            f"stages.{name}: {said} = {prompt} and {told} = {new} are more than the {window} tokens that {reader} "
            "reads",
            cure=lower if window > prompt else f"Lower max_length, which leaves no room for {told}",
        )
    return prompt + new


def fit_prompts(stage: StageFile, prompts: Sequence[list[int]]) -> int:
    """Tokens of the longest prompt and of what is written behind it; they fit the model's window.

    Raises:
        ResidencyError: they do not.
    """
    longest = ("the longest prompt", max(map(len, prompts)))
    return check_room(stage.name, stage.kind, stage.settings, longest, window_of(stage.parents["model"]))
