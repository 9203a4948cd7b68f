"""Rankings are kept in the order of the source, whatever order a rater saw, and are rows that a reward stage reads."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from residency.data.ranking.book import Book
from residency.data.rows.schema import normalise, recognise
from residency.errors import ResidencyError

ROWS: list[dict[str, Any]] = [
    {"id": "fever", "prompt": "What helps?", "responses": ["water", "rest", "fire", "rest"]},
    {"id": "cough", "prompt": [{"role": "user", "content": "And now?"}], "responses": ["tea", "salt"]},
    {"id": "alone", "prompt": "?", "responses": ["one", "one"]},
]


def book(tmp_path: Path, rows: list[dict[str, Any]] = ROWS, name: str = "rankings.jsonl") -> Book:
    source = tmp_path / "replies.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Book(source, tmp_path / name)


def test_equal_replies_are_shown_once_and_single_ones_never(tmp_path: Path) -> None:
    made = book(tmp_path)
    assert made.items["fever"]["responses"] == ["water", "rest", "fire"]
    assert list(made.items) == ["fever", "cough"]
    assert made.left_out == 1


def test_ranks_return_to_the_order_of_the_source(tmp_path: Path) -> None:
    made = book(tmp_path)
    shown = made.shown("ada", "fever")
    wanted = {0: 1, 1: 2, 2: 3}
    made.rank("ada", "fever", [wanted[place] for place in shown], seconds=3.14)
    (line,) = (tmp_path / "rankings.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["ranks"] == [1, 2, 3] and row["shown"] == shown and row["seconds"] == 3.1
    assert recognise(row, None) == "ranked"
    assert normalise(row, "ranked")["replies"] == ["water", "rest", "fire"]


def test_raters_see_orders_of_their_own_that_stay(tmp_path: Path) -> None:
    made = book(tmp_path, [ROWS[0] | {"id": str(number)} for number in range(20)])
    orders = {rater: [made.shown(rater, str(number)) for number in range(20)] for rater in ("ada", "bo")}
    assert orders["ada"] != orders["bo"]
    again = book(tmp_path, [ROWS[0] | {"id": str(number)} for number in range(20)])
    assert orders["ada"] == [again.shown("ada", str(number)) for number in range(20)]
    assert len({tuple(order) for order in orders["ada"]}) > 1


def test_work_goes_on_where_it_was_left(tmp_path: Path) -> None:
    made = book(tmp_path)
    first = made.next_for("ada")
    assert first is not None
    made.rank("ada", first, [1] * len(made.items[first]["responses"]), seconds=1)
    again = book(tmp_path)
    second = again.next_for("ada")
    assert second not in (None, first)
    assert second is not None
    again.rank("ada", second, None, seconds=1, note="not my field")
    assert book(tmp_path).next_for("ada") is None
    assert len((tmp_path / "rankings.jsonl").read_text().splitlines()) == 1, "a skip is no ranking"
    assert book(tmp_path).next_for("bo") is not None


@pytest.mark.parametrize("ranks", [[1, 2], [0, 1, 2], [1, 2, 4]])
def test_ranks_that_do_not_fit_are_refused(tmp_path: Path, ranks: list[int]) -> None:
    with pytest.raises(ResidencyError, match="no ranks of 3 replies"):
        book(tmp_path).rank("ada", "fever", ranks, seconds=1)
    assert not (tmp_path / "rankings.jsonl").exists()


def test_an_item_is_judged_once(tmp_path: Path) -> None:
    made = book(tmp_path)
    made.rank("ada", "cough", [1, 2], seconds=1)
    with pytest.raises(ResidencyError, match="judged by ada already"):
        made.rank("ada", "cough", [2, 1], seconds=1)


def test_two_servers_on_one_file_know_each_others_judgements(tmp_path: Path) -> None:
    here, there = book(tmp_path), book(tmp_path)
    first = here.next_for("ada")
    assert first is not None
    here.rank("ada", first, [1] * len(here.items[first]["responses"]), seconds=1)
    with pytest.raises(ResidencyError, match="judged by ada already"):
        there.rank("ada", first, None, seconds=1)
    second = there.next_for("ada")
    assert second not in (None, first)
    assert second is not None
    there.rank("ada", second, None, seconds=1)
    here.read()
    assert (here.next_for("ada"), here.done_by("ada"), len(here.rows)) == (None, 2, 1)


def test_sources_that_cannot_be_ranked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match="no file"):
        Book(tmp_path / "nothing.jsonl", tmp_path / "r.jsonl")
    with pytest.raises(ResidencyError, match="2 to 9 different replies"):
        book(tmp_path, [ROWS[2]])
    with pytest.raises(ResidencyError, match="no replies, responses, answers"):
        book(tmp_path, [{"id": "x", "prompt": "?"}])
    with pytest.raises(ResidencyError, match="two rows have this id"):
        book(tmp_path, [ROWS[0], ROWS[0]])
    (tmp_path / "others.jsonl").write_text(
        json.dumps({"item": "gout", "rater": "ada", "ranks": [1, 2]}) + "\n"
    )
    with pytest.raises(ResidencyError, match="rankings of gout, which"):
        book(tmp_path, name="others.jsonl")
    with pytest.raises(ResidencyError, match=r"replies\.jsonl: .*Give another file"):
        book(tmp_path, name="replies.jsonl/rankings.jsonl")
    (tmp_path / "cut.jsonl").write_text('{"item": "fev')
    with pytest.raises(ResidencyError, match=r"cut\.jsonl:1"):
        book(tmp_path, name="cut.jsonl")


def test_a_full_disk_leaves_no_part_of_a_ranking(tmp_path: Path) -> None:
    made = book(tmp_path)
    made.rank("ada", "cough", [1, 2], seconds=1)
    size = made.rankings.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(ResidencyError, match=r"rankings\.jsonl: .*Free some room"):
            made.rank("bo", "cough", [1, 2], seconds=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert made.rankings.stat().st_size == size
    made.rank("bo", "cough", [1, 2], seconds=1)
    assert len(made.rankings.read_text().splitlines()) == 2
