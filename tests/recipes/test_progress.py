"""What the display says of a finished stage."""

from __future__ import annotations

from residency.recipes.progress import _learnt


def test_a_stage_is_judged_by_its_own_number() -> None:
    assert _learnt("sft", {"loss": 0.2804}) == "loss  0.280"
    assert (
        _learnt("reward", {"loss": 0.6936, "held_out_accuracy": 0.63})
        == "loss  0.694, held-out accuracy 0.630"
    )
    rewarded = {"loss": 0.0, "reward_first": 0.25, "reward_last": 0.875, "kl_last": 0.3}
    assert _learnt("rl", rewarded) == "reward 0.250 to 0.875, KL 0.300"
    assert _learnt("rl", rewarded | {"kl_last": None}) == "reward 0.250 to 0.875"
