from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from residency.data.curation.batch import Batch
from residency.data.curation.observed import Observed, save
from residency.data.curation.words import hash_words
from residency.data.steps.duplicates import Duplicates, signatures
from residency.data.steps.settings import DuplicatesSettings

TEXT = " ".join(f"word{number} of the liver and number{number * 7}" for number in range(60))


def stays(tmp_path: Path, rows: list[dict[str, Any]], parts: int = 1) -> list[int]:
    """Which row stands for each, the rows seen in several parts."""
    step = Duplicates(DuplicatesSettings())
    directories, counts = [], []
    for number, some in enumerate(np.array_split(np.arange(len(rows)), parts)):
        batch = Batch([rows[place] for place in some])
        directories.append(tmp_path / str(number))
        counts.append(len(some))
        save(directories[-1], [step.observe(batch)])
    return [int(number) for number in step.decide(Observed(directories, counts))]


def test_exact_and_near_duplicates_join_the_first(tmp_path: Path) -> None:
    other = " ".join(reversed(TEXT.split()))
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": TEXT},
        {"id": "b", "text": other},
        {"id": "c", "text": TEXT.upper().replace(" ", " - ")},
        {"id": "d", "text": TEXT.replace("word7 ", "another ")},
        {"id": "e", "text": other + " end"},
    ]
    assert stays(tmp_path, rows) == [0, 1, 0, 0, 1]
    assert stays(tmp_path / "parts", rows, parts=3) == [0, 1, 0, 0, 1]


def test_the_held_out_copy_stays(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": TEXT},
        {"id": "b", "text": TEXT, "held_out": True},
        {"id": "c", "text": TEXT},
    ]
    assert stays(tmp_path, rows) == [1, 1, 1]


def test_documents_without_words_and_short_ones(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(place), "text": text} for place, text in enumerate(["?!", "...", "yes", "Yes.", "no"])
    ]
    assert stays(tmp_path, rows) == [0, 1, 2, 2, 4]


def test_half_the_same_words_is_no_duplicate(tmp_path: Path) -> None:
    half = TEXT[: len(TEXT) // 2]
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": half + " x" * 200},
        {"id": "b", "text": half + " y" * 200 + TEXT[::-1]},
    ]
    assert stays(tmp_path, rows) == [0, 1]


def test_answers_of_one_template_are_different_facts(tmp_path: Path) -> None:
    def asked(disease: str) -> dict[str, Any]:
        said = [f"How is {disease} inherited?", f"{TEXT} This condition is inherited from both parents."]
        roles = ("user", "assistant")
        return {
            "id": disease,
            "messages": [{"role": r, "content": c} for r, c in zip(roles, said, strict=True)],
        }

    rows = [asked("albinism"), asked("alkaptonuria"), asked("Albinism")]
    assert stays(tmp_path, rows) == [0, 1, 0]


def test_signatures_estimate_the_jaccard_index() -> None:
    words = [f"w{number}" for number in range(3000)]
    texts = [" ".join(words[:2000]), " ".join(words[500:2500])]
    grams = hash_words(texts).ngrams(5)
    one, other = (set(grams.of(text).tolist()) for text in (0, 1))
    exact = len(one & other) / len(one | other)
    found = signatures(grams, 2048)
    assert abs(float((found[0] == found[1]).mean()) - exact) < 0.05


def test_apply_drops_all_but_the_one_that_stays() -> None:
    batch = Batch([{"id": "b", "text": ""}, {"id": "c", "text": ""}], np.array([1, 2]))
    step = Duplicates(DuplicatesSettings())
    assert step.apply(batch, np.array([0, 0, 2])) == ["duplicate", None]


def test_clusters_are_counted_by_size() -> None:
    step = Duplicates(DuplicatesSettings())
    assert step.counts_of(np.array([0, 0, 2, 3, 3, 3, 6, 6])) == {"clusters_of_2": 2, "clusters_of_3": 1}
    assert step.counts_of(np.array([0, 1, 2])) == step.counts_of(np.zeros(0, dtype=np.int64)) == {}


def test_nothing_is_left_to_compare() -> None:
    assert len(Duplicates(DuplicatesSettings()).decide(Observed([], []))) == 0
