"""Weights are saved once: an embedding that is also the output layer is not written a second time.

DeepSpeed and accelerate hand `save_pretrained` copies, in which it no longer sees that two tensors are one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from residency.artifact import write_json


class TiedOnce:
    """Mixed into a Trainer: leaves the second name of a tied tensor out of what is saved."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model: Any = self.model  # type: ignore[attr-defined]
        for name in getattr(model, "all_tied_weights_keys", {}):
            if state_dict is not None:
                state_dict.pop(name, None)
        super()._save(output_dir, state_dict)  # type: ignore[misc]


def note_ends(model: Path, ends: list[int]) -> None:
    """Write tokens that end a reply into the generation settings of a model, beside those that stand there."""
    path = model / "generation_config.json"
    if not ends or not (model / "config.json").exists():  # an adapter has none of its own
        return
    settings = json.loads(path.read_text()) if path.exists() else {}
    known = settings.get("eos_token_id")
    if known is None:
        known = json.loads((model / "config.json").read_text()).get("eos_token_id") or []
    both = dict.fromkeys([*(known if isinstance(known, list) else [known]), *ends])
    write_json(path, {**settings, "eos_token_id": list(both)})
