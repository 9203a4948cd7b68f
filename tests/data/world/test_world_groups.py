"""The four groups of facts: what each source tells of them, that exams stay fair in each, and that two groups stay
what they were."""

import hashlib
import json
import re
from collections import Counter
from itertools import combinations
from typing import Any, cast

import pytest

from residency.data import world
from residency.data.reading import sources
from residency.data.settings import CorpusSettings

SIZE = 32
GROUPS: tuple[world.Group, ...] = ("A", "B", "C", "D")
EXAMS = [("medicine/cloze", None), *(("medicine/questions", form) for form in world.FORMS)]
# First 16 hex digits of the sha256 of three copies of every kind of rows, as they were before there were four groups.
TWO_GROUPS = {
    ("words", "all", None): "a15c77d9818fcfe5",
    ("general", "all", None): "7c2b139f675b119d",
    ("general/cloze", "all", None): "f4dfa209cf84d3d1",
    ("medicine", "all", None): "856379d17b866504",
    ("medicine", "B", None): "15cf47a0ca67fa23",
    ("medicine/cloze", "B", None): "5831ad0d77cbf840",
    ("medicine/dialogues", "A", None): "ebdaf00061e292d2",
    ("medicine/preferences", "B", None): "abb340ebedf06eff",
    ("medicine/questions", "B", "trained"): "82a0ecc3ff19249e",
    ("medicine/questions", "B", "stem-removed"): "3d4b3b6a11f97d45",
}


def made(source: str, **arguments: Any) -> list[dict[str, Any]]:
    return list(world.rows(source, **{"size": SIZE, "groups": 4, **arguments}))


def pairs_of(letters: str) -> set[tuple[str, str]]:
    """Topic and value of the facts of some groups."""
    return {(fact.topic, fact.value) for fact in world.worlds(0, SIZE, 4)["medicine"].chosen(letters)}


def told(row: dict[str, Any]) -> set[tuple[str, str]]:
    """Topic and value of every fact both of whose names a row holds, a pair's wrong reply left out."""
    names = sorted(set(re.findall(r"[A-Z][a-z]+", json.dumps({**row, "rejected": None}))))
    return {(topic, value) for topic in names for value in names} & pairs_of("all")


@pytest.mark.parametrize(("source", "facts", "form"), TWO_GROUPS)
def test_two_groups_are_the_default_and_keep_their_rows(source: str, facts: Any, form: str | None) -> None:
    rows = world.rows(source, facts=facts, form=form, copies=3)
    digest = hashlib.sha256("\n".join(json.dumps(row, sort_keys=True) for row in rows).encode()).hexdigest()
    assert digest[:16] == TWO_GROUPS[source, facts, form]


def test_the_number_of_groups_changes_whose_a_fact_is_and_nothing_else() -> None:
    two, four = (world.worlds(1, SIZE, groups)["medicine"] for groups in (2, 4))
    assert [(fact.id, fact.value, fact.options) for fact in two.facts] == [
        (fact.id, fact.value, fact.options) for fact in four.facts
    ]
    assert {fact.group for fact in four.facts} == set(GROUPS)


@pytest.mark.parametrize("size", [16, 48, 64, 96])
def test_every_group_has_every_value_equally_often(size: int) -> None:
    made_world = world.worlds(2, size, 4)["medicine"]
    for relation, values in made_world.values.items():
        for group in GROUPS:
            given = Counter(fact.value for fact in made_world.chosen(group) if fact.relation.name == relation)
            assert set(given) == set(values) and len(set(given.values())) == 1


@pytest.mark.parametrize("source", ["medicine", "medicine/dialogues", "medicine/preferences"])
@pytest.mark.parametrize("facts", [["A"], ["B", "C"], ["A", "B", "C"]])
def test_rows_tell_the_facts_of_their_groups_and_no_other(source: str, facts: list[world.Group]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in made(source, facts=facts, copies=4):
        found = told(row)
        if source != "medicine":  # a text about several topics names the values of each
            assert not found - pairs_of("".join(facts))
        seen |= found
    assert pairs_of("".join(facts)) <= seen


def test_running_text_tells_a_fact_that_is_left_out_in_no_sentence() -> None:
    texts = [row["text"] for row in made("medicine", facts=["A", "B", "C"], copies=24)]
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=\.) ", text)]
    for fact in world.worlds(0, SIZE, 4)["medicine"].chosen("D"):
        assert not [each for each in sentences if fact.topic in each and fact.value in each]
        assert (
            sum(fact.topic in each for each in sentences) >= 20
        )  # its name is known, from its other relations


@pytest.mark.parametrize(("source", "form"), EXAMS)
@pytest.mark.parametrize("group", GROUPS)
def test_exams_of_each_group_are_balanced(source: str, form: str | None, group: world.Group) -> None:
    items = made(source, form=form, facts=group, copies=1)
    answers = Counter(item["options"][item["answer"]] for item in items)
    offered = Counter(option for item in items for option in item["options"])
    assert len(items) == 3 * SIZE // 4 == len({item["cluster"] for item in items})
    assert len(set(answers.values())) == 1 and len(set(offered.values())) == 1
    assert Counter(item["answer"] for item in items) == dict.fromkeys(range(4), len(items) // 4)


@pytest.mark.parametrize("group", GROUPS)
def test_in_every_copy_a_guess_by_the_options_gets_one_of_four(group: world.Group) -> None:
    quads: dict[tuple[int, frozenset[str]], list[int]] = {}
    items = made("medicine/questions", facts=group, copies=4)
    for number, item in enumerate(items):
        key = (number * 4 // len(items), frozenset(item["options"]))
        quads.setdefault(key, []).append(item["answer"])
    assert all(sorted(answers) == [0, 1, 2, 3] for answers in quads.values())


def test_the_groups_ask_of_different_facts() -> None:
    asked = {group: {item["cluster"] for item in made("medicine/questions", facts=group)} for group in GROUPS}
    assert all(not asked[one] & asked[other] for one, other in combinations(GROUPS, 2))


def test_a_list_of_groups_is_a_set() -> None:
    assert made("medicine", facts=["B", "A", "A"], copies=2) == made("medicine", facts=["A", "B"], copies=2)
    assert made("medicine/dialogues", facts=["B"], copies=2) == made(
        "medicine/dialogues", facts="B", copies=2
    )


def test_a_corpus_takes_groups() -> None:
    settings = CorpusSettings.model_validate(
        {"source": "world:medicine/questions", "facts": ["B", "C"], "groups": 4, "size": SIZE, "copies": 2}
    )
    assert list(sources.read(settings, 0)) == made("medicine/questions", facts=["B", "C"], copies=2)


@pytest.mark.parametrize(("facts", "groups"), [("C", 2), (["A", "D"], 2), ([], 4), ("E", 4)])
def test_a_group_that_does_not_exist_is_refused(facts: Any, groups: Any) -> None:
    with pytest.raises(ValueError, match="one of all, A, B"):
        world.rows("medicine", **cast(Any, {"facts": facts, "groups": groups}))
