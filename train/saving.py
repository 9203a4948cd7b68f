"""Weights are saved once: an embedding that is also the output layer is not written a second time.

DeepSpeed and accelerate hand `save_pretrained` copies, in which it no longer sees that two tensors are one.
"""

from __future__ import annotations

from typing import Any


class TiedOnce:
    """Mixed into a Trainer: leaves the second name of a tied tensor out of what is saved."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model: Any = self.model  # type: ignore[attr-defined]
        for name in getattr(model, "all_tied_weights_keys", {}):
            if state_dict is not None:
                state_dict.pop(name, None)
        super()._save(output_dir, state_dict)  # type: ignore[misc]
