"""What DeepSpeed's loader of universal checkpoints leaves wrong is mended."""

from __future__ import annotations

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


def test_groups_get_their_own_decay_and_states_their_own_step() -> None:
    loaded = optimizer()
    loaded.param_groups[1]["weight_decay"] = 0.1  # as DeepSpeed 0.19 does under ZeRO-3
    one, other = loaded.state.values()
    other["step"] = one["step"]
    mend(loaded, [0.1, 0.0])
    assert [group["weight_decay"] for group in loaded.param_groups] == [0.1, 0.0]
    loaded.step()
    assert [int(state["step"]) for state in loaded.state.values()] == [2, 2]
