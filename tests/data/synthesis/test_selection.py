"""What is chosen among ranked replies, and the corpora that come of it; trees are in tests/train/test_search.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import corpus
from residency.data.settings import CorpusSettings
from residency.data.synthesis.selection import selected
from residency.data.synthesis.settings import BestSettings, PairsOfSettings, StepsSettings
from residency.errors import ResidencyError

Attempt = Callable[..., Path]
PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which organ makes bile?"}]


def ranked(id: str, *replies: tuple[str, float] | tuple[str, float, bool], **own: Any) -> dict[str, Any]:
    """A row as a `sample` stage leaves it: replies with scores, best first, and whether they were cut off."""
    scores = [reply[1] for reply in replies]
    return {
        "id": id,
        "cluster": f"about {id}",
        "prompt": PROMPT,
        "replies": [reply[0] for reply in replies],
        "ranks": [1 + sum(other > score for other in scores) for score in scores],
        "scores": scores,
        "truncated": [reply[-1] is True for reply in replies],
        **own,
    }


ROWS = [
    ranked(
        "one",
        ("The liver makes", 3.0, True),
        ("The liver.", 2.0),
        ("It is the liver", 2.0),
        ("A kidney.", 0.0),
    ),
    ranked("two", ("No idea.", 0.0)),
    ranked("three", ("The", 1.0, True), ("The l", 0.5, True)),
    ranked("four", ("Liver.", 1.5), ("A kidney.", 1.0)),
]
UNSCORED = {
    key: value for key, value in ranked("five", ("Liver.", 0.0), ("A liver.", 0.0)).items() if key != "scores"
}


def chosen(
    settings: BestSettings | PairsOfSettings | StepsSettings, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    left_out: Counter[str] = Counter()
    return [made | {"of": row["id"]} for row, made in selected(settings, rows, left_out, "draws")], left_out


def test_the_best_whole_replies_become_dialogues() -> None:
    made, left_out = chosen(BestSettings(kind="best", top=2), ROWS)
    assert [(row["of"], row["messages"][-1]["content"]) for row in made] == [
        ("one", "The liver."), ("one", "It is the liver"), ("two", "No idea."),
        ("four", "Liver."), ("four", "A kidney."),
    ]  # fmt: skip
    assert all(row["messages"][:-1] == PROMPT for row in made)
    assert left_out == {"every reply was cut off": 1}
    made, left_out = chosen(BestSettings(kind="best", least=1.2), ROWS)
    assert [row["of"] for row in made] == ["one", "four"]
    assert left_out == {"every reply was cut off": 1, "no reply is good enough": 1}


def test_the_best_and_the_worst_reply_become_a_pair_where_they_differ_enough() -> None:
    made, left_out = chosen(PairsOfSettings(kind="pairs", margin=1.0), ROWS)
    (pair,) = made
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("The liver.", "A kidney.")
    assert (pair["cluster"], pair["margin"]) == ("about one", 2.0)
    assert left_out == {"no two replies differ enough": 3}
    assert [row["of"] for row in chosen(PairsOfSettings(kind="pairs"), ROWS)[0]] == ["one", "four"]


def test_replies_without_scores_go_by_their_ranks_and_have_no_margin() -> None:
    assert [row["messages"][-1]["content"] for row in chosen(BestSettings(kind="best"), [UNSCORED])[0]] == [
        "Liver."
    ]
    judged = UNSCORED | {"ranks": [1, 2]}
    (pair,) = chosen(PairsOfSettings(kind="pairs"), [judged])[0]
    assert pair["rejected"][0]["content"] == "A liver." and "margin" not in pair
    for settings in (BestSettings(kind="best", least=1), PairsOfSettings(kind="pairs", margin=1)):
        with pytest.raises(ResidencyError, match="corpus draws: the replies of row five have no scores"):
            chosen(settings, [judged])


@pytest.fixture
def draws(make_corpus: Any) -> Path:
    """A corpus of rankings from a file: its rows have no `truncated`."""
    rows = [{key: row[key] for key in ("id", "prompt", "replies", "scores")} for row in (ROWS[0], ROWS[3])]
    made: Path = make_corpus("draws", rows, licence="CC-BY-NC-4.0")
    return made


def select(attempt: Attempt, draws: Path, synthesis: dict[str, Any], **settings: Any) -> Path:
    filled = CorpusSettings.model_validate(
        {"source": "corpus:draws", "synthesis": synthesis, "seed": 7, **settings}
    )
    return corpus.run(attempt("corpus-made", "corpus", filled.model_dump(), {"corpus:draws": draws}))


def test_a_selection_is_a_corpus_with_a_passport_and_counts_what_gave_nothing(
    attempt: Attempt, draws: Path
) -> None:
    made = select(attempt, draws, {"kind": "pairs", "margin": 1.0})
    manifest, (row,) = read_manifest(made), list(corpus.rows(made, "train"))
    assert manifest.measured["schema"] == "preference" and manifest.measured["dropped"] == {
        "no two replies differ enough": 1
    }
    assert (row["id"], row["made_of"], row["method"]) == ("one/pair", "one", "pairs of replies of draws")
    (entry,) = manifest.passport
    assert (entry["licence"], entry["synthetic"]) == ("CC-BY-NC-4.0", "pairs of replies of draws")


def test_a_selection_of_nothing_and_of_another_kind_is_refused(attempt: Attempt, draws: Path) -> None:
    with pytest.raises(
        ResidencyError, match=r"no train rows in corpus:draws \(dropped: 2 no reply is good enough\)"
    ):
        select(attempt, draws, {"kind": "best", "least": 9})
    with pytest.raises(ResidencyError, match="holds rows of kind ranked: this synthesis reads tree"):
        select(attempt, draws, {"kind": "steps"})
