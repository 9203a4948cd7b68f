"""Two models on hand-made records: alignment, values, tests, floors, wordings, validity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.artifact import Manifest, write_json
from residency.errors import ResidencyError
from residency.eval.comparison import details
from residency.eval.comparison.columns import Artifact, read
from residency.eval.comparison.compare import compare
from residency.eval.metrics import statistics, value
from residency.eval.records import SCHEMA, Record, value_of, write_records
from residency.eval.statistics import mcnemar_midp

KINDS = ["yes", "no"]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes records as an artifact; `tasks` are the settings of its evaluation."""

    def write(name: str, records: list[Record], *tasks: dict[str, Any], **parents: str) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        write_records(directory, records)
        manifest = Manifest(
            kind="records",
            stage=name,
            stage_kind="evaluate",
            identity="0" * 64,
            parents=parents,
            parent_paths={"model": f"../{name}-model"},
            settings={"tasks": list(tasks)},
        )
        write_json(directory / "manifest.json", manifest.model_dump())
        return directory

    return write


def row(task: str, id: str, correct: float = 0.0, **fields: Any) -> Record:
    known = {"task": task, "id": id, "cluster": id, "metric": "accuracy", "main": True, "correct": correct}
    return dict.fromkeys(SCHEMA) | known | {"cut_tokens": 0} | fields


def answered(task: str, right: str, **fields: Any) -> list[Record]:
    return [row(task, str(place), float(digit), **fields) for place, digit in enumerate(right)]


def test_items_are_matched_by_id_whatever_their_order(make: Make) -> None:
    old, new = answered("exam", "1100110011"), answered("exam", "1110111011")
    found = compare(make("new", new[::-1]), make("old", old), resamples=500)
    [line] = found.lines
    assert (found.candidate, found.reference) == ("new-model", "old-model")
    assert [line.value, line.reference, line.delta] == pytest.approx([0.8, 0.6, 0.2])
    assert (line.gained, line.lost, line.n) == (2, 0, 10)
    assert line.p == mcnemar_midp([1, 1, 1, 0, 1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 0, 0, 1, 1])


def test_other_items_are_refused_with_their_counts(make: Make) -> None:
    sides = make("new", answered("exam", "1100")), make("old", answered("exam", "110"))
    with pytest.raises(
        ResidencyError, match="task exam: different items were evaluated: 4 and 3, of which 3"
    ):
        compare(*sides, resamples=10)


def test_items_of_another_source_are_refused_though_their_ids_agree(make: Make) -> None:
    new = make("new", answered("exam", "1100"), **{"items:exam": "a" * 64})
    old = make("old", answered("exam", "1100"), **{"items:exam": "b" * 64})
    with pytest.raises(ResidencyError, match="task exam: the items are of two sources"):
        compare(new, old, resamples=10)


def test_tasks_of_one_side_are_named_and_nothing_in_common_is_refused(make: Make) -> None:
    exam, quiz = {"name": "exam", "kind": "choice"}, {"name": "quiz", "kind": "choice"}
    both = make("both", answered("exam", "1100") + answered("quiz", "1010"), exam, quiz)
    one = make("one", answered("exam", "1000"), exam)
    assert compare(both, one, resamples=10).only_candidate == ["quiz"]
    other = make("other", answered("quiz", "1000"), quiz)
    with pytest.raises(ResidencyError, match="no task in common"):
        compare(one, other, resamples=10)


def test_margin_title_and_domain_are_those_of_the_evaluation(make: Make) -> None:
    task = {"name": "exam", "kind": "choice", "title": "The exam", "domain": "general", "margin": 0.3}
    rows = answered("exam", "1100" * 20)
    [line] = compare(make("new", rows, task), make("old", rows, task), resamples=500).lines
    assert (line.title, line.domain, line.margin, line.verdict) == ("The exam", "general", 0.3, "equivalent")


def test_an_item_asked_in_several_ways_counts_with_its_mean(make: Make) -> None:
    rows = [
        row("exam", id, correct, template=template, order=order)
        for id, cells in {"a": [1, 0, 1, 0], "b": [1, 1, 1, 1], "c": [0, 0, 0, 0]}.items()
        for (template, order), correct in zip(
            [("plain", 0), ("plain", 1), ("capitals", 0), ("capitals", 1)], cells, strict=True
        )
    ]
    letters = [record | {"scorer": "letter", "main": False, "correct": 0.0} for record in rows]
    artifact = make("new", rows + letters)
    table = read([Artifact.open(artifact)])["exam"]
    assert table.scores.tolist() == [[0.5, 1.0, 0.0]]
    assert table.value(0) == pytest.approx(value_of(rows + letters)), "as the evaluation itself says"


def test_bits_per_byte_are_a_ratio_and_less_is_better(make: Make) -> None:
    task = {"name": "text", "kind": "bits-per-byte", "domain": "general", "margin": 0.02}
    sizes = np.arange(100, 160)

    def told(rate: float) -> list[Record]:
        return [
            row(
                "text",
                str(size),
                metric="bits_per_byte",
                nats=rate * size * (1 + size % 3 / 100),
                bytes=int(size),
            )
            for size in sizes
        ]

    better, same = make("better", told(0.5), task), make("same", told(0.7), task)
    [line] = compare(better, same, resamples=500).lines
    assert line.value == pytest.approx(value_of(told(0.5))) and line.delta < 0
    assert (line.verdict, line.lower_is_better, line.gained) == ("better", True, 60)
    assert line.margin == pytest.approx(0.02 * line.reference)


