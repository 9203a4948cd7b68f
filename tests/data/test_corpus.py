from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import corpus
from residency.data.settings import CorpusSettings, Rejected, Turns
from residency.data.synthesis.contrast import Answered, pairs
from residency.errors import ResidencyError

TEXTS = [{"id": f"d{number}", "text": f"document {number}"} for number in range(400)]


def ids(artifact: Path, part: corpus.Part) -> list[str]:
    return [row["id"] for row in corpus.rows(artifact, part)]


def test_corpus_is_written_measured_and_passported(make_corpus: Any) -> None:
    rows = [*TEXTS[:3], {"id": "blank", "text": " \n"}]
    made = make_corpus("notes", rows, licence="CC-BY-4.0", consent="share-alike")
    manifest = read_manifest(made)
    assert list(corpus.rows(made, "train")) == TEXTS[:3]
    assert corpus.schema_of(made) == "text"
    assert manifest.measured == {
        "schema": "text",
        "documents": 3,
        "held_out_documents": 0,
        "bytes": (made / "train.jsonl").stat().st_size,
        "dropped": {"empty text": 1},
        "curation": [{"step": "read", "documents": 3, "characters": 30}],
    }
    (entry,) = manifest.passport
    assert (entry["corpus"], entry["licence"], entry["consent"], entry["documents"]) == (
        "notes",
        "CC-BY-4.0",
        "share-alike",
        3,
    )
    assert entry["source"].endswith("notes.jsonl")


def test_split_depends_on_seed_and_id_only(make_corpus: Any) -> None:
    whole = make_corpus("whole", TEXTS, hold_out=0.25)
    fewer = make_corpus("fewer", TEXTS[::-2], hold_out=0.25)
    held_out = ids(whole, "held_out")
    assert 60 < len(held_out) < 140
    assert sorted(held_out + ids(whole, "train")) == sorted(row["id"] for row in TEXTS)
    assert set(ids(fewer, "held_out")) == set(held_out) & {row["id"] for row in TEXTS[::-2]}


