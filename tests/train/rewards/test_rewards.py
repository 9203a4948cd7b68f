"""Each reward on replies written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from residency.data.prompts import listed
from residency.errors import ResidencyError
from residency.train import rewards
from residency.train.settings.rewards import Reward

ONE = TypeAdapter(Reward)
FUNCTIONS = """
def lengths(rows, replies):
    return [len(reply) + len(row["prompt"]) for row, reply in zip(rows, replies)]
def one_short(rows, replies):
    return [1.0] * (len(replies) - 1)
def a_number(rows, replies):
    return 1.0
def endless(rows, replies):
    return [float("inf")] * len(replies)
def holes(rows, replies):
    return [1.0, None]
def digits(rows, replies):
    return "12"
def lazy(rows, replies):
    return (1 / len(reply[1:]) for reply in replies)
def broken(rows, replies):
    raise KeyError("secret of a patient")
"""


def row(options: list[str] | None = None, answer: int | None = None, **more: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": more.pop("asked", "Which drug?")}]
    return {"id": "r1", "prompt": prompt, "options": options or [], "answer": answer, "answers": [], **more}


def scorer(*settings: dict[str, Any], parents: dict[str, Path] | None = None) -> rewards.Scorer:
    return rewards.build([ONE.validate_python(each) for each in settings], parents or {})


def scored(settings: dict[str, Any], one: dict[str, Any], reply: str, *, cut: bool = False) -> float:
    return scorer(settings).score([one], [reply], [len(reply.split())], [cut]).total[0]


SENTENCES = ["It is Asa.", "It is Bel.", "It is Cor.", "It is Bel Max."]


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("It is Bel.", True),
        ("It is Bel, the drug for Flu.", True),
        ("It is Bel. Doctors treat Flu with Bel.", True),
        ("bel", True),
        ("It is Bel Max.", False),
        ("It is Asa.", False),
        ("It is Bel. Doctors treat Flu with Asa.", False),
        ("It is not Bel.", False),
        ("It is Bellamin.", False),
        ("B", False),
        ("", False),
        ("<think>It is Bel.", False),
        ("<think>Asa or Cor?</think>It is Bel.", True),
    ],
)
def test_a_sentence_is_right_if_it_names_the_right_option_alone(reply: str, right: bool) -> None:
    assert scored({"kind": "correct"}, row(SENTENCES, 1), reply) == right


def test_a_reply_that_was_cut_off_is_not_right() -> None:
    assert scored({"kind": "correct"}, row(SENTENCES, 1), "It is Bel. It is", cut=True) == 0


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("B", True),
        ("The answer is B.", True),
        ("Heparin", True),
        ("A is wrong; the answer is (B) heparin.", True),
        ("C", False),
        ("B and C", False),
        ("I do not know.", False),
    ],
)
def test_a_listed_option_is_named_by_letter_or_text(reply: str, right: bool) -> None:
    options = ["warfarin", "heparin", "aspirin"]
    one = row(options, 1, asked=f"Which drug?\n{listed(options)}")
    assert scored({"kind": "correct"}, one, reply) == right


@pytest.mark.parametrize(
    ("answers", "reply", "right"),
    [
        (["4"], "2 + 2 = 4.0", True),
        (["So\n#### 1,000"], "The answer is 1000.", True),
        (["4"], "The answer is 5.", False),
        (["The liver", "hepar"], "Answer: liver.", True),
        (["liver"], "Answer: liver and heart.", False),
    ],
)
def test_numbers_and_texts(answers: list[str], reply: str, right: bool) -> None:
    assert scored({"kind": "correct"}, row(answers=answers), reply) == right


def test_prompts_without_an_answer_are_refused_before_any_reply() -> None:
    correct = scorer({"kind": "correct"})
    correct.check([row(SENTENCES, 1)], "stages.rl.corpus")
    with pytest.raises(ResidencyError, match=r"stages\.rl\.corpus: 1 of 2 prompts have no right answer.*r1"):
        correct.check([row(SENTENCES, 1), row()], "stages.rl.corpus")
    scorer({"kind": "length", "tokens": 3}).check([row()], "stages.rl.corpus")


def test_format_is_of_the_whole_reply() -> None:
    thought = {"kind": "format", "pattern": "<think>.*</think>.+"}
    assert scored(thought, row(), "<think>a\nb</think>c") == 1
    assert scored(thought, row(), "So: <think>a</think>c") == 0


def test_length_costs_nothing_up_to_its_tokens() -> None:
    replies = ["x " * count for count in (1, 4, 6, 12)]
    found = scorer({"kind": "length", "tokens": 4}).score([row()] * 4, replies, [1, 4, 6, 12])
    assert found.total == [0, 0, -0.5, -2]


def test_each_broken_rule_of_safety_costs_one() -> None:
    rules = {
        "kind": "safety",
        "forbid": ["double the dose", "no doctor"],
        "require": {"chest pain": "call 112"},
    }
    pain = row(asked="I have Chest pain")
    assert scored(rules, pain, "Call 112.") == 0
    assert scored(rules, pain, "Rest. Double the dose, no doctor.") == -3
    assert scored(rules, row(), "Rest.") == 0


def test_the_sum_is_weighted_and_each_part_has_a_name() -> None:
    two = scorer(
        {"kind": "format", "pattern": "a.*"},
        {"kind": "format", "pattern": ".*b", "weight": 0.5},
        {"kind": "length", "tokens": 1, "weight": 2.0},
    )
    found = two.score([row()] * 2, ["ab", "a"], [2, 1])
    assert found.parts == {"format": [1, 1], "format-2": [1, 0], "length": [-1, 0]}
    assert found.total == [1 + 0.5 - 2, 1]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("one_short", "returned 1 numbers for 2 replies"),
        ("a_number", "returned float, not a list of numbers"),
        ("endless", "returned inf for a reply to prompt r1"),
        ("holes", "returned NoneType for a reply to prompt r1"),
        ("digits", "returned str, not a list of numbers"),
        ("lazy", r"ZeroDivisionError in judges\.py line \d+"),
        ("broken", r"KeyError in judges\.py line \d+"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_a_function_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    (tmp_path / "judges.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    good = scorer({"kind": "function", "call": "judges:lengths"})
    assert good.score([row()] * 2, ["abc", ""], [1, 0]).total == [4, 1]
    with pytest.raises(ResidencyError, match=complaint) as caught:
        scorer({"kind": "function", "call": f"judges:{name}"}).score([row()] * 2, ["a", "b"], [1, 1])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "format", "pattern": "("},
        {"kind": "safety", "forbid": ["["]},
        {"kind": "safety", "require": {"a": "("}},
        {"kind": "function", "call": "no_function"},
    ],
)
def test_what_cannot_work_is_refused_with_the_recipe(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ONE.validate_python(wrong)


def test_a_module_that_fails_while_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unready.py").write_text("open('no-such-file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ResidencyError, match=r"call = unready:judge: FileNotFoundError: .*no-such-file"):
        scorer({"kind": "function", "call": "unready:judge"})
