"""Free answers, attitude scales, variance of replies and judged replies: from rows to records and the task's value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from residency.errors import ResidencyError
from residency.eval import cache
from residency.eval.candidate import Candidate
from residency.eval.items import encode, piece
from residency.eval.measures import measure
from residency.eval.measures.rubric import judge_kappa
from residency.eval.records import (
    Record,
    lower_is_better,
    main_rows,
    parts,
    read_table,
    value_of,
    write_records,
)
from residency.eval.rows import read_items
from residency.eval.settings import TASK, TaskSettings
from residency.eval.shots import Shots
from residency.generation.generate import Reply


@dataclass
class Scripted(Candidate):
    """A candidate that replies by a function of the prompt: what no random model would write."""

    says: Callable[[str], Reply] = lambda prompt: Reply("", False, 0)

    def write(self, prompts: Sequence[list[int]], **_: Any) -> list[list[Reply]]:
        return [[self.says(self.tokenizer.decode(ids))] for ids in prompts]


def scripted(tokenizer: Any, replies: dict[str, str | Reply]) -> Scripted:
    """Replies by a word of the prompt."""

    def says(prompt: str) -> Reply:
        said = next(reply for word, reply in replies.items() if word in prompt)
        return said if isinstance(said, Reply) else Reply(said, False, len(said))

    return Scripted(None, tokenizer, 4000, says=says)


def task(kind: str, **fields: Any) -> TaskSettings:
    given = {"kind": kind, "name": "t", "domain": "medicine", "items": "c", "max_new_tokens": 16}
    return TASK.validate_python(given | fields)


def records_of(task: TaskSettings, candidate: Candidate, rows: list[dict[str, Any]]) -> list[Record]:
    return measure(task, candidate, rows, Shots("t"), [])


NUMBERS: list[dict[str, Any]] = [
    {"id": "one", "prompt": "one", "answers": ["1"]},
    {"id": "two", "prompt": "two", "answers": ["2"]},
    {"id": "three", "prompt": "three", "answers": ["3"]},
]


def test_free_answers_are_scored_by_their_metric_and_their_ends_counted(tokenizer: Any) -> None:
    candidate = scripted(
        tokenizer, {"one": " The answer is 1.", "two": Reply(" We add and", True, 9), "three": " four"}
    )
    records = records_of(task("answer", metric="exact-number", also=["rougeL"]), candidate, NUMBERS)
    assert [row["correct"] for row in records] == [1.0, 0.0, 0.0]
    assert [row["status"] for row in records][:2] == ["answered", "truncated"]
    assert records[0]["parts"]["exact"] == 1.0 and "rougeL/rougeL" in records[0]["parts"]
    assert value_of(records) == pytest.approx(1 / 3)


def test_stop_strings_and_the_limit_of_a_task_reach_the_model(model: Any, tokenizer: Any) -> None:
    candidate = Candidate(model, tokenizer, 128)
    rows = [
        {"id": str(n), "prompt": text, "answers": ["x"]} for n, text in enumerate(["Which organ?", "Heart"])
    ]
    whole = records_of(task("answer", metric="rougeL"), candidate, rows)
    letter = next(row["reply"][2] for row in whole if len(row["reply"]) > 2)
    stopped = records_of(task("answer", metric="rougeL", stop=[letter]), candidate, rows)
    for one, other in zip(whole, stopped, strict=True):
        assert other["reply"] == one["reply"].split(letter)[0]


ENTITIES = [
    ("a", ["aspirin", "warfarin"], "aspirin, heparin, zinc"),
    ("b", ["iron"], "iron"),
    ("c", ["zolin", "vidolin", "tolin"], "zolin"),
]


def test_an_f1_of_all_spans_comes_from_counts_and_not_from_the_items_f1(
    tokenizer: Any, tmp_path: Path
) -> None:
    rows = []
    for id, gold, _ in ENTITIES:
        text = f"Item {id}: {' and '.join(gold)}"
        spans = [[text.index(name), text.index(name) + len(name), "drug"] for name in gold]
        rows.append({"id": id, "prompt": text, "answers": gold, "facts": {"text": text, "spans": spans}})
    candidate = scripted(tokenizer, {f"Item {id}": said for id, _, said in ENTITIES})
    records = records_of(task("answer", metric="span-f1"), candidate, rows)
    tops, bottoms = parts(records)
    assert value_of(records) == pytest.approx(2 * 3 / (5 + 6))
    assert sum(tops) / sum(bottoms) != pytest.approx(np.mean([row["correct"] for row in records]))
    write_records(tmp_path, records)
    assert value_of(read_table(tmp_path)) == value_of(records)


CLASSES = {"classes": ["yes", "no", "maybe"]}
JUDGEMENTS = [("yes", "yes"), ("no", "yes"), ("maybe", "maybe"), ("no", "no"), ("yes", "no"), ("yes", "yes")]


def test_macro_f1_is_that_of_all_items_and_its_influences_average_to_it(tokenizer: Any) -> None:
    rows = [
        {"id": str(n), "prompt": f"Case {n}.", "answers": [gold], "facts": CLASSES}
        for n, (gold, _) in enumerate(JUDGEMENTS)
    ]
    candidate = scripted(tokenizer, {f"Case {n}.": said for n, (_, said) in enumerate(JUDGEMENTS)})
    records = records_of(task("answer", metric="macro-f1"), candidate, rows)
    gold, said = zip(*JUDGEMENTS, strict=True)
    expected = f1_score(gold, said, average="macro")
    tops, bottoms = parts(records)
    assert value_of(records) == pytest.approx(expected) == sum(tops) / sum(bottoms)
    without = [
        f1_score(gold[:n] + gold[n + 1 :], said[:n] + said[n + 1 :], average="macro") for n in range(6)
    ]
    jackknife = [expected + 5 * (np.mean(without) - each) for each in without]
    assert tops == pytest.approx(jackknife), "as the leave-one-out values deviate"


def test_several_wordings_of_a_free_answer_are_averaged(tokenizer: Any) -> None:
    candidate = scripted(tokenizer, {"QUESTION: one": "1", "Question: one": "no", "two": "2", "three": "3"})
    asked = task("answer", metric="exact-number", templates=["question", "capitals"])
    records = records_of(asked, candidate, NUMBERS)
    assert parts(records)[0] == [0.5, 1.0, 1.0]


SCALE = ["never", "rarely", "often"]
STATEMENTS: list[dict[str, Any]] = [
    {"id": "s1", "prompt": "Patients lie.", "facts": {"reversed": False}},
    {"id": "s2", "prompt": "Patients are honest.", "facts": {"reversed": True}},
]


def test_the_expected_step_of_a_scale_is_the_mean_over_all_rotations(model: Any, tokenizer: Any) -> None:
    records = records_of(task("likert", scale=SCALE), Candidate(model, tokenizer, 128), STATEMENTS)
    assert [row["order"] for row in records] == [0, 1, 2] * 2
    for row in records:
        turned = SCALE[row["order"] :] + SCALE[: row["order"]]
        statement = next(each for each in STATEMENTS if each["id"] == row["id"])
        listed = "\n".join(f"{letter}. {step}" for letter, step in zip("ABC", turned, strict=True))
        prompt = f"Question: {statement['prompt']}\n{listed}\nAnswer:"
        sums = []
        for letter in "ABC":
            read = piece(tokenizer, prompt, f" {letter}", bos=True)
            with torch.no_grad():
                logs = model(torch.tensor([read.ids])).logits[0].double().log_softmax(-1)
            sums.append(sum(float(logs[at - 1, read.ids[at]]) for at in range(read.start, len(read.ids))))
        chances = np.exp(sums) / np.exp(sums).sum()
        step = sum(p * (SCALE.index(name) + 1) for p, name in zip(chances, turned, strict=True))
        expected = 4 - step if statement["facts"]["reversed"] else step
        assert row["correct"] == pytest.approx(expected, abs=1e-5)
    assert value_of(records) == pytest.approx(np.mean([row["correct"] for row in records]))
    assert not lower_is_better(records[0]["metric"])


def test_a_wording_that_lists_no_steps_compares_their_texts(model: Any, tokenizer: Any) -> None:
    asked = task("likert", scale=SCALE, templates=["{{ question }} This happens"])
    records = records_of(asked, Candidate(model, tokenizer, 128), STATEMENTS)
    assert [(row["scorer"], row["order"]) for row in records] == [("option-text", 0)] * 2


def test_eigenscore_is_that_of_the_replies_last_states(model: Any, tokenizer: Any) -> None:
    candidate = Candidate(model, tokenizer, 128)
    rows = [{"id": "q1", "prompt": "Which organ?"}, {"id": "q2", "prompt": "What is it?"}]
    records = records_of(task("variance", samples=4, temperature=1.5), candidate, rows)
    assert len(records) == 2 * (4 + 1)
    for row, main in zip(rows, main_rows(records), strict=True):
        replies = [each for each in records if each["id"] == row["id"] and not each["main"]]
        states = []
        for each in replies:
            ids = [tokenizer.bos_token_id, *encode(tokenizer, f"Question: {row['prompt']}\nAnswer:")]
            ids += encode(tokenizer, each["reply"])[:16]
            with torch.no_grad():
                states.append(model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0, -1])
        covariance = np.cov(torch.stack(states).double().numpy()) + 1e-3 * np.eye(4)
        assert main["correct"] == pytest.approx(np.linalg.slogdet(covariance)[1] / 4, abs=1e-3)
        assert 0 <= main["parts"]["lexical_consistency"] <= 1
    assert lower_is_better(records[0]["metric"])


def test_lower_is_better_for_compression_and_variance_only() -> None:
    assert [
        name for name in ("bits_per_byte", "eigenscore", "invented-numbers") if lower_is_better(name)
    ] == [
        "bits_per_byte",
        "eigenscore",
        "invented-numbers",
    ]
    assert not any(map(lower_is_better, ["accuracy", "rougeL", "scale_mean", "preference_accuracy"]))


CRITERIA: list[dict[str, Any]] = [
    {"criterion": "Names the kidney", "points": 5, "pattern": "(?i)kidney"},
    {"criterion": "Is polite", "points": 3},
    {"criterion": "Advises harm", "points": -4, "pattern": "harm"},
]
CONVERSATIONS: list[dict[str, Any]] = [
    {"id": "c1", "prompt": "Which organ filters blood?", "facts": {"criteria": CRITERIA}},
    {"id": "c2", "prompt": [{"role": "user", "content": "Hello"}], "facts": {"criteria": CRITERIA[:2]}},
]


@pytest.fixture
def judge(model: Any, tokenizer: Any, tmp_path: Path) -> Path:
    directory = tmp_path / "judge"
    wide = type(model)(type(model.config)(**{**model.config.to_dict(), "max_position_embeddings": 1024}))
    wide.load_state_dict(model.state_dict())
    wide.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def test_criteria_are_judged_by_yes_against_no_in_both_orders(tokenizer: Any, judge: Path) -> None:
    candidate = scripted(tokenizer, {"organ": "The kidney.", "Hello": "Hello!"})
    records = records_of(task("rubric", judge=str(judge)), candidate, CONVERSATIONS)
    judging = Candidate.load(judge, 4000)
    first = records[0]
    met = []
    for criterion in CRITERIA:
        odds = 0.0
        for order in ("yes or no", "no or yes"):
            prompt = tokenizer.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": "Conversation:\nuser: Which organ filters blood?\nassistant: The kidney.\n\n"
                        f"Criterion: {criterion['criterion']}\nDoes the last reply of the assistant meet the "
                        f"criterion? Answer {order}.",
                    }
                ],
                tokenize=False,
                add_generation_prompt=True,
            )
            for word, sign in (("yes", 1), ("no", -1)):
                read = piece(tokenizer, prompt, word, bos=False)
                with torch.no_grad():
                    logs = judging.model(torch.tensor([read.ids])).logits[0].double().log_softmax(-1)
                odds += sign * sum(
                    float(logs[at - 1, read.ids[at]]) for at in range(read.start, len(read.ids))
                )
        met.append(odds > 0)
    expected = sum(c["points"] for c, is_met in zip(CRITERIA, met, strict=True) if is_met) / 8
    assert first["correct"] == pytest.approx(expected)
    assert first["parts"]["checked"] == 2 and first["parts"]["check"] == 1
    assert re.fullmatch(r"judge [0-9a-f]{16}", first["rule"])
    assert first["reply"] == "The kidney." and records[1]["parts"]["criteria"] == 2


def test_kappa_of_judge_and_programs() -> None:
    rows = [{"parts": {"checked": 50.0, "judge": 25.0, "check": 30.0, "both": 20.0}}]
    assert judge_kappa(rows) == pytest.approx(0.4)  # 20, 5, 10, 15: Cohen's textbook table
    assert judge_kappa([{"parts": {"score": 1.0}}]) is None


def test_a_rubric_without_a_judge_is_refused_before_a_model_is_loaded(make_corpus: Any) -> None:
    corpus = make_corpus("c", CONVERSATIONS)
    with pytest.raises(ResidencyError, match="no judge"):
        read_items(task("rubric"), corpus)


def test_items_that_a_metric_cannot_score_are_refused_before_a_model_is_loaded(make_corpus: Any) -> None:
    corpus = make_corpus("c", [{"id": str(n), "prompt": "How much?", "answers": ["some"]} for n in range(3)])
    with pytest.raises(ResidencyError, match="is no number"):
        read_items(task("answer", metric="exact-number"), corpus)
    with pytest.raises(ResidencyError, match="not known"):
        read_items(task("answer", metric="exact-nomber"), corpus)


def test_another_judge_at_the_same_place_is_another_key(judge: Path, tmp_path: Path) -> None:
    asked = task("rubric", judge=str(judge))
    key = cache.model_key(judge, 128)
    before = cache.path_of(tmp_path, asked, {}, key)
    from safetensors.torch import load_file, save_file

    weights = load_file(judge / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    assert cache.path_of(tmp_path, asked, {}, key) != before


def test_values_are_numbers(tokenizer: Any) -> None:
    candidate = scripted(tokenizer, {"": ""})
    records = records_of(task("answer", metric="bleu"), candidate, NUMBERS)
    assert math.isfinite(value_of(records)) and all(map(math.isfinite, parts(records)[0]))
    assert [row["status"] for row in records] == ["invalid"] * 3
