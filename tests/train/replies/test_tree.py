"""Tree search with a model that writes, whose every token follows from the one before."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from residency.generation.writer import Writer
from residency.train import rewards
from residency.train.settings import TreeSettings
from residency.train.settings.rewards import FormatReward
from residency.train.tree import grow
from tests.generation.conftest import model, tokenizer
from tests.generation.test_generate import speaker

__all__ = ["model", "tokenizer"]
OWN = {"kind": "tree", "corpus": "exam", "temperature": 0.01, "simulations": 4, "branches": 2, "seed": 0}


def test_a_step_begins_as_the_model_would_have_gone_on(tokenizer: Any) -> None:
    """Its tokens are "B", ".", " t", "!": behind a space alone it was never taught how to go on."""
    writer = Writer(speaker(tokenizer, "B. t!"), tokenizer, 128)
    assert len(tokenizer.encode(" t", add_special_tokens=False)) == 1
    row = {"id": "q", "prompt": [], "prompt_ids": [tokenizer.bos_token_id]}
    scorer = rewards.build([FormatReward(kind="format", pattern=r"B\. t!")], {})
    [(tree, _)] = grow(writer, [row], TreeSettings.model_validate(OWN | {"step_end": ". "}), scorer)
    assert [(node["text"], node["value"], node["correct"]) for node in tree.rows()] == [
        ("B. ", 1.0, None),
        ("t!", 1.0, True),
    ]


def test_steps_do_not_end_in_spaces_alone() -> None:
    with pytest.raises(ValidationError, match="step_end holds only spaces"):
        TreeSettings.model_validate(OWN | {"step_end": " "})
