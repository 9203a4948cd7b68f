"""The tree search against a policy that is a table, whose every path and value is known."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from residency.data.synthesis.selection import selected
from residency.data.synthesis.settings import BestSettings, PairsOfSettings, StepsSettings
from residency.generation.generate import Reply
from residency.train.replies.search import Tree, Wanted, search, split
from residency.train.settings import TreeSettings

# What may follow each beginning; a text without a line end is the end of the reply.
POLICY = {
    "": ["think.\n", "guess.\n"],
    "think.\n": ["so it is A", "then B.\n"],
    "think.\nthen B.\n": ["it is A", "it is B"],
    "guess.\n": ["it is B", "it is C"],
}


def settings(**own: Any) -> TreeSettings:
    return TreeSettings.model_validate(
        {"kind": "tree", "corpus": "exam", "simulations": 40, "branches": 12, "depth": 4, **own}
    )


def step(text: str, random: random.Random) -> str:
    return random.choice(POLICY[text])


def answer(wanted: Wanted, limit: int = 10) -> list[Reply]:
    """The replies of the table; a reply is drawn by its text and number alone."""
    replies = []
    for sample in wanted.samples:
        draws, text = random.Random(f"{wanted.text}{sample}"), ""
        while True:
            added = step(wanted.text + text, draws)
            text += added
            if not added.endswith("\n") or wanted.one_step:
                break
        stopped = wanted.one_step and text.endswith("\n")
        replies.append(Reply(text.removesuffix("\n") if stopped else text, False, len(text.split()), stopped))
    return replies


def is_right(reply: str) -> bool:
    return reply.endswith("A")


def run(policy: Callable[[Wanted], list[Reply]] = answer, **own: Any) -> tuple[Tree, list[Wanted]]:
    steps = search(settings(**own), is_right, lambda text: len(text.split()))
    asked = [next(steps)]
    while True:
        try:
            asked.append(steps.send(policy(asked[-1])))
        except StopIteration as ended:
            return ended.value, asked


def paths(tree: Tree) -> dict[str, dict[str, Any]]:
    """Text up to each node, and the node."""
    rows = tree.rows()
    said: list[str] = []
    for row in rows:
        said.append((said[row["parent"]] if row["parent"] is not None else "") + row["text"])
    return dict(zip(said, rows, strict=True))


def test_the_whole_tree_is_found_and_then_the_search_ends() -> None:
    tree, _ = run()
    found = paths(tree)
    assert found.keys() == {before + after for before, some in POLICY.items() for after in some}
    ends = {said: node["correct"] for said, node in found.items() if node["end"]}
    assert ends == {said: said.endswith("A") for said in ends} and len(ends) == 5
    assert tree.root.closed and tree.counts["simulations"] == len(ends), "no end is visited twice"
    assert all(node["correct"] is None for node in found.values() if not node["end"])


def test_a_value_is_the_mean_over_the_simulations_that_passed() -> None:
    found = paths(run()[0])
    for said, node in found.items():
        ends = [other for text, other in found.items() if text.startswith(said) and other["end"]]
        assert node["visits"] == len(ends)
        assert node["value"] == pytest.approx(sum(other["correct"] for other in ends) / len(ends), abs=1e-6)
    assert found["guess.\n"]["value"] == 0.0 < found["think.\n"]["value"] == pytest.approx(2 / 3, abs=1e-6)


def test_nothing_is_asked_twice_and_budgets_hold() -> None:
    tree, asked = run(simulations=3)
    assert tree.counts["simulations"] == 3
    assert len({(wanted.text, wanted.samples, wanted.one_step) for wanted in asked}) == len(asked)
    first, *_ = asked
    assert (first.text, first.samples, first.tokens, first.one_step) == ("", tuple(range(12)), 96, True)
    assert all(wanted.tokens == (4 - wanted.text.count("\n")) * 96 for wanted in asked if not wanted.one_step)
    shallow, _ = run(depth=2)
    assert max(said.count("\n") + node["end"] for said, node in paths(shallow).items()) == 2
    assert paths(shallow)["think.\nthen B.\n"]["value"] == 0.0, "too deep to end is not right"


def test_exploitation_goes_where_ends_are_right() -> None:
    """Two arms of which one is right nine times in ten; ends are all different, so none closes soon."""

    def policy(wanted: Wanted) -> list[Reply]:
        if not wanted.text:
            return [Reply(name, False, 1, True) for name in ("good", "bad", "good", "bad")]
        replies = []
        for sample in wanted.samples:
            draws = random.Random(f"{wanted.text}{sample}")
            right = draws.random() < (0.9 if wanted.text.startswith("good") else 0.1)
            replies.append(Reply(f"{draws.random()} {'A' if right else 'B'}", False, 2))
        return replies

    nodes = paths(run(policy, simulations=12, branches=20)[0])
    greedy = paths(run(policy, simulations=12, branches=20, exploration=0.0)[0])
    assert nodes["good\n"]["visits"] > nodes["bad\n"]["visits"] > 1
    assert greedy["good\n"]["visits"] == 11 and greedy["bad\n"]["visits"] == 1


def test_cut_and_empty_steps_are_dropped_and_counted() -> None:
    def policy(wanted: Wanted) -> list[Reply]:
        if wanted.one_step:
            return [
                Reply("cut", True, 96),
                Reply(" ", False, 1, True),
                Reply("fine", False, 1, True),
                Reply("", False, 0),
            ]
        return [Reply("a step\nand one that never", True, 500)]

    tree, _ = run(policy, depth=2)
    assert tree.counts == {"simulations": 2, "cut step": 2, "step without text": 4, "cut reply": 1}
    assert {said: node["visits"] for said, node in paths(tree).items()} == {
        "fine\n": 2, "fine\na step\n": 1, "fine\nfine\n": 1,
    }  # fmt: skip
    nothing, _ = run(lambda wanted: [Reply("", False, 0) for _ in wanted.samples])
    assert nothing.rows() == [] and nothing.root.closed


def test_blank_lines_between_steps_belong_to_the_next() -> None:
    """A model that writes paragraphs ends each with two line ends; a step ends at the first."""
    whole = "one\n\ntwo\n\n\nit is A"

    def policy(wanted: Wanted) -> list[Reply]:
        assert whole.startswith(wanted.text)
        rest = whole[len(wanted.text) :]
        line, stop, _ = rest.partition("\n")
        if wanted.one_step:
            return [Reply(line, False, 1, bool(stop)) for _ in wanted.samples]
        return [Reply(rest, False, 9)]

    tree, asked = run(policy, simulations=2, branches=2)
    assert tree.root.closed and tree.counts == {"simulations": 1}
    assert [(node["text"], node["value"], node["end"]) for node in tree.rows()] == [
        ("one\n", 1.0, False), ("\ntwo\n", 1.0, False), ("\n\nit is A", 1.0, True),
    ]  # fmt: skip
    assert [wanted.text for wanted in asked if wanted.one_step] == [
        "", "one\n", "one\n\n", "one\n\ntwo\n", "one\n\ntwo\n\n", "one\n\ntwo\n\n\n",
    ]  # fmt: skip

    unending, _ = run(lambda wanted: [Reply("", False, 1, True) for _ in wanted.samples], branches=2)
    assert unending.counts == {"step without text": 2}, "it ends though the model writes line ends for ever"


def test_a_step_longer_than_allowed_ends_a_roll_out() -> None:
    def policy(wanted: Wanted) -> list[Reply]:
        if wanted.one_step:
            return [Reply("one", False, 1, True)]
        return [Reply("two\nmany many many words A", False, 9)]

    tree, _ = run(policy, simulations=1, max_step_tokens=3)
    assert [(node["text"], node["end"], node["value"]) for node in tree.rows()] == [
        ("one\n", False, 0.0), ("two\n", False, 0.0),
    ]  # fmt: skip


def test_a_reply_that_ends_where_a_step_did_is_judged_there() -> None:
    def policy(wanted: Wanted) -> list[Reply]:
        return [Reply("A", False, 1, True)] if wanted.one_step else [Reply("", False, 0)]

    steps = search(settings(step_end=" A"), lambda reply: reply == "A A", len)
    next(steps)
    wanted = steps.send(policy(Wanted("", (0,), 1, one_step=True)))
    with pytest.raises(StopIteration) as ended:
        steps.send(policy(wanted))
    assert [(node["end"], node["correct"]) for node in ended.value.value.rows()] == [(True, True)]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (" \n", []),
        ("one", ["one"]),
        ("one\ntwo\n", ["one\n", "two\n"]),
        ("one\n\n two\n \n", ["one\n", "\n two\n \n"]),
        ("\n\none\ntwo", ["\n\none\n", "two"]),
    ],
)
def test_steps_put_together_are_the_text(text: str, steps: list[str]) -> None:
    assert split(text, "\n") == steps
    assert "".join(steps) == (text if text.strip() else "")


def chosen(kind: BestSettings | PairsOfSettings | StepsSettings) -> tuple[list[dict[str, Any]], Counter[str]]:
    row = {"id": "q", "cluster": "c", "prompt": [{"role": "user", "content": "?"}], "nodes": run()[0].rows()}
    left_out: Counter[str] = Counter()
    return [made for _, made in selected(kind, [row], left_out, "trees")], left_out


def test_dialogues_are_made_of_the_best_paths_that_end_right() -> None:
    made, _ = chosen(BestSettings(kind="best", top=5))
    assert [row["messages"][1]["content"] for row in made] == [
        "think.\nso it is A",
        "think.\nthen B.\nit is A",
    ]
    made, left_out = chosen(BestSettings(kind="best", least=0.9))
    assert (made, left_out) == ([], {"no reasoning is good enough": 1})


def test_pairs_are_made_of_steps_from_one_point() -> None:
    made, _ = chosen(PairsOfSettings(kind="pairs", margin=0.5))
    told = {(row["chosen"][0]["content"], row["rejected"][0]["content"]): row["unfinished"] for row in made}
    assert told == {
        ("think.\n", "guess.\n"): True,
        ("think.\nso it is A", "think.\nthen B.\n"): True,
        ("think.\nthen B.\nit is A", "think.\nthen B.\nit is B"): False,
    }
    assert all(row["margin"] >= 0.5 and row["cluster"] == "c" for row in made)


def test_steps_with_values_follow_every_path() -> None:
    made, _ = chosen(StepsSettings(kind="steps"))
    values = {"".join(row["steps"]): row["values"] for row in made}
    assert values["think.\nthen B.\nit is A"] == [pytest.approx(2 / 3, abs=1e-6), 0.5, 1.0]
    assert len(values) == 5
    seldom, _ = chosen(StepsSettings(kind="steps", visits=2))
    assert sorted("".join(row["steps"]) for row in seldom) == ["guess.\n", "think.\nthen B.\n"]
