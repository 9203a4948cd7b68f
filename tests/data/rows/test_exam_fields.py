from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from residency.data.corpus import rows
from residency.data.reading import sources
from residency.data.rows.exam_fields import stem_of
from residency.data.rows.exam_settings import ExamFields
from residency.data.rows.fields import RowError
from residency.data.rows.schema import normalise, recognise
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError

Corpus = Callable[..., Path]


def made(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    exam = ExamFields.model_validate(fields)
    row = {"id": "x", **row}
    return normalise(row, recognise(row, None, exam), None, exam)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"q": "Q", "o": ["a", "b "], "k": 1}, {"question": "q", "options": "o", "answer": "k"}),
        ({"q": "Q", "o": {"B": "b", "A": "a", "C": None}, "k": "B"}, {"question": "q", "options": "o", "answer": "k"}),
        ({"q": "Q", "a1": "a", "a2": "b", "k": 2},
         {"question": "q", "options": ["a1", "a2"], "answer": "k", "counts_from": 1}),
        ({"q": "Q", "c": {"text": ["a", "b"], "label": ["1", "2"]}, "k": "2"},
         {"question": "q", "options": "c.text", "answer": "k", "counts_from": 1}),
        ({"q": {"stem": "Q", "o": [{"t": "a"}, {"t": "b"}]}, "k": "b"},
         {"question": "q.stem", "options": "q.o.t", "answer": "k"}),
        ({"q": "Q", "k": True}, {"question": "q", "choices": ["a", "b"], "answer": "k"}),
    ],
)  # fmt: skip
def test_options_of_every_form(row: dict[str, Any], fields: dict[str, Any]) -> None:
    assert made(row, **fields) == {
        "id": "x",
        "cluster": "x",
        "prompt": "Q",
        "options": ["a", "b"],
        "answer": 1,
    }


@pytest.mark.parametrize(
    ("value", "path", "answers"),
    [
        (7, "a", ["7"]),
        ("bile", "a", ["bile"]),
        ([["bile", "gall"], "pus"], "a", ["bile", "gall", "pus"]),
        ({"text": ["bile"]}, "a.text", ["bile"]),
        ([{"names": ["bile"]}], "a.0.names", ["bile"]),
        ([], "a", []),
    ],
)
def test_reference_answers_of_every_form(value: Any, path: str, answers: list[str]) -> None:
    row = {"q": "Q", "a": value, "c": ["A.", "B."], "subject": 3, "d": {"dose": None}}
    assert made(row, question="q", answers=path, context="c", group="subject", facts={"dose": "d.dose"}) == {
        "id": "x", "cluster": "x", "prompt": "Q", "answers": answers, "context": "A.\nB.", "group": "3",
        "facts": {"dose": None},
    }  # fmt: skip


def test_classes_messages_and_statements_without_answers() -> None:
    row = {"q": [{"role": "user", "content": "Q"}], "label": "yes", "points": [1]}
    classes = {"classes": ["yes", "no"]}
    assert made(row, question="q", answers="label", constants=classes)["facts"] == classes
    assert made(row, question="q", facts={"criteria": "points"}, cluster="stem") == {
        "id": "x", "cluster": stem_of("q"), "prompt": row["q"], "facts": {"criteria": [1]},
    }  # fmt: skip


