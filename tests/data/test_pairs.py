from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import pairs
from residency.data.settings import PairsSettings
from residency.data.tokenization.tokenizer import load_tokenizer
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


def test_pairs_become_token_ids_and_are_measured(make_pairs: Any, base: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = make_pairs(ROWS, limit=6)
    found = datasets.load_from_disk(str(made / "pairs"))
    assert found.column_names == ["id", "cluster", "prompt_ids", "chosen_ids", "rejected_ids"]
    measured, tokenizer = read_manifest(made).measured, load_tokenizer(base)
    chat = [{"role": "user", "content": "What is 1?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert (found[1]["id"], found[1]["cluster"], found[1]["prompt_ids"]) == ("p1", "p1", asked)
    for side, said in (("chosen", "It is 1."), ("rejected", "No.")):
        whole = tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": said}])["input_ids"]
        assert asked + found[1][f"{side}_ids"] == whole
        assert tokenizer.convert_tokens_to_ids("<|end|>") in found[1][f"{side}_ids"]
    lengths = [len(row["prompt_ids"]) + len(row[f"{side}_ids"]) for row in found for side in pairs.SIDES]
    assert (measured["pairs"], measured["aspects"]) == (6, {"correct": 2, "safe": 4})
    assert (measured["tokens"], measured["longest"]) == (sum(lengths), max(lengths))
    assert measured["characters"] == {"chosen": len(ROWS[0]["chosen"]), "rejected": len("No.")}


def test_pairs_are_taken_apart_for_kto(make_pairs: Any) -> None:
    datasets = pytest.importorskip("datasets")
    made = make_pairs(ROWS, labelled=True)
    found = datasets.load_from_disk(str(made / "pairs"))
    assert found.column_names == ["id", "cluster", "prompt_ids", "reply_ids", "label"]
    assert found["id"][:4] == ["p0/chosen", "p0/rejected", "p1/chosen", "p1/rejected"]
    assert found["label"][:4] == [True, False, True, False]
    assert read_manifest(made).measured["pairs"] == len(ROWS)


def test_labelled_replies(make_pairs: Any) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": f"r{n}", "prompt": "Why?", "completion": f"Because {n}.", "label": n > 2} for n in range(4)
    ]
    found = datasets.load_from_disk(str((made := make_pairs(rows, labelled=True)) / "pairs"))
    assert found["label"][:] == [False, False, False, True]
    measured = read_manifest(made).measured
    assert (measured["replies"], measured["good"]) == (4, 1)
    with pytest.raises(ResidencyError, match=r"likes holds single replies with a label, not.*Set loss: kto"):
        make_pairs(rows)


def test_an_unfinished_reply_has_no_stop_token(make_pairs: Any, base: Path) -> None:
    datasets = pytest.importorskip("datasets")
    steps = [ROWS[0] | {"unfinished": True}, ROWS[1]]
    found = datasets.load_from_disk(str(make_pairs(steps) / "pairs"))
    stop = load_tokenizer(base).convert_tokens_to_ids("<|end|>")
    assert [stop in row["chosen_ids"] for row in found] == [False, True]


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
