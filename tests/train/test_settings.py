"""Settings that would be accepted and then do nothing are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from residency.train.settings import CptSettings, PreferenceSettings, RewardSettings, RlSettings

CPT: dict[str, Any] = {"kind": "cpt", "mixture": {"texts": 1}, "tokens": 100}
PREFERENCE: dict[str, Any] = {"kind": "preference", "corpus": "pairs"}
REWARD: dict[str, Any] = {"kind": "reward", "corpus": "pairs"}
RL: dict[str, Any] = {
    "kind": "rl",
    "corpus": "questions",
    "rewards": [{"kind": "correct"}],
    "held_out": "others",
}
BLOCKS: dict[str, Any] = {
    "cpt": CptSettings,
    "preference": PreferenceSettings,
    "reward": RewardSettings,
    "rl": RlSettings,
}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (CPT | {"engine": {"head": "liger"}}, "engine.head is of preference stages"),
        (RL | {"engine": {"head": "dense"}}, "engine.head is of preference stages"),
        (CPT | {"guard": {"stop_on": ["kl"]}}, "guard.stop_on: kl shows only in stages of kind rl"),
        (
            REWARD | {"guard": {"stop_on": ["chosen_falls"]}},
            "chosen_falls shows only in stages of kind preference",
        ),
        (
            RL | {"guard": {"stop_on": ["zero_loss"]}},
            "zero_loss shows only in stages of kind pretrain, cpt, sft,",
        ),
        (
            RL | {"kl": 0, "guard": {"stop_on": ["kl"]}},
            "with kl: 0 no divergence from the parent is measured",
        ),
        (
            RL | {"held_out": None, "guard": {"stop_on": ["reward_hacking"]}},
            "reward_hacking shows on held_out prompts",
        ),
        (
            CPT | {"prompt_tuning": {"tokens": 4}, "sensitivity_dropout": {}},
            "sensitivity_dropout looks at the weights, which prompt_tuning does not change",
        ),
        (PREFERENCE | {"loss": "cdpo"}, "without label_smoothing cdpo is dpo"),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        BLOCKS[settings["kind"]].model_validate(settings)


def test_what_does_something_is_taken() -> None:
    signs = ["dead_gradients", "kl", "length", "reward_hacking"]
    assert RlSettings.model_validate(RL | {"guard": {"stop_on": signs}}).guard.stop_on == signs
    both = {"engine": {"head": "dense"}, "guard": {"stop_on": ["chosen_falls", "zero_loss"]}}
    assert PreferenceSettings.model_validate(PREFERENCE | both).engine
