"""A faster library is used only where it gives the tokenizer's own ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.data.tokenization import fast_tokenizer
from residency.data.tokenization.fast_tokenizer import Encode, fastest_exact, hugging_face
from residency.data.tokenization.tokenizer import load_tokenizer

TEXTS = [
    "Bile helps to digest fat.",
    "",
    "é ü 漢字 \U0001f600",
    "a <|end|> b<|begin|>",
    "  two\n\n  lines\t",
    "x" * 99,
]


@pytest.fixture
def tokenizer(base: Path) -> Any:
    return load_tokenizer(base)


def ids(encode: Encode, texts: list[str]) -> list[list[int]]:
    flat, lengths = encode(texts)
    assert lengths.sum() == len(flat)
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("name", ["fastokens", "gigatoken"])
def test_ids_are_those_of_the_tokenizer(tokenizer: Any, name: str) -> None:
    pytest.importorskip(name)
    wanted = tokenizer(TEXTS, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids(getattr(fast_tokenizer, name)(tokenizer), TEXTS) == wanted
    assert ids(hugging_face(tokenizer), TEXTS) == wanted


def test_the_fastest_exact_one_is_taken(tokenizer: Any) -> None:
    pytest.importorskip("fastokens")
    assert fastest_exact(tokenizer, TEXTS)[0] == "fastokens"


def test_other_ids_or_an_absent_library_fall_back(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(given: Any) -> Encode:
        own = hugging_face(given)

        def encode(texts: list[str]) -> fast_tokenizer.Flat:
            flat, lengths = own(texts)
            return np.append(flat[:-1], np.uint32(0)), lengths

        return encode

    def absent(given: Any) -> Encode:
        raise ImportError("no module")

    def unknown(given: Any) -> Encode:
        raise ValueError("unsupported model type")

    for first, second in ((wrong, absent), (unknown, wrong)):
        monkeypatch.setattr(fast_tokenizer, "fastokens", first)
        monkeypatch.setattr(fast_tokenizer, "gigatoken", second)
        name, encode = fastest_exact(tokenizer, TEXTS)
        assert name == "tokenizers"
        assert ids(encode, TEXTS) == ids(hugging_face(tokenizer), TEXTS)
