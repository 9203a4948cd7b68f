from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import corpus, replies
from residency.data.curation import parts
from residency.data.settings import RepliesSettings
from residency.data.tokenization.tokenizer import load_tokenizer, template_digest
from residency.errors import ResidencyError

PAIRS = [
    {"id": f"p{n}", "prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No.", "cluster": f"c{n // 2}"}
    for n in range(6)
]  # fmt: skip
RANKED = {"id": "r", "prompt": "Which?", "responses": ["fat", "bile", "blood"], "scores": [0.5, 2.0, 0.5]}
STEPS = {"id": "s", "prompt": "Why?", "steps": ["Bile is made.", "Fat goes."], "values": [1, 0.25]}


@pytest.fixture
def make_replies(attempt: Any, base: Path, make_corpus: Any) -> Any:
    def make(rows: list[Any], others: list[Any] | None = None, **settings: Any) -> Path:
        held_out = None if others is None else "others"
        filled = RepliesSettings(max_length=64, held_out=held_out, **settings)
        parents = {"model": base, "corpus:likes": make_corpus("likes", rows)}
        if others is not None:
            parents["corpus:others"] = make_corpus("others", others)
        return replies.run(attempt("judge-tokens", "replies", filled.model_dump(), parents))

    return make


def said(base: Path, prompt: str, reply: str) -> list[int]:
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    ids: list[int] = load_tokenizer(base).apply_chat_template(chat)["input_ids"]
    return ids


def test_pairs_are_two_ranked_replies(make_replies: Any, base: Path) -> None:
    made = make_replies([*PAIRS, PAIRS[0] | {"id": "m", "prompt": "And?", "margin": 1.5}])
    rows = list(replies.load(made, "train"))
    assert [row["id"] for row in rows] == ["p0", "p1", "p2", "p3", "p4", "p5", "m"]
    assert (rows[1]["cluster"], rows[6]["cluster"], rows[1]["ranks"]) == ("c0", "c0", [1, 2])
    assert (rows[1]["scores"], rows[6]["scores"]) == (None, [1.5, 0.0])
    whole = [rows[1]["prompt_ids"] + ids for ids in rows[1]["replies_ids"]]
    assert whole == [said(base, "What is 1?", "It is 1."), said(base, "What is 1?", "No.")]
    assert replies.load(made, "held_out") == []
    measured = read_manifest(made).measured
    assert (measured["form"], measured["prompts"], measured["judgements"]) == ("ranked", 7, 7)
    assert (measured["held_out"], measured["with_scores"]) == (0, 1)
    assert measured["template_digest"] == template_digest(load_tokenizer(base).chat_template)


def test_a_ranking_keeps_its_replies_and_ties_make_no_pair(make_replies: Any, base: Path) -> None:
    (row,) = replies.load(make_replies([RANKED]), "train")
    assert row["prompt_ids"] + row["replies_ids"][0] == said(base, "Which?", "bile")
    assert (row["ranks"], row["scores"], row["cluster"]) == ([1, 2, 2], [2.0, 0.5, 0.5], "r")
    assert replies.pairs(row["ranks"]) == [(0, 1), (0, 2)]


@pytest.mark.parametrize(
    "row",
    [STEPS, {"prompt": "Why?", "completions": STEPS["steps"], "labels": [True, False]}],
    ids=["steps", "completions"],
)
def test_steps_end_at_their_last_characters(make_replies: Any, base: Path, row: dict[str, Any]) -> None:
    (found,) = replies.load(make_replies([row]), "train")
    tokenizer, (first, second) = load_tokenizer(base), found["ends"]
    assert second == len(found["ids"]) - 1
    assert tokenizer.decode(found["ids"][: first + 1]).endswith("|>Bile is made.")
    assert tokenizer.decode(found["ids"][first + 1 :]) == "\nFat goes."
    assert found["values"] == [float(value) for value in row.get("values") or row["labels"]]
    whole = said(base, "Why?", "Bile is made.\nFat goes.")
    assert whole[: len(found["ids"])] == found["ids"]


