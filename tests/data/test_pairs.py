from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import pairs
from residency.data.settings import PairsSettings
from residency.data.tokenizer import load_tokenizer
from residency.errors import ResidencyError

ROWS = [
    {
        "id": f"p{n}",
        "prompt": f"What is {n}?",
        "chosen": f"It is {n}.",
        "rejected": "No.",
        "aspect": "safe" if n % 4 else "correct",
    }
    for n in range(8)
]


@pytest.fixture
def make_pairs(attempt: Any, base: Path, make_corpus: Any) -> Any:
    def make(rows: list[dict[str, Any]], **settings: Any) -> Path:
        filled = PairsSettings(**{"max_length": 64, **settings})
        parents = {"model": base, "corpus:likes": make_corpus("likes", rows)}
        return pairs.run(attempt("pairs", "pairs", filled.model_dump(), parents))

    return make


def test_pairs_are_kept_as_conversations_and_measured(make_pairs: Any, base: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = make_pairs(ROWS, limit=6)
    found = datasets.load_from_disk(str(made / "pairs"))
    assert found.column_names == ["prompt", "chosen", "rejected"]
    assert found[1] == {
        "prompt": [{"role": "user", "content": "What is 1?"}],
        "chosen": [{"role": "assistant", "content": "It is 1."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    measured, tokenizer = read_manifest(made).measured, load_tokenizer(base)
    lengths = [
        len(tokenizer.apply_chat_template(row["prompt"] + row[side])["input_ids"])
        for row in found
        for side in ("chosen", "rejected")
    ]
    assert (measured["pairs"], measured["aspects"]) == (6, {"correct": 2, "safe": 4})
    assert (measured["tokens"], measured["longest"]) == (sum(lengths), max(lengths))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"chosen": "Same.", "rejected": "Same."}, "pair bad prefers a reply to itself"),
        ({"chosen": " ", "rejected": "No."}, "pair bad has an empty chosen"),
        ({"chosen": "Yes.", "rejected": ""}, "pair bad has an empty rejected"),
        (
            {"chosen": "Yes. " * 40, "rejected": "No."},
            r"1 of 9 pairs are longer than max_length = 64; the longest, bad,",
        ),
    ],
)
def test_pairs_that_teach_nothing_or_do_not_fit(make_pairs: Any, row: dict[str, str], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        make_pairs([*ROWS, {"id": "bad", "prompt": "Why?", **row}])


def test_other_corpora_are_refused(make_pairs: Any) -> None:
    with pytest.raises(ResidencyError, match="corpus likes holds rows of kind text, not preference pairs"):
        make_pairs([{"text": "a"}])
