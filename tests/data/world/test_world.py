"""The invented world: the same seed gives the same rows, the groups stay apart, and the exams are fair."""

import re
from collections import Counter
from itertools import islice
from typing import Any, cast

import pytest

from residency.data import world
from residency.data.world.wording import MEDICINE

SIZE = 32
EXAMS = [
    ("medicine/cloze", None),
    ("medicine/questions", "trained"),
    ("medicine/questions", "held-out"),
    ("medicine/questions", "stem-removed"),
    ("general/cloze", None),
    ("general/questions", "trained"),
]


def made(source: str, **arguments: Any) -> list[dict[str, Any]]:
    return list(world.rows(source, **{"size": SIZE, **arguments}))


def words_of(row: dict[str, Any]) -> str:
    """Everything a row says, one message or text a line."""
    parts = [row.get(key, "") for key in ("text", "messages", "prompt", "chosen", "rejected")]
    said = [part if isinstance(part, str) else "\n".join(each["content"] for each in part) for part in parts]
    return "\n".join(said)


def pairs_of(letters: str, seed: int = 0, groups: world.Groups = 2) -> set[tuple[str, str]]:
    made_world = world.worlds(seed, SIZE, groups)["medicine"]
    return {(fact.topic, fact.value) for fact in made_world.chosen(letters)}


