"""What DeepSpeed's loader of universal checkpoints leaves wrong is mended."""

from __future__ import annotations

from pathlib import Path

import torch

from residency.train.reshard import mend


def optimizer() -> torch.optim.AdamW:
    """Two groups, of which only the first decays, after one step."""
    weight, bias = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    made = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    )
    weight.grad, bias.grad = torch.ones(2), torch.ones(2)
    made.step()
    return made


def test_groups_get_their_own_settings_and_states_their_own_step(tmp_path: Path) -> None:
    saved, loaded = optimizer(), optimizer()
    torch.save({"optimizer_state_dict": saved.state_dict()}, tmp_path / "optimizer_state.pt")
    loaded.param_groups[1]["weight_decay"] = 0.1  # as DeepSpeed 0.19 does under ZeRO-3
    one, other = loaded.state.values()
    other["step"] = one["step"]
    mend(loaded, tmp_path / "optimizer_state.pt")
    assert [group["weight_decay"] for group in loaded.param_groups] == [0.1, 0.0]
    loaded.step()
    assert [int(state["step"]) for state in loaded.state.values()] == [2, 2]