def test_limit_counts_after_the_split(make_corpus: Any) -> None:
    limited, whole = (
        make_corpus("limited", TEXTS, hold_out=0.25, limit=10),
        make_corpus("whole", TEXTS, hold_out=0.25),
    )
    assert ids(limited, "train") == ids(whole, "train")[:10]
    assert ids(limited, "held_out") == ids(whole, "held_out")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], r"no train rows"),
        ([{"text": ""}], r"no train rows in .* \(dropped: 1 empty text\)"),
        (
            [{"text": "a"}, {"prompt": "p", "options": ["a", "b"], "answer": 0}],
            r"row .*:2 is choice, the first row is text",
        ),
        ([{"id": "r", "text": "half \ud800"}], r"row r: half a surrogate pair"),
    ],
)
def test_corpora_that_cannot_be_used(make_corpus: Any, rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        make_corpus("bad", rows)


def test_rows_that_were_not_held_out(make_corpus: Any) -> None:
    with pytest.raises(ResidencyError, match="has no held_out rows"):
        list(corpus.rows(make_corpus("whole", TEXTS), "held_out"))


def answers(count: int) -> list[Answered]:
    return [
        Answered(
            f"r{number}",
            "abc"[number % 3],
            f"page{number // 2}",
            f"question {number}",
            "x" * (number * number % 97 + 1),
        )
        for number in range(count)
    ]


def test_rejected_answers_are_of_the_same_kind_and_as_long() -> None:
    rows = answers(300)
    by_id = {row.id: row for row in rows}
    made = list(pairs(rows, 0, Counter()))
    assert [pair["id"] for pair in made] == [row.id for row in rows]
    for pair in made:
        chosen = by_id[pair["id"]]
        assert any(
            other.kind == chosen.kind
            and other.answer == pair["rejected"][0]["content"]
            and chosen.differs(other)
            for other in rows
        )
    sizes = {side: sum(len(pair[side][0]["content"]) for pair in made) for side in ("chosen", "rejected")}
    assert abs(sizes["chosen"] / sizes["rejected"] - 1) < 0.02
    assert made == list(pairs(answers(300), 0, Counter()))
    assert made != list(pairs(answers(300), 1, Counter()))


def test_a_row_without_another_answer_is_dropped_and_counted() -> None:
    same = [Answered(f"r{number}", "a", f"p{number}", f"q{number}", "one answer") for number in range(3)]
    alone = Answered("alone", "b", "p", "q", "answer")
    dropped: Counter[str] = Counter()
    assert list(pairs([*same, alone], 0, dropped)) == []
    assert dropped == {"no other answer of the same kind": 4}


def test_pairs_of_one_part_use_answers_of_that_part(make_corpus: Any) -> None:
    rows = [{"id": f"r{i}", "q": f"question {i}", "a": f"answer {i:03d}", "type": "t"} for i in range(200)]
    made = make_corpus(
        "pairs", rows, turns=Turns(user="q", assistant="a"), rejected=Rejected(same="type"), hold_out=0.3
    )
    assert corpus.schema_of(made) == "preference"
    for part in ("train", "held_out"):
        found = list(corpus.rows(made, part))
        chosen = Counter(row["chosen"][0]["content"] for row in found)
        assert chosen == Counter(row["rejected"][0]["content"] for row in found)
    with pytest.raises(ResidencyError, match=r"row r0: no field 'kind'"):
        make_corpus("bad", rows, turns=Turns(user="q", assistant="a"), rejected=Rejected(same="kind"))


@pytest.mark.parametrize(
    ("settings", "schema", "least"),
    [
        (
            {"source": "lavita/MedQuAD", "turns": Turns(user="question", assistant="answer")},
            "messages",
            16_407,
        ),
        ({"source": "openstax/philosophy", "file": "text/train.jsonl"}, "text", 76),
        ({"source": "openstax/anatomy-physiology", "file": "review/test.jsonl"}, "choice", 708),
        ({"source": "cais/mmlu", "file": "*/test.jsonl"}, "choice", 12_531),
        ({"source": "GBaker/MedQA-USMLE-4-options"}, "choice", 1_273),
        ({"source": "openlifescienceai/medmcqa"}, "choice", 4_183),
    ],
)
def test_public_data_sets(
    mirror: Path,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Any,
    settings: dict[str, Any],
    schema: str,
    least: int,
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    filled = CorpusSettings(seed=0, licence="unknown", **settings)
    measured = read_manifest(corpus.run(attempt("corpus-real", "corpus", filled.model_dump(), {}))).measured
    assert (measured["schema"], measured["documents"]) == (schema, least)
    assert not measured["dropped"]


@pytest.mark.parametrize(("kinds", "status"), [(None, "scrubbed"), (["email"], "possible")])
def test_the_passport_says_what_was_scrubbed(make_corpus: Any, kinds: list[str] | None, status: str) -> None:
    step = {"kind": "phi"} | ({"kinds": kinds} if kinds else {})
    rows = [{"id": "n", "text": "Seen today. Write to ann@example.org."}]
    made = make_corpus("notes", rows, phi="possible", steps=[step])
    assert next(corpus.rows(made, "train"))["text"] == "Seen today. Write to [EMAIL]."
    manifest = read_manifest(made)
    assert manifest.passport[0]["phi"] == status
    assert manifest.passport[0]["phi_looked_for"]["names"] == "labels only"
    assert manifest.measured["curation"][1]["counts"] == {"email": 1}


def test_shared_paragraphs_are_not_taken_from_answers(make_corpus: Any) -> None:
    rows = [
        {"id": "d", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    ]
    with pytest.raises(
        ResidencyError, match="corpus d: the step paragraphs is for running text, these rows are messages"
    ):
        make_corpus("d", rows, steps=[{"kind": "paragraphs"}])


def test_text_that_was_not_scrubbed_yet_stays_out_of_what_is_kept_aside(make_corpus: Any) -> None:
    said = "Call Mr. John Smith at once about the result. " + " ".join(f"word{n}" for n in range(30))
    rows = [
        {"id": "a", "text": said},
        {"id": "b", "text": said},
        {"id": "c", "text": "Write to ann@example.org."},
    ]
    steps = [{"kind": "duplicates"}, {"kind": "phi", "mode": "drop"}, {"kind": "duplicates"}]
    made = make_corpus(
        "notes", [*rows, {"id": "d", "text": "The liver makes bile."}], steps=steps, keep_dropped=True
    )
    aside = [json.loads(line) for line in (made / "dropped.jsonl").read_text().splitlines()]
    assert [(row["id"], row["text"]) for row in aside] == [("b", ""), ("a", ""), ("c", "")]


def test_normalise_behind_phi_is_refused(make_corpus: Any) -> None:
    with pytest.raises(ResidencyError, match="corpus n: normalise stands behind phi"):
        make_corpus("n", TEXTS[:2], steps=[{"kind": "phi"}, {"kind": "normalise"}])


def test_a_corpus_that_its_steps_empty(make_corpus: Any) -> None:
    steps = [{"kind": "language", "keep": ["fr"]}, {"kind": "duplicates"}]
    with pytest.raises(ResidencyError, match=r"corpus n: no train rows in .*language_"):
        make_corpus("n", [{"id": "a", "text": "The liver makes bile every day."}], steps=steps)


def test_a_book_in_one_row_is_cut_before_its_headings(make_corpus: Any) -> None:
    text = "# Book\n\n## One\nText ## of\n### Part\none.\n## Two\nMore."
    made = make_corpus("book", [{"id": "b", "text": text}], split_before="## ")
    found = list(corpus.rows(made, "train"))
    assert [row["id"] for row in found] == ["b.1", "b.2", "b.3"]
    assert "".join(row["text"] for row in found) == text
