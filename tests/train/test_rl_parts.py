"""The ledger and the digest of online reinforcement learning, without ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from residency.train.reinforcement.digest import digest
from residency.train.reinforcement.held_out import generation_seconds, rise
from residency.train.reinforcement.ledger import Ledger


def test_a_digest_is_that_of_the_numbers_in_any_layout() -> None:
    weight = torch.randn(7, 12)
    whole = digest([weight])
    assert digest([weight[:3], weight[3:]]) == digest([weight.T]) == whole
    padded = torch.cat([weight.reshape(-1), torch.zeros(20)])
    assert digest(torch.split(padded, 10)) == whole
    assert 0 <= whole < 1 << 64


def test_a_digest_tells_one_changed_bit_and_another_type() -> None:
    weight = torch.randn(1000)
    changed = weight.clone()
    changed[17] = torch.nextafter(changed[17], torch.tensor(10.0))
    assert digest([changed]) != digest([weight])
    assert digest([weight.bfloat16()]) != digest([weight])
    assert digest([weight, weight[:1]]) != digest([weight])
    assert digest([]) == digest([torch.zeros(5), torch.empty(0)]) == 0


def test_a_ledger_is_cut_back_to_a_step(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.cut(3)
    assert list(ledger.lines()) == []
    ledger.add({"step": step, "id": f"ä{step}"} for step in (1, 1, 2, 3))
    with ledger.path.open("a") as file:
        file.write('{"step": 1, "id"')  # the process was killed here
    ledger.cut(2)
    assert [line["id"] for line in ledger.lines()] == ["ä1", "ä1", "ä2"]
    ledger.add([{"step": 3, "id": "again"}])
    assert [line["step"] for line in ledger.lines()] == [1, 1, 2, 3]


def test_a_rise_is_told_over_clusters() -> None:
    found = rise([0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 2.0], ["a", "a", "b", "c"])
    differences = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)  # a, b, c
    half = 1.959964 * float(differences.std()) / 3**0.5
    assert found["mean"] == pytest.approx(2.5 / 3)
    assert (found["low"], found["high"]) == pytest.approx((2.5 / 3 - half, 2.5 / 3 + half), abs=1e-6)
    assert rise([1.0], [3.0], ["a"]) == {"mean": 2.0, "low": None, "high": None, "clusters": 1}


def test_seconds_of_writing_are_those_of_each_writing() -> None:
    """Logs come at the first step and every ten, replies are written at every second step."""
    logs = [
        {"step": 1, "generation_seconds": 2.0},
        {"step": 10, "generation_seconds": 3.0},
        {"step": 13, "generation_seconds": 4.0},
        {"step": 13, "train_loss": 0.0},
    ]
    assert generation_seconds(logs, [1, 3, 5, 7, 9, 11, 13]) == 2 + 4 * 3 + 2 * 4