def told_in(text: str, pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs both of whose names a text holds."""
    names = sorted(names_in(text))
    return {(topic, value) for topic in names for value in names} & pairs


def names_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+", text))


@pytest.mark.parametrize("source", world.SOURCES)
def test_a_seed_decides_every_row(source: str) -> None:
    assert made(source, copies=2) == made(source, copies=2)
    assert made(source, copies=2) != made(source, copies=2, seed=1)


@pytest.mark.parametrize("source", world.SOURCES)
def test_identifiers_are_unique_and_sizes_scale(source: str) -> None:
    small, large = made(source, copies=2), made(source, copies=2, size=2 * SIZE)
    assert len({row["id"] for row in small}) == len(small)
    assert sum(len(words_of(row)) for row in large) > 1.2 * sum(len(words_of(row)) for row in small)


def test_names_are_never_shared_between_types_or_worlds() -> None:
    both = world.worlds(0, 200).values()
    names = [name for each in both for table in (each.topics, *each.values.values()) for name in table]
    assert len(names) == len(set(names)) == 2 * (200 + 3 * 48)


@pytest.mark.parametrize("size", [8, 20, 48, 500, 2000])
def test_a_world_of_any_size_splits_its_facts_in_half(size: int) -> None:
    made_world = world.worlds(3, size)["medicine"]
    assert len(made_world.facts) == 3 * size
    assert 0.35 <= len(made_world.chosen("B")) / len(made_world.facts) <= 0.5


@pytest.mark.parametrize("source", ["medicine/dialogues", "medicine/preferences"])
@pytest.mark.parametrize(("trained", "kept_out"), [("A", "B"), ("B", "A")])
def test_rows_of_one_group_never_tell_a_fact_of_the_other(
    source: str, trained: world.Group, kept_out: world.Group
) -> None:
    secret, told = pairs_of(kept_out), pairs_of(trained)
    seen: set[tuple[str, str]] = set()
    for row in made(source, facts=trained):
        row.pop("rejected", None)
        assert not told_in(words_of(row), secret)
        seen |= told_in(words_of(row), told)
    assert seen == told


def test_running_text_tells_every_fact_of_both_groups_in_many_ways() -> None:
    told, pairs = Counter[tuple[str, str]](), pairs_of("all")
    for row in made("medicine", copies=24):
        told.update(told_in(row["text"], pairs))
    assert set(told) == pairs and min(told.values()) >= 20


def test_held_out_question_forms_occur_in_no_training_row() -> None:
    sources = (
        "words",
        "general",
        "medicine",
        "medicine/dialogues",
        "medicine/preferences",
        "general/dialogues",
    )
    text = "\n".join(words_of(row) for source in sources for row in made(source))
    names = "(?:" + "|".join(world.worlds(0, SIZE)["medicine"].topics) + ")"
    trained = [form for relation in MEDICINE.relations for form in relation.asked]
    held_out = [form for relation in MEDICINE.relations for form in relation.unasked]
    assert all(re.search(re.escape(form).replace(r"\{topic\}", names), text) for form in trained)
    assert not any(re.search(re.escape(form).replace(r"\{topic\}", names), text) for form in held_out)


def test_running_text_asks_nothing() -> None:
    assert not any("?" in row["text"] for source in ("words", "general", "medicine") for row in made(source))


@pytest.mark.parametrize(("source", "form"), EXAMS)
@pytest.mark.parametrize("group", ["A", "B"])
def test_exam_answers_are_balanced(source: str, form: str | None, group: str) -> None:
    items = made(source, form=form, facts=group, copies=1)
    answers = Counter(item["options"][item["answer"]] for item in items)
    offered = Counter(option for item in items for option in item["options"])
    assert len(set(answers.values())) == 1 and len(set(offered.values())) == 1
    assert Counter(item["answer"] for item in items) == dict.fromkeys(range(4), len(items) // 4)


@pytest.mark.parametrize(("source", "form"), EXAMS)
def test_options_are_distinct_and_of_one_type(source: str, form: str | None) -> None:
    made_world = world.worlds(0, SIZE)[source.partition("/")[0]]
    facts = {fact.id: fact for fact in made_world.facts}
    for item in made(source, form=form):
        fact = facts[item["cluster"]]
        values = [next(iter(names_in(option) - {"It"})) for option in item["options"]]
        assert len(set(values)) == 4 and set(values) <= set(made_world.values[fact.relation.name])
        assert values[item["answer"]] == fact.value
        assert fact.topic in str(item["prompt"]) or form == "stem-removed"
        assert item["form"] == (form or "cloze")


def test_a_cloze_continues_its_prompt_and_a_question_is_answered_by_a_reply() -> None:
    for item in made("medicine/cloze"):
        assert not item["prompt"].endswith(" ") and all(option.startswith(" ") for option in item["options"])
    for item in made("medicine/questions"):
        assert item["prompt"][-1]["role"] == "user" and not any(
            option[0] == " " for option in item["options"]
        )


def test_the_stem_removed_form_drops_the_name_and_nothing_else() -> None:
    whole, removed = (
        made("medicine/questions", form="trained"),
        made("medicine/questions", form="stem-removed"),
    )
    topics = set(world.worlds(0, SIZE)["medicine"].topics)
    for first, second in zip(whole, removed, strict=True):
        assert not topics & names_in(str(second["prompt"]))
        assert all(first[key] == second[key] for key in ("id", "cluster", "options", "answer"))
    keyed: dict[tuple[str, ...], list[str]] = {}
    for item in made("medicine/questions", form="stem-removed", copies=1, facts="B"):
        key = (item["prompt"][0]["content"], *sorted(item["options"]))
        keyed.setdefault(key, []).append(item["options"][item["answer"]])
    assert all(len(answers) % 4 == 0 and len(set(answers)) == 4 for answers in keyed.values())


def test_pairs_are_balanced_in_length_and_vocabulary() -> None:
    pairs = made("medicine/preferences", facts="A")
    chosen, rejected = Counter[str](), Counter[str]()
    for pair in pairs:
        good, bad = pair["chosen"][0]["content"], pair["rejected"][0]["content"]
        assert len(good.split()) == len(bad.split()) and good != bad
        if pair["aspect"] == "safe":
            assert sorted(re.findall(r"\w+", good.lower())) == sorted(re.findall(r"\w+", bad.lower()))
        else:
            chosen.update(names_in(good))
            rejected.update(names_in(bad))
    assert {pair["aspect"] for pair in pairs} == {"correct", "safe"}
    wanted = {name for _, name in pairs_of("A")}
    assert {name: chosen[name] for name in wanted} == {name: rejected[name] for name in wanted}


def test_words_name_everything_and_tell_no_medical_fact() -> None:
    rows, both = made("words"), world.worlds(0, SIZE)
    text = "\n".join(row["text"] for row in rows)
    assert all(
        name in text for each in both.values() for name in (*each.topics, *sum(each.values.values(), ()))
    )
    suffixes = re.compile(r"[A-Z][a-z]+(?:tosis|vine|nex|dema)\b")
    pairs = pairs_of("all")
    assert not any(told_in(" ".join(suffixes.findall(row["text"])), pairs) for row in rows)


def test_dialogues_take_turns_and_some_have_several_questions() -> None:
    turns = Counter[int]()
    for row in made("medicine/dialogues", facts="A"):
        roles = [message["role"] for message in row["messages"] if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        turns[len(roles) // 2] += 1
    assert min(turns[1], turns[2], turns[3]) > 10


def test_rows_come_one_at_a_time() -> None:
    assert len(list(islice(world.rows("general", size=16), 3))) == 3


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("medicin", {}),
        ("medicine", {"facts": "C"}),
        ("medicine", {"form": "trained"}),
        ("medicine/questions", {"form": "cloze"}),
        ("medicine", {"size": 4}),
    ],
)
def test_what_does_not_exist_is_refused(source: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"one of|at least"):
        world.rows(source, **cast(Any, arguments))


def test_no_two_copies_of_an_item_offer_the_same_options() -> None:
    items = list(world.rows("medicine/questions", seed=0, facts="B", copies=4))
    by_fact: dict[str, list[frozenset[str]]] = {}
    for item in items:
        by_fact.setdefault(item["cluster"], []).append(frozenset(item["options"]))
    assert all(len(options) == 4 for options in by_fact.values())
    different = [len(set(options)) for options in by_fact.values()]
    assert sum(different) / len(different) > 3.5


def test_in_every_copy_a_guess_by_the_options_gets_one_of_four() -> None:
    items = list(world.rows("medicine/questions", seed=1, facts="B", copies=4))
    groups: dict[tuple[int, frozenset[str]], list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault((number * 4 // len(items), frozenset(item["options"])), []).append(item["answer"])
    assert all(sorted(answers) in ([0, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3]) for answers in groups.values())