def test_fields_are_added_to_a_row_that_is_recognised() -> None:
    row = {
        "id": "x",
        "number": 4,
        "question": "Which gland, of all, is largest?",
        "choices": ["a", "b"],
        "answer": 0,
    }
    item = made(row, cluster="stem", group="number", id="number")
    assert (item["id"], item["group"], item["options"]) == ("4", "4", ["a", "b"])
    assert item["cluster"] == stem_of("which GLAND of all is largest") == made(row, cluster="stem")["cluster"]
    with pytest.raises(RowError, match=r"row x is text, not an exam item\. Say which field"):
        made({"text": "a"}, cluster="stem")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, r"row x: no field 'q', for exam's 'q'\. It has id"),
        ({"q": 3}, r"row x: q is 3 \(int\), expected a text"),
        ({"q": "Q", "o": {"b": 1}}, r"row x: no field 'a' in 'o', for exam's 'o\.a'\. It has b"),
        ({"q": "Q", "o": "a"}, r"row x: no field 'a' in 'o', for exam's 'o\.a'\. It is 'a'"),
        (
            {"q": "Q", "o": {"a": ["y"]}, "k": 0},
            r"o\.a is \['y'\] \(list\), expected a list of 2 or more texts",
        ),
        (
            {"q": "Q", "o": {"a": ["y", "n"]}, "k": 2},
            r"k is 2 \(int\), expected 0 to 1, a letter A to B or an option",
        ),
        ({"q": "Q", "o": {"a": ["y", "n"]}, "k": -1}, r"k is -1 \(int\), expected 0 to 1"),
        ({"q": "Q", "o": {"a": ["y", "n"]}, "k": "C"}, r"k is 'C' \(str\), expected 0 to 1"),
        ({"q": "Q", "o": {"a": ["y", "n"]}, "k": None}, r"k is None \(NoneType\), expected 0 to 1"),
    ],
)
def test_wrong_items_are_named(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        made(row, question="q", options="o.a", answer="k")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"options": "o", "answer": "k"}, "exam needs question"),
        ({"question": "q", "options": "o"}, "needs answer, and one of options"),
        ({"question": "q", "answer": "k"}, "needs answer, and one of options"),
        ({"question": "q", "answer": "k", "answers": "l", "options": "o"}, "exclude each other"),
        (
            {"question": "q", "answer": "k", "choices": ["a", "b"], "distractors": {"same": "t"}},
            "exclude each other",
        ),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ExamFields.model_validate(fields)


TAGS = ["O", "B-Chemical", "B-Disease", "I-Disease", "I-Chemical"]


@pytest.mark.parametrize(
    ("type", "answer", "spans"),
    [
        ("Disease", "renal failure; gout", [[0, 13, "Disease"], [28, 32, "Disease"]]),
        ("Chemical", "iron", [[17, 21, "Chemical"]]),
        ("Gene", "none", []),
        (None, "renal failure; iron; gout", [[0, 13, "Disease"], [17, 21, "Chemical"], [28, 32, "Disease"]]),
    ],
)
def test_tagged_sentences_ask_for_their_entities(type: str | None, answer: str, spans: list[Any]) -> None:
    tokens = ["renal", "failure", "by", "iron", ",", "not", "gout"]
    entities = {"tokens": "tokens", "tags": "tags", "names": TAGS, "type": type}
    row = {"tokens": tokens, "tags": [2, 3, 0, "B-Chemical", 0, 0, 3]}
    text = "renal failure by iron , not gout"
    assert made(row, entities=entities) == {
        "id": "x", "cluster": "x", "prompt": text, "answers": [answer], "facts": {"text": text, "spans": spans},
    }  # fmt: skip
    with pytest.raises(RowError, match=r"tags is \[0\] \(list\), expected a list of 7 tags"):
        made({**row, "tags": [0]}, entities=entities)
    with pytest.raises(RowError, match=r"tags is 5 \(int\), expected 0 to 4 or O, B-Chemical"):
        made({**row, "tags": [5] * 7}, entities=entities)


def test_only_some_rows_are_asked_for(make_corpus: Corpus) -> None:
    lines = [
        {"q": f"Q{n}", "k": "A", "c": kind, "n": n} for n, kind in enumerate(("health", "law", "biology"))
    ]
    exam: dict[str, Any] = {"question": "q", "choices": ["a", "b"], "answer": "k"}
    for only, wanted in (({"c": "health"}, ["Q0"]), ({"c": ["law", "biology"], "n": [0, 2]}, ["Q2"])):
        corpus = make_corpus(f"only{len(only)}", lines, exam={**exam, "only": only})
        assert [row["prompt"] for row in rows(corpus, "train")] == wanted
        assert json.loads((corpus / "manifest.json").read_text())["measured"]["dropped"] == {
            "not asked for": 2
        }