def test_a_value_that_is_no_mean_is_resampled_as_a_whole(make: Make) -> None:
    task = {"name": "kinds", "kind": "answer", "metric": "macro-f1", "domain": "medicine"}

    def told(wrong: int) -> list[Record]:
        made = []
        for place in range(60):
            gold, said = KINDS[place % 2], KINDS[(place + (place < wrong)) % 2]
            parts = statistics(
                "macro-f1", said, {"id": str(place), "answers": [gold], "facts": {"classes": KINDS}}
            )
            made.append(row("kinds", str(place), float(gold == said), metric="macro-f1", parts=parts))
        return made

    [line] = compare(make("new", told(6), task), make("old", told(30), task), resamples=500).lines
    assert line.value == pytest.approx(value("macro-f1", [record["parts"] for record in told(6)]))
    assert (line.test, line.verdict) == ("bootstrap", "better")


def test_a_cluster_that_two_tasks_share_is_one_and_row_numbers_are_not(make: Make) -> None:
    rows = answered("exam", "10", cluster="case") + answered("quiz", "0110")
    numbers = [
        table.clusters.tolist()
        for table in read(
            [Artifact.open(make("new", rows + answered("notes", "11", cluster="case")))]
        ).values()
    ]
    assert numbers[0][0] == numbers[2][0], "the same case"
    again = answered("exam", "10") + answered("quiz", "01")
    apart = [table.clusters.tolist() for table in read([Artifact.open(make("again", again))]).values()]
    assert not set(apart[0]) & set(apart[1]), "two files that both number their rows"


def test_replies_are_counted_by_status_and_cut_prompts_told(make: Make) -> None:
    statuses = ["answered", "invalid", "refused", "answered", "truncated", "answered"]
    rows = [row("exam", str(n), n % 2, status=status, cut_tokens=n) for n, status in enumerate(statuses)]
    [line] = compare(make("new", rows), make("old", rows), resamples=10).lines
    assert line.validity.model_dump() == {"answered": 3, "invalid": 1, "refused": 1, "truncated": 1}
    assert line.items_cut == 5


def test_one_task_that_jumps_alone_raises_the_alarm(make: Make) -> None:
    old, new = [], []
    for number in range(6):
        old += answered(f"task-{number}", "1000" * 60)
        new += answered(f"task-{number}", ("1111" if number == 3 else "1000") * 60)
    tasks = [{"name": f"task-{number}", "kind": "choice", "domain": "medicine"} for number in range(6)]
    found = compare(make("new", new, *tasks), make("old", old, *tasks), resamples=200)
    assert [line.task for line in found.lines if line.too_good] == ["task-3"]
    [suite] = found.suites
    assert (suite.better, suite.equivalent, suite.worse, suite.undecided) == (1, 5, 0, 0)
    assert suite.delta and suite.delta[0] == pytest.approx(0.75 / 6)


def test_wordings_orders_and_places(make: Make) -> None:
    """Two options; the first place is always chosen, so only the order decides."""
    rows = [
        row(
            "exam", str(item), float((answer - order) % 2 == 0),
            template=template, order=order, place=0, prediction=order, answer=answer, scores=[-1.0, -2.0],
        )
        for item, answer in enumerate([0, 1, 0, 0])
        for template in ("plain", "capitals")
        for order in (0, 1)
    ]  # fmt: skip
    artifact = Artifact.open(make("new", rows))
    tables = read([artifact])
    found = details.wordings(tables["exam"], "sft", details.rows_of(artifact, tables)["exam"], None, seed=0)
    assert found is not None
    assert (found.templates, found.orders) == (["plain", "capitals"], [0, 1])
    assert found.cells == [[0.75, 0.25], [0.75, 0.25]]
    assert (found.prompt_spread, found.order_consistent) == (0.0, 0.0)
    assert found.flip_rate == pytest.approx(4 / 6), "orders flip, wordings do not"
    assert found.positional_bias == pytest.approx(0.5)


def test_scorers_disagree_and_subjects_have_intervals(make: Make) -> None:
    rows = [
        row("exam", str(n), float(n % 2), scorer="letter", prediction=n % 2, answer=1, group="ab"[n // 10])
        for n in range(20)
    ]
    texts = [
        record | {"scorer": "option-text", "main": False, "prediction": 1, "correct": 1.0} for record in rows
    ]
    sides = [Artifact.open(make("new", rows + texts)), Artifact.open(make("old", rows))]
    tables = read(sides)
    scored = details.scorers(tables["exam"], "sft", details.rows_of(sides[0], tables)["exam"])
    assert [(each.scorer, each.main, each.value, each.disagreement) for each in scored] == [
        ("letter", True, 0.5, 0.0),
        ("option-text", False, 1.0, 0.5),
    ]
    groups = details.subjects(tables["exam"], "sft", 0, 1, seed=0)
    assert [(each.group, each.items, each.delta) for each in groups] == [
        ("a", 10, (0.0, 0.0, 0.0)),
        ("b", 10, (0.0, 0.0, 0.0)),
    ]
