"""Every layout gives the numbers of replies computed alone; which one is exact depends on the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from residency.errors import ResidencyError
from residency.train.preferences import head
from residency.train.preferences.batches import Pairs
from residency.train.preferences.layouts import Item, Layout, cells, choose, laid_out
from residency.train.preferences.objective import sums
from tests.train.preferences.conftest import LENGTHS, llama, rows


def alone(model: Any, row: dict[str, Any]) -> list[float]:
    """Log-probability of each reply, by the plain model."""
    found = []
    for side in ("chosen_ids", "rejected_ids"):
        ids = torch.tensor(row["prompt_ids"] + row[side])
        logits = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        each = logits[:-1].gather(1, ids[1:, None])[len(row["prompt_ids"]) - 1 :]
        found.append(float(each.sum()))
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", ["padded", "packed", "shared"])
def test_replies_are_scored_as_if_alone(pairs_file: Path, layout: Layout, attention: str) -> None:
    model = llama(attention=attention).eval()
    head.attach(model, "dense")
    batch = Pairs(pairs_file).batch(range(len(LENGTHS)), layout, bias=attention == "eager")
    got, tokens = sums(model, batch, len(LENGTHS), 2)
    torch.testing.assert_close(got, torch.tensor([alone(model, row) for row in rows()]), atol=1e-5, rtol=0)
    assert tokens.tolist() == [list(lengths[1:]) for lengths in LENGTHS]


def test_shared_rows_hold_a_prompt_once_and_several_pairs() -> None:
    prompt, short = np.arange(3, 11), np.arange(20, 22)
    items = [
        Item(prompt, [short, short]),
        Item(prompt[:2], [short[:1], short[:1]]),
        Item(prompt[:4], [short, short]),
    ]
    made = laid_out("shared", items)
    assert made["input_ids"].shape == (2, 12)  # 8 + 2 + 2; 4 + 2 + 2 and 2 + 1 + 1
    assert made["position_ids"][0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9]
    seen = made["attention_mask"][0, 0]
    assert seen[10].tolist() == [True] * 8 + [False, False, True, False]
    assert laid_out("padded", items)["input_ids"].shape == (6, 10)


def test_the_cheapest_exact_layout_is_chosen() -> None:
    long = [Item(np.arange(3, 43), [np.arange(3, 8), np.arange(3, 6)])] * 4
    model = llama()
    assert choose("auto", model, [long]) == "shared"
    assert cells("shared", long, 0.0) < cells("packed", long, 0.0) <= cells("padded", long, 0.0)
    model.config._attn_implementation = "flash_attention_2"
    assert choose("auto", model, [long]) != "shared"
    with pytest.raises(ResidencyError, match="layout = shared: flash_attention_2 takes no mask"):
        choose("shared", model, [long])


def test_kto_compares_with_a_reply_to_another_prompt(replies_file: Path) -> None:
    pairs = Pairs(replies_file)
    replies = [item.replies[0].tolist() for item in pairs.items(range(5))]
    strangers = [item.replies[0].tolist() for item in pairs.mismatched(range(5))]
    assert strangers == [replies[-1], *replies[:-1]]
