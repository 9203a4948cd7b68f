from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import prompts
from residency.data.settings import PromptsSettings
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError

Row = dict[str, Any]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


USER = [said("user", "Why?")]
ITEM = {"cluster": "c1", "prompt": "Which organ?", "options": ["liver", " heart "], "answer": 1}


@pytest.fixture
def make_prompts(attempt: Any, base: Path, make_corpus: Any) -> Any:
    def make(rows: list[Row], held_out: list[Row] | None = None, **settings: Any) -> Path:
        parents = {"model": base, "corpus:asked": make_corpus("asked", rows)}
        if held_out:
            parents["corpus:watched"] = make_corpus("watched", held_out)
            settings["held_out"] = "watched"
        filled = PromptsSettings(**{"max_length": 64, **settings})
        return prompts.run(attempt("asked-prompts", "prompts", filled.model_dump(), parents))

    return make


@pytest.mark.parametrize(
    ("row", "asked", "known"),
    [
        (
            {"messages": [*USER, said("assistant", "So."), said("user", "How?"), said("assistant", "Thus.")]},
            [*USER, said("assistant", "So."), said("user", "How?")],
            {"reference": "Thus."},
        ),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, USER, {"reference": "So."}),
        ({"prompt": "Why?", "responses": ["b", "a"], "ranks": [2, 1]}, USER, {"reference": "a"}),
        (
            ITEM,
            [said("user", "Which organ?\nA. liver\nB. heart")],
            {"reference": "heart", "options": ["liver", "heart"], "answer": 1, "cluster": "c1"},
        ),
        (
            {**ITEM, "prompt": USER, "context": "It beats."},
            [said("user", "It beats.\n\nWhy?")],
            {"reference": "heart", "answer": 1},
        ),
        (
            {"question": "How many?", "answers": ["4"]},
            [said("user", "How many?")],
            {"reference": "4", "answers": ["4"], "answer": None, "options": []},
        ),
    ],
    ids=["messages", "preference", "ranked", "exam", "asked exam", "answer"],
)
def test_what_each_kind_of_row_asks(make_prompts: Any, base: Path, row: Row, asked: Any, known: Row) -> None:
    made = make_prompts([row])
    (found,) = prompts.load(made, "train")
    assert found["prompt"] == asked
    assert {key: found[key] for key in known} == known
    rendered = load_tokenizer(base).apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    assert found["prompt_ids"] == rendered
    measured = read_manifest(made).measured
    assert measured["longest"] == measured["tokens"] == len(rendered)
    assert measured["with_answer"] == ("answer" in known)


def test_equal_prompts_and_held_out_ones_are_asked_once(make_prompts: Any) -> None:
    rows = [{**ITEM, "prompt": f"Which {n}?"} for n in (1, 2, 1, 3, 4, 5)]
    made = make_prompts(rows, held_out=[rows[1], rows[1]], limit=3)
    asked = [row["prompt"][0]["content"][:8] for row in prompts.load(made, "train")]
    assert asked == ["Which 1?", "Which 3?", "Which 4?"]
    assert len(prompts.load(made, "held_out")) == 1
    measured = read_manifest(made).measured
    assert (measured["prompts"], measured["held_out"]) == (3, 1)
    assert sum(measured["left_out"].values()) == 3


def test_nothing_is_held_out_unless_asked_for(make_prompts: Any) -> None:
    assert prompts.load(make_prompts([ITEM]), "held_out") == []


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"text": "Only text."}], "corpus asked holds rows of kind text, which ask nothing"),
        ([ITEM, {**ITEM, "prompt": "long " * 80}], "1 of 2 prompts are longer than max_length = 64"),
        (
            [{"context_options": ["He", "She"], "continuation": "sleeps.", "gold": 0}],
            "chooses a beginning, which cannot be asked",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(make_prompts: Any, rows: list[Row], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        make_prompts(rows)
