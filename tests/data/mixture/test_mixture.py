"""Shares, sampling, replay, limits and order of a mixture, from its YAML to the receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from residency.artifact import read_manifest
from residency.data import tokens
from residency.data.mixture.settings import MixtureSettings
from residency.data.mixture.shares import unimax
from residency.data.settings import TokensSettings
from residency.errors import ResidencyError

SMALL = [{"id": f"s{n}", "text": f"Bile {n} helps to digest fat."} for n in range(40)]
LARGE = [{"id": f"l{n}", "text": f"A kidney filters blood {n}. " * (1 + n % 5)} for n in range(160)]
GENERAL = [{"id": f"g{n}", "text": f"The blood returns clean, {n} times."} for n in range(80)]


@pytest.fixture
def receipt(attempt: Any, base: Path, make_corpus: Any) -> Any:
    """Runs the tokens stage on the three corpora and gives what the manifest measured."""
    corpora = {
        name: make_corpus(name, rows)
        for name, rows in (("small", SMALL), ("large", LARGE), ("general", GENERAL))
    }

    def run(mixture: dict[str, Any], **settings: Any) -> dict[str, Any]:
        filled = TokensSettings.model_validate({"mixture": mixture, "max_length": 64, **settings})
        parents = {f"corpus:{name}": corpora[name] for name in filled.mixture.names}
        made = tokens.run(attempt("tokens", "tokens", filled.model_dump(), {"model": base, **parents}))
        return {**read_manifest(made).measured, "path": made}

    return run


def parts(measured: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: part[key] for name, part in measured["mixture"].items()}


@pytest.mark.parametrize(
    ("mixture", "complaint"),
    [
        ({"a": 0.5, "b": 0.4}, "the shares sum to 0.9, not to 1"),
        ({"a": 1.0, "b": 1.0}, "the shares sum to 2, not to 1"),
        ({"a": 1.5, "b": -0.5}, "greater than 0"),
        ({}, "the shares sum to 0, not to 1"),
        ({"order": "length"}, "give one of shares, corpora (with sampling) and epochs"),
        ({"shares": {"a": 1.0}, "corpora": ["a"]}, "give one of shares"),
        ({"shares": {"a": 1.0}, "replay": {"a": 0.1}}, "a corpus stands twice among a, a"),
        ({"shares": {"a": 1.0}, "replay": {"b": 1.0}}, "replay takes 1 of the tokens"),
        ({"shares": {"a": 1.0}, "max_epochs": {"b": 4.0}}, "max_epochs names b"),
        ({"shares": {"a": 1.0}, "sampling": "unimax", "max_epochs": 1.0}, "sampling needs corpora"),
        ({"corpora": ["a"], "sampling": "unimax"}, "unimax needs max_epochs"),
        ({"epochs": {"a": 2.0}, "max_epochs": 4.0}, "keep one of the two"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(mixture: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TokensSettings.model_validate({"mixture": mixture, "max_length": 8})
    assert complaint in str(caught.value)


def test_the_short_form_is_that_of_shares() -> None:
    short, long = (
        TokensSettings.model_validate({"mixture": mixture, "max_length": 8})
        for mixture in ({"order": 0.25, "b": 0.75}, {"shares": {"order": 0.25, "b": 0.75}})
    )
    assert short == long == TokensSettings.model_validate(short.model_dump())
    assert short.mixture.names == ["order", "b"]


def test_replay_takes_its_share_of_all_and_the_others_share_the_rest(receipt: Any) -> None:
    measured = receipt({"shares": {"small": 0.5, "large": 0.5}, "replay": {"general": 0.1}}, tokens=4000)
    assert parts(measured, "tokens") == {"small": 1800, "large": 1800, "general": 400}


def test_sampling_follows_the_sizes(receipt: Any) -> None:
    whole = receipt({"epochs": {"small": 1.0, "large": 1.0}})
    size = parts(whole, "tokens")
    assert parts(whole, "epochs") == {"small": 1.0, "large": 1.0}
    proportional = receipt({"corpora": ["small", "large"]}, tokens=2000)
    assert parts(proportional, "realised")["small"] == pytest.approx(
        size["small"] / whole["tokens"], abs=1e-3
    )
    heated = receipt({"corpora": ["small", "large"], "sampling": {"temperature": 2.0}}, tokens=2000)
    roots = {name: tokens**0.5 for name, tokens in size.items()}
    assert parts(heated, "realised")["small"] == pytest.approx(roots["small"] / sum(roots.values()), abs=1e-3)


def test_passes_of_each_corpus_make_the_budget(receipt: Any) -> None:
    measured = receipt({"epochs": {"small": 3.0, "large": 0.5}, "replay": {"general": 0.2}})
    assert parts(measured, "epochs")["small"] == 3.0
    assert parts(measured, "documents")["small"] == len(SMALL)
    assert parts(measured, "realised")["general"] == pytest.approx(0.2, abs=1e-3)


def test_unimax_is_even_up_to_the_limits(receipt: Any) -> None:
    assert unimax({"a": 10, "b": 100, "c": 1000}, 90) == {"a": 10, "b": 40, "c": 40}
    assert unimax({"a": 10, "b": 100, "c": 1000}, 300) == {"a": 10, "b": 100, "c": 190}
    size = parts(receipt({"epochs": {"small": 1.0, "large": 1.0}}), "tokens")
    budget = 3 * size["small"] + 100
    mixture = {"corpora": ["small", "large"], "sampling": "unimax", "max_epochs": 1.0}
    taken = parts(receipt(mixture, tokens=budget), "tokens")
    assert taken == {"small": size["small"], "large": budget - size["small"]}


def test_a_budget_beyond_the_allowed_epochs_is_refused_with_the_largest(receipt: Any) -> None:
    size = parts(receipt({"epochs": {"small": 1.0, "large": 1.0}}), "tokens")
    largest = 4 * size["small"]
    mixture = {"shares": {"small": 0.5, "large": 0.5}, "max_epochs": {"small": 2.0}}
    complaint = (
        rf"small holds {size['small']:,} tokens, {2 * size['small']:,} in 2 epochs, .* budget is {largest} "
    )
    with pytest.raises(ResidencyError, match=complaint):
        receipt(mixture, tokens=largest + 4)
    assert receipt(mixture, tokens=largest)["tokens"] == largest


@pytest.mark.parametrize(
    "mixture",
    [
        {"small": 0.5, "large": 0.3, "general": 0.2},
        {"corpora": ["small", "large"], "replay": {"general": 0.3}},
    ],
)
def test_text_meets_its_plan_to_the_token(receipt: Any, mixture: dict[str, Any]) -> None:
    measured = receipt(mixture, tokens=1001)
    assert measured["tokens"] == pytest.approx(1001, abs=1)
    for part in measured["mixture"].values():
        assert part["realised"] == pytest.approx(part["planned"], abs=1e-6)


def test_order_by_difficulty_needs_one(receipt: Any) -> None:
    with pytest.raises(
        ResidencyError, match=r"order difficulty: 40 of 40 documents of small have no difficulty"
    ):
        receipt({"epochs": {"small": 1.0}, "order": "difficulty"})


def test_short_documents_come_first_and_nothing_is_lost(receipt: Any) -> None:
    shuffled, sorted_ = (
        receipt({"epochs": {"large": 3.0}, "order": order}, max_length=128)
        for order in ("shuffled", "length")
    )
    assert sorted_["tokens"] == shuffled["tokens"]
    assert sorted_["loss_tokens"] == shuffled["loss_tokens"]
    path = sorted_["path"]
    segments, rows = np.load(path / "segments.npy"), np.load(path / "rows.npy")
    lengths = (segments[:, 1] - segments[:, 0]).astype(float)
    mean = np.add.reduceat(lengths, rows[:-1]) / np.diff(rows)
    a_pass = len(mean) // 3
    assert mean[: a_pass // 4].mean() < mean[3 * a_pass // 4 : a_pass].mean() / 2
    assert len(np.load(path / "windows.npy")) == len(rows)
    assert len(np.load(shuffled["path"] / "windows.npy")) == 4


def test_a_long_dialogue_is_cut_only_when_told_and_counted(
    attempt: Any, base: Path, make_corpus: Any
) -> None:
    def said(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Bile?"}, {"role": "assistant", "content": answer}]

    rows = [{"id": "long", "messages": said("It helps to digest fat. " * 9)}]
    rows += [{"id": f"d{n}", "messages": said("Fat.")} for n in range(3)]
    chat = make_corpus("chat", rows)
    filled = TokensSettings.model_validate(
        {"mixture": {"chat": 1}, "epochs": 1.0, "max_length": 24, "truncate": True}
    )
    made = tokens.run(attempt("tokens", "tokens", filled.model_dump(), {"model": base, "corpus:chat": chat}))
    measured = read_manifest(made).measured
    part = measured["mixture"]["chat"]
    assert measured["truncated_dialogues"] == part["truncated"] == 1
    assert part["truncated_tokens"] == measured["longest_document"] - 24 > 0


def test_settings_say_names_and_limits() -> None:
    mixture = MixtureSettings(corpora=["a", "b"], replay={"c": 0.1}, max_epochs={"a": 4.0})
    assert mixture.names == ["a", "b", "c"]
    assert [mixture.limit(name) for name in mixture.names] == [4.0, None, None]
    assert MixtureSettings(corpora=["a"], max_epochs=2.0).limit("a") == 2.0
