"""Answers read from replies written by hand: a table per kind of answer, with what a careful reader takes from each."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
from ruamel.yaml import YAML

from residency.answers import Extracted, Rate, choice, final_text, items, number, rates, yes_no_maybe

TABLES = Path(__file__).parent / "answers"
STATUSES = ("invalid", "refused", "truncated")


def rows(*names: str) -> list[Any]:
    """One parameter per reply: the reply, its group, what is expected."""
    found = []
    for name in names:
        table = YAML(typ="safe").load(TABLES / f"{name}.yaml")
        for group in table["groups"]:
            group["shown"] = table.get("options", {}).get(group.get("options"), [])
            found += [
                pytest.param(
                    reply, group, expected, id=f"{name}-{group['kind']}-{reply[:40]}".replace("\n", " ")
                )
                for reply, expected in group["replies"].items()
            ]
    return found


@pytest.mark.parametrize(
    ("reply", "group", "expected"), rows("choice", "choice_languages", "choice_second_round")
)
def test_choice(reply: str, group: dict[str, Any], expected: str) -> None:
    found = choice(reply, group["shown"], truncated=group.get("truncated", False))
    said = ascii_uppercase[found.value] if found.value is not None else found.status
    assert said == expected, found


@pytest.mark.parametrize(("reply", "group", "expected"), rows("number"))
def test_number(reply: str, group: dict[str, Any], expected: str | float) -> None:
    found = number(reply, truncated=group.get("truncated", False))
    if isinstance(expected, str):
        assert (found.status, found.value) == (expected, None)
    else:
        assert (found.status, found.value) == ("answered", Decimal(str(expected))), found


@pytest.mark.parametrize(("reply", "group", "expected"), rows("yes_no_maybe"))
def test_yes_no_maybe(reply: str, group: dict[str, Any], expected: str) -> None:
    words = group.get("words", ["yes", "no", "maybe"])
    found = yes_no_maybe(reply, words, truncated=group.get("truncated", False))
    assert (found.value or found.status) == expected, found


@pytest.mark.parametrize(("reply", "group", "expected"), rows("items"))
def test_items(reply: str, group: dict[str, Any], expected: str | list[str]) -> None:
    found = items(reply, truncated=group.get("truncated", False))
    assert (found.status if isinstance(expected, str) else found.value) == expected, found


@pytest.mark.parametrize(("reply", "group", "expected"), rows("final_text"))
def test_final_text(reply: str, group: dict[str, Any], expected: str) -> None:
    found = final_text(reply)
    assert (found.status if expected in STATUSES else found.value) == expected, found


def test_text_cut_off_is_kept() -> None:
    assert final_text("Take it with", truncated=True) == Extracted("truncated", "Take it with", "whole reply")


def test_rates_name_every_status() -> None:
    assert rates(["answered", "answered", "refused", "invalid"]) == {
        "answered": Rate(2, 0.5),
        "invalid": Rate(1, 0.25),
        "refused": Rate(1, 0.25),
        "truncated": Rate(0, 0.0),
    }
    assert rates([])["answered"] == Rate(0, 0.0)
