"""Multiple choice by written replies: what is asked, what is read, votes, and where solved examples come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from residency.artifact import RunPaths, StageFile, identity_of, open_attempt
from residency.data import corpus
from residency.data.settings import CorpusSettings
from residency.eval.candidate import Candidate
from residency.eval.comparison.agreement import agreement, validity
from residency.eval.items import encode
from residency.eval.measures import measure
from residency.eval.prompt import Row, shown_order
from residency.eval.records import Record, main_rows, value_of
from residency.eval.rows import read_items
from residency.eval.settings import TASK, ChoiceTask, TaskSettings, load_task
from residency.eval.shots import Shots
from residency.eval.writing.hidden import middle_states
from residency.eval.writing.nearest import NearestShots
from residency.generation.generate import Reply

ROWS: list[Row] = [
    {
        "id": "kidney",
        "prompt": "Which organ filters blood?",
        "options": ["heart", "kidney", "lung"],
        "answer": 1,
    },
    {
        "id": "heart",
        "prompt": "Which organ pumps blood?",
        "options": ["heart", "kidney", "lung"],
        "answer": 0,
    },
]
CHAT: list[Row] = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in ROWS]


@dataclass
class Scripted(Candidate):
    """A candidate whose replies are a function of the prompt and the sample: what no random model would write."""

    says: Callable[[str, int], str | Reply] = lambda prompt, sample: ""
    asked: list[str] = field(default_factory=list)
    stops: list[list[str]] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list)

    def write(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[Reply]]:
        texts = [self.tokenizer.decode(ids) for ids in prompts]
        self.asked += texts
        self.stops.append(list(stop))
        self.temperatures.append(temperature)
        return [[self._reply(text, sample) for sample in range(samples)] for text in texts]

    def _reply(self, prompt: str, sample: int) -> Reply:
        said = self.says(prompt, sample)
        return said if isinstance(said, Reply) else Reply(said, False, len(said))


def task(**fields: Any) -> TaskSettings:
    given = {"kind": "choice", "name": "t", "domain": "medicine", "items": "c", "scorers": ["reply"]}
    return TASK.validate_python(given | {"max_new_tokens": 16} | fields)


def scripted(tokenizer: Any, says: Callable[[str, int], str | Reply], model: Any = None) -> Scripted:
    return Scripted(model, tokenizer, 4000, says=says)


def by_id(records: list[Record], id: str, **fields: Any) -> list[Record]:
    wanted = {"id": id, **fields}
    return [row for row in records if all(row[name] == value for name, value in wanted.items())]


def test_a_reply_of_a_model_is_read_and_its_end_counted(model: Any, tokenizer: Any) -> None:
    records = measure(task(), Candidate(model, tokenizer, 128), ROWS, Shots("t"), [])
    assert [row["id"] for row in records] == ["kidney", "heart"]
    for row in records:
        assert row["status"] in ("answered", "invalid", "refused", "truncated")
        assert row["correct"] == float(row["prediction"] is not None and row["prediction"] == row["answer"])
        assert (row["main"], row["sample"], row["scorer"]) == (True, 0, "reply")
        assert row["tokens"] <= 16 and row["bytes"] == len(row["reply"].encode())


def test_what_became_of_a_reply(tokenizer: Any) -> None:
    said = {"filters": "I'm sorry, I cannot answer that.", "pumps": " A. heart"}
    candidate = scripted(tokenizer, lambda prompt, _: next(v for k, v in said.items() if k in prompt))
    refused, right = measure(task(), candidate, ROWS, Shots("t"), [])
    assert (refused["status"], refused["prediction"], refused["correct"]) == ("refused", None, 0.0)
    assert (right["status"], right["prediction"], right["correct"]) == ("answered", 0, 1.0)
    candidate = scripted(tokenizer, lambda prompt, _: Reply(" The organ which does", True, 5))
    assert [row["status"] for row in measure(task(), candidate, ROWS, Shots("t"), [])] == ["truncated"] * 2
    candidate = scripted(tokenizer, lambda prompt, _: " Blue.")
    records = measure(task(), candidate, ROWS, Shots("t"), [])
    assert [row["status"] for row in records] == ["invalid"] * 2 and value_of(records) == 0.0
    assert validity(records) == {"answered": 0, "invalid": 2, "refused": 0, "truncated": 0}


def test_a_letter_is_read_in_the_order_shown(tokenizer: Any) -> None:
    candidate = scripted(tokenizer, lambda prompt, _: " B")
    records = measure(task(orders=6), candidate, ROWS, Shots("t"), [])
    own = by_id(records, "kidney")
    assert [row["prediction"] for row in own] == [shown_order(3, order)[1] for order in range(6)]
    assert [row["correct"] for row in own] == [1, 0, 0, 1, 0, 0]
    assert {tuple(shown_order(3, order)) for order in range(6)} == {
        (0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2)
    }  # fmt: skip
    assert "A. kidney\nB. lung\nC. heart" in candidate.asked[2]


def test_options_that_are_not_listed_must_be_named(tokenizer: Any) -> None:
    candidate = scripted(tokenizer, lambda *_: "It is the kidney.")
    for rows in (ROWS, CHAT):
        records = measure(task(listed=False), candidate, rows, Shots("t"), [])
        assert [row["correct"] for row in records] == [1, 0]
    assert not any(option in text for text in candidate.asked for option in ("kidney", "A. "))


def test_base_models_stop_at_the_next_question_and_chats_at_their_turn(tokenizer: Any) -> None:
    plain, chat = scripted(tokenizer, lambda *_: " A"), scripted(tokenizer, lambda *_: "A")
    measure(task(), plain, ROWS, Shots("t"), [])
    measure(task(), chat, CHAT, Shots("t"), [])
    assert "\n\n" in plain.stops[0] and chat.stops == [[]]
    assert plain.asked[0].endswith("C. lung\nAnswer:")
    assert chat.asked[0] == (
        "<|begin|><|user|>Which organ filters blood?\nA. heart\nB. kidney\nC. lung<|end|><|assistant|>"
    )


def test_self_consistency_is_the_majority_of_samples(tokenizer: Any) -> None:
    given = ["B", "A", "nothing I know", "B", "C"]
    candidate = scripted(tokenizer, lambda _, sample: f" So the answer is {given[sample]}.")
    records = measure(task(method="chain-of-thought", samples=5), candidate, ROWS, Shots("t"), [])
    assert candidate.temperatures == [0.7]
    assert candidate.asked[0].endswith("Answer: Let's think step by step.")
    assert "\n\n" not in candidate.stops[0], "reasoning may have paragraphs"
    alone, [vote] = by_id(records, "kidney", main=False), by_id(records, "kidney", main=True)
    assert [row["prediction"] for row in alone] == [1, 0, None, 1, 2]
    assert (vote["prediction"], vote["correct"], vote["sample"], vote["rule"]) == (
        1,
        1.0,
        None,
        "2 of 5 votes",
    )
    assert vote["parts"]["calls"] == 5 and vote["tokens"] == sum(row["tokens"] for row in alone)
    assert value_of(records) == 0.5


def test_a_vote_over_orders_is_one_answer_and_ties_fall_to_the_first(tokenizer: Any) -> None:
    candidate = scripted(tokenizer, lambda prompt, _: " lung" if "A. heart" in prompt else " kidney")
    records = measure(task(orders=2, vote=True), candidate, ROWS, Shots("t"), [])
    [vote] = by_id(records, "kidney", main=True)
    assert (vote["prediction"], vote["order"], vote["rule"]) == (2, None, "1 of 2 votes")
    candidate = scripted(tokenizer, lambda prompt, _: " kidney")
    records = measure(task(orders=3, vote=True), candidate, ROWS, Shots("t"), [])
    assert [row["correct"] for row in main_rows(records)] == [1.0, 0.0]
    nobody = scripted(tokenizer, lambda prompt, _: "")
    [vote, _] = main_rows(measure(task(orders=3, vote=True), nobody, ROWS, Shots("t"), []))
    assert (vote["status"], vote["prediction"], vote["correct"]) == ("invalid", None, 0.0)


@pytest.mark.parametrize("rows", [ROWS, CHAT], ids=["plain", "chat"])
def test_verification_argues_for_each_option_and_judges_the_arguments(
    tokenizer: Any, rows: list[Row]
) -> None:
    def says(prompt: str, _: int) -> str:
        if "Arguments for the options" in prompt:
            return "Answer: B"
        return " It is red." if "heart" in prompt.rpartition("lung")[2] else " It is\nnot."

    candidate = scripted(tokenizer, says)
    records = measure(task(method="verification-of-choice"), candidate, rows, Shots("t"), [])
    assert len(candidate.asked) == 2 * (3 + 1)
    plea = "Answer: A. heart\nExplanation:" if rows is ROWS else "Suppose that the answer is A. heart\n"
    assert plea in candidate.asked[0]
    judged = candidate.asked[6]
    assert "A. heart: It is red.\nB. kidney: It is not.\nC. lung: It is not." in judged
    assert judged.index("C. lung: It is not.") < judged.index("Answer:")
    assert [row["correct"] for row in records] == [1.0, 0.0]
    assert [row["parts"]["calls"] for row in records] == [4.0, 4.0]


def pool(*numbers: int) -> list[Row]:
    return [
        {"id": f"s{n}", "prompt": f"What is {n}?", "options": ["odd", "even"], "answer": 1 - n % 2}
        for n in numbers
    ]


def test_shots_carry_the_models_own_reasoning_only_where_it_was_right(tokenizer: Any) -> None:
    def says(prompt: str, _: int) -> str:
        return " Every number is odd. So the answer is A."

    candidate = scripted(tokenizer, says)
    shots = Shots("t", 2, pool(0, 1, 2, 3, 4, 5))
    source = {"source": "a.jsonl", "licence": "CC0-1.0"}
    asked = task(method="chain-of-thought", shots=2, shots_from=source)
    records = measure(asked, candidate, ROWS, shots, [])
    last = candidate.asked[-1]
    assert last.startswith("<|begin|>Question: What is 1?")
    assert (
        "Let's think step by step. Every number is odd. So the answer is A.\n\nQuestion: What is 3?" in last
    )
    assert "What is 0?" not in last and "What is 2?" not in last
    assert [row["cut_shots"] for row in records] == [0, 0]
    few = scripted(tokenizer, lambda prompt, _: " The answer is B.")
    records = measure(asked, few, ROWS, Shots("t", 2, pool(1, 2, 3)), [])
    assert [row["cut_shots"] for row in records] == [1, 1], "only one was solved"


def test_nearest_shots_are_those_of_the_models_own_states(model: Any, tokenizer: Any) -> None:
    candidate = Candidate(model, tokenizer, 128)
    rows: list[Row] = [
        {"id": str(n), "prompt": text, "options": ["a", "b"], "answer": 0}
        for n, text in enumerate(
            ["The kidney filters", "Dose of zolin", "Stars are far", "A heart pumps blood"]
        )
    ]
    question = {"id": "0", "prompt": "The kidney filters.", "options": ["a", "b"], "answer": 0}
    shots = NearestShots(candidate, Shots("t", 2, rows), [question])
    assert shots.of(question)[-1]["id"] == "0", "the nearest stands next to the question"
    ids = [[tokenizer.bos_token_id, *encode(tokenizer, row["prompt"])] for row in [*rows, question]]
    states = middle_states(model, ids, "mean")
    states -= states[:4].mean(axis=0)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    expected = np.argsort(-(states[:4] @ states[4]), kind="stable")
    assert [row["id"] for row in shots.ranked(question)] == [str(place) for place in expected]


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_middle_states_are_those_of_each_text_alone(model: Any, tokenizer: Any, pool: Any) -> None:
    texts = [encode(tokenizer, text) for text in ["Heart", "Which organ filters blood?", "A"]]
    found = middle_states(model, texts, pool)
    for ids, state in zip(texts, found, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        expected = hidden.mean(0) if pool == "mean" else hidden[-1]
        np.testing.assert_allclose(state, expected, atol=1e-5)


def test_medprompt_is_nearest_shots_with_reasoning_and_a_vote_over_orders(model: Any, tokenizer: Any) -> None:
    def says(prompt: str, _: int) -> str:
        return (
            " It is the kidney. So the answer is kidney."
            if "organ" in prompt.rpartition("Question:")[2]
            else " A."
        )

    candidate = scripted(tokenizer, says, model)
    source = {"source": "a.jsonl", "licence": "CC0-1.0"}
    asked = task(
        method="chain-of-thought", shots=2, shots_from=source, shots_by="nearest", orders=5, vote=True
    )
    records = measure(asked, candidate, ROWS, Shots("t", 2, pool(1, 3, 5)), [])
    assert len(records) == 2 * 5 + 2
    assert [row["correct"] for row in main_rows(records)] == [1.0, 0.0]
    assert [row["rule"] for row in main_rows(records)] == ["5 of 5 votes"] * 2


def test_scorers_disagree_and_replies_are_counted(model: Any, tokenizer: Any) -> None:
    candidate = scripted(tokenizer, lambda prompt, sample: " kidney" if sample else "", model)
    asked = task(scorers=["option-text", "letter", "reply"], samples=3)
    records = measure(asked, candidate, ROWS, Shots("t"), [])
    found = agreement(records)
    assert {row["scorer"] for row in main_rows(records)} == {"option-text"}
    assert found["scorers"]["reply"] == {
        "accuracy": 0.5, "items": 2, "below_floor": False,
        "validity": {"answered": 4, "invalid": 2, "refused": 0, "truncated": 0},
    }  # fmt: skip
    assert found["scorers"]["option-text"]["accuracy"] == value_of(records)
    letters, texts = (
        {row["id"]: row["prediction"] for row in records if row["scorer"] == scorer}
        for scorer in ("letter", "option-text")
    )
    assert found["pairs"][frozenset(("option-text", "letter"))] == np.mean(
        [letters[id] != texts[id] for id in letters]
    )
    assert found["pairs"][frozenset(("letter", "reply"))] == np.mean([letters[id] != 1 for id in letters])
    assert found["disagree"] == np.mean([{letters[id], texts[id]} != {1} for id in letters])
    assert agreement(records, floor=0.6)["scorers"]["reply"]["below_floor"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scorers": ["letter"], "samples": 3}, "name reply among scorers"),
        ({"scorers": ["reply", "letter"], "listed": False}, "need options that are listed"),
        (
            {
                "method": "verification-of-choice",
                "shots": 1,
                "shots_from": {"source": "a.jsonl", "licence": "CC0-1.0"},
            },
            "no shots",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        task(**fields)


@pytest.mark.parametrize("name", ["pubmedqa-medprompt", "pubmedqa-verification", "pubmedqa-reasoned"])
def test_the_shipped_methods_run_on_pubmedqa(
    name: str, model: Any, tokenizer: Any, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    shipped = load_task(name, limit=2, max_new_tokens=4)
    assert isinstance(shipped, ChoiceTask) and isinstance(shipped.items, CorpusSettings)
    rows = read_items(shipped, made(tmp_path, "items", shipped.items))
    solved: list[Row] = []
    if shipped.shots_from:
        pool = made(tmp_path, "shots", shipped.shots_from.model_copy(update={"limit": 5}))
        solved = read_items(shipped.model_copy(update={"limit": None}), pool, solved=True)
    wide = type(model)(
        type(model.config)(**{**model.config.to_dict(), "max_position_embeddings": 4096})
    ).eval()
    records = measure(shipped, Candidate(wide, tokenizer, 4096), rows, Shots(name, shipped.shots, solved), [])
    replies = {"pubmedqa-medprompt": 5 + 1, "pubmedqa-verification": 1, "pubmedqa-reasoned": 5 + 1}[name]
    written = [row for row in records if row["scorer"] == "reply"]
    assert len(written) == 2 * replies and len(main_rows(records)) == 2
    assert {row["scorer"] for row in records} == {"reply", "letter"}
    assert sum(row["parts"]["calls"] for row in main_rows(records)) == 2 * (
        4 if name == "pubmedqa-verification" else 5
    )


def made(directory: Path, name: str, settings: CorpusSettings) -> Path:
    """The corpus of a task's rows."""
    filled = settings.model_dump() | {"seed": 0}
    stage = StageFile(
        name=name,
        kind="corpus",
        identity=identity_of(settings=filled),
        settings=filled,
        parents={},
        run=directory,
    )
    return corpus.run(open_attempt(RunPaths(directory), stage))