TERMS = [
    {"module": "m1", "term": term, "meaning": meaning}
    for term, meaning in (
        ("bile", "fluid of the liver"), ("Gall", "bitter fluid"), ("gall", "the same, again"), ("chyle", "milky lymph"),
        ("lymph", "clear fluid"), ("cell", "what is made of a cell"),
    )
] + [{"module": "m2", "term": "axon", "meaning": "long process"}]  # fmt: skip


def test_wrong_options_are_right_ones_of_the_same_kind(make_corpus: Corpus) -> None:
    exam = {
        "question": "meaning", "answer": "term", "cluster": "term", "distractors": {"same": "module", "count": 3},
    }  # fmt: skip
    corpus = make_corpus("glossary", TERMS, exam=exam)
    found = list(rows(corpus, "train"))
    assert [row["prompt"] for row in found] == [term["meaning"] for term in TERMS[:5]]
    for row, term in zip(found, TERMS, strict=False):
        assert set(row) == {"id", "cluster", "prompt", "options", "answer"}
        assert row["options"][row["answer"]] == term["term"]
        said = [option.casefold() for option in row["options"]]
        assert len(set(said)) == 4 and "axon" not in said
    measured = json.loads((corpus / "manifest.json").read_text())["measured"]
    assert measured["schema"] == "choice" and measured["dropped"] == {
        "too few other answers of the same kind": 1,
        "the question holds its answer": 1,
    }
    again = make_corpus("again", TERMS, exam=exam)
    assert [row["options"] for row in rows(again, "train")] != []
    other = make_corpus("glossary", TERMS, exam=exam, limit=2)
    assert list(rows(other, "train")) == found[:2]


def test_files_by_list_and_pattern_have_ids_of_their_folders(tmp_path: Path) -> None:
    for subject in ("anatomy", "virology", "law"):
        (tmp_path / subject).mkdir()
        for part in ("dev", "test"):
            row = {"question": "Q", "choices": ["a", "b"], "answer": 0, "subject": subject}
            (tmp_path / subject / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    settings: dict[str, Any] = {"source": str(tmp_path), "licence": "MIT"}

    def ids(**file: Any) -> list[str]:
        return [row["id"] for row in sources.read(CorpusSettings(**settings, **file), 0)]

    assert ids(file="*/test*") == ["anatomy:test:1", "law:test:1", "virology:test:1"]
    assert ids(file=["virology/test*", "anatomy/test.jsonl"]) == ["anatomy:test:1", "virology:test:1"]
    with pytest.raises(ResidencyError, match=r"no file latin/test\* in"):
        ids(file=["virology/test*", "latin/test*"])


def test_changed_data_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    each = [hashlib.sha256((tmp_path / f"{name}.jsonl").read_bytes()).hexdigest() for name in ("a", "b")]
    both = hashlib.sha256("".join(f"{one}\n" for one in each).encode()).hexdigest()

    def locate(source: Path, **sha256: str) -> None:
        named = {name.replace("_", "."): digest for name, digest in sha256.items()}
        sources.locate(CorpusSettings(source=str(source), licence="MIT", sha256=named))

    locate(tmp_path, a_jsonl=each[0], b_jsonl=each[1])
    locate(tmp_path / "a.jsonl", a_jsonl=each[0], c_jsonl="0" * 64)
    sources.locate(CorpusSettings(source=str(tmp_path), licence="MIT", sha256={"*.jsonl": both}))
    with pytest.raises(
        ResidencyError, match=rf"b\.jsonl has changed: its sha256 is {each[1]}, not {each[0]}\. Fetch"
    ):
        locate(tmp_path, a_jsonl=each[0], b_jsonl=each[0])
    with pytest.raises(ResidencyError, match=r"a\.jsonl has changed"):
        locate(tmp_path / "a.jsonl", a_jsonl=both)