def test_held_out_rows_are_those_of_another_corpus_or_of_the_same(
    make_replies: Any, attempt: Any, base: Path, make_corpus: Any
) -> None:
    made = make_replies(PAIRS, [PAIRS[2] | {"id": "h", "rejected": "Never."}])
    assert [row["id"] for row in replies.load(made, "held_out")] == ["h"]
    assert "p2" not in [row["id"] for row in replies.load(made, "train")], "its prompt is held out"
    assert read_manifest(made).measured["left_out"] == {"prompt is held out": 1}
    corpus = make_corpus("split", PAIRS, hold_out=0.5)
    filled = RepliesSettings(max_length=64).model_dump()
    split = replies.run(attempt("own-tokens", "replies", filled, {"model": base, "corpus:split": corpus}))
    parts = [[row["id"] for row in replies.load(split, part)] for part in ("train", "held_out")]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == [row["id"] for row in PAIRS]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"chosen": "Same.", "rejected": "Same."}, "corpus likes: row bad: a reply is preferred to itself"),
        ({"chosen": " ", "rejected": "No."}, "row bad: an empty prompt or reply"),
        ({"chosen": "Yes. " * 40, "rejected": "No."}, "row bad has 1?[0-9]+ tokens .* max_length = 64"),
    ],
)
def test_rows_that_teach_nothing_or_do_not_fit(make_replies: Any, row: Any, complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        make_replies([*PAIRS, {"id": "bad", "prompt": "Why?", **row}])


def test_a_ranking_that_contradicts_itself(make_replies: Any) -> None:
    twice = RANKED | {"responses": ["fat", "bile", "fat"], "scores": [1, 2, 3]}
    with pytest.raises(ResidencyError, match="row r: a reply is preferred to itself"):
        make_replies([twice])
    with pytest.raises(
        ResidencyError, match=r"scores is \[0.5, 2.0, 0.5\].* scores that fall where ranks do"
    ):
        make_replies([RANKED | {"ranks": [1, 2, 3]}])


@pytest.mark.parametrize(
    ("rows", "others", "complaint"),
    [
        ([{"text": "a"}], None, "corpus likes holds rows of kind text, which judge nothing"),
        (PAIRS, [STEPS], "corpus others holds rows of kind steps, corpus likes of kind preference"),
        (PAIRS[:1], PAIRS[:1], r"corpus likes: no row is left to learn from \(1 prompt is held out\)"),
    ],
)
def test_corpora_that_do_not_fit(make_replies: Any, rows: Any, others: Any, complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        make_replies(rows, others)


def test_replies_that_a_stage_ranked_all_alike_are_left_out(
    attempt: Any, base: Path, make_corpus: Any
) -> None:
    draws = make_corpus("draws", [RANKED])
    (row,) = corpus.rows(draws, "train")
    with (draws / "train.jsonl").open("ab") as file:  # a corpus from a file would have dropped it before
        file.write(
            parts.dump(row | {"id": "alike", "prompt": [{"role": "user", "content": "?"}], "ranks": [1] * 3})
        )
    alike = {"no reply is better than another": 1}
    likes = make_corpus("likes", [RANKED | {"prompt": "Other?"}])
    cases: list[tuple[corpus.Part, str | None, dict[str, Path]]] = [
        ("train", None, {"corpus:draws": draws}),
        ("held_out", "draws", {"corpus:likes": likes, "corpus:draws": draws}),
    ]
    for part, held_out, parents in cases:
        settings = RepliesSettings(max_length=64, held_out=held_out).model_dump()
        made = replies.run(attempt(f"{part}-tokens", "replies", settings, {"model": base, **parents}))
        assert [kept["id"] for kept in replies.load(made, part)] == ["r"]
        measured = read_manifest(made).measured
        assert [measured["left_out"], measured["held_out_left_out"]] == (
            [{}, alike] if held_out else [alike, {}]
        )
