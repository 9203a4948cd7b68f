"""What is read and what is scored, against direct, unbatched computations over the whole sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, piece
from residency.eval.measures import measure
from residency.eval.measures.preference import pair
from residency.eval.records import Record
from residency.eval.settings import TASK, PreferenceTask, TaskSettings
from residency.eval.shots import Shots

CLOZE = {
    "id": "c1",
    "prompt": "The drug for Bakosis is",
    "options": [" tolin", " vidolin", " zu"],
    "answer": 1,
}
REVIEW = {"id": "r1", "prompt": "Which organ filters blood?", "options": ["heart", "kidney"], "answer": 1}
CHAT = {
    "id": "q1",
    "cluster": "fact/1",
    "prompt": [{"role": "user", "content": "What treats Bakosis?"}],
    "options": ["Tolin", "Vidolin é"],
    "answer": 0,
}
PAIR = {
    "id": "p1",
    "prompt": [{"role": "user", "content": "What treats Bakosis?"}],
    "chosen": [{"role": "assistant", "content": "Tolin."}],
    "rejected": [{"role": "assistant", "content": "Vidolin is given."}],
}


def task(kind: str = "choice", **fields: Any) -> TaskSettings:
    return TASK.validate_python({"kind": kind, "name": "t", "domain": "medicine", "items": "c", **fields})


def records_of(
    model: Any, tokenizer: Any, task: TaskSettings, rows: list[Any], max_length: int = 128, shots: Any = None
) -> list[Record]:
    return measure(task, Candidate(model, tokenizer, max_length), rows, shots or Shots("t"), [])


def item_of(tokenizer: Any, task: TaskSettings, row: Any, max_length: int = 128, shots: Any = None) -> Item:
    assert task.kind == "choice"
    candidate = Candidate(None, tokenizer, max_length)
    solved = (shots or Shots("t")).of(row)
    return candidate.ask(task, row, solved, scorer=task.scorers[0], template=task.templates[0])


PREFERENCE = PreferenceTask(name="t", domain="medicine", items="c")
CLOZE_TASK = task(templates=["cloze"])


def direct(model: Any, ids: list[int], start: int) -> float:
    """Sum of log p of ids[start:], from one forward over the sequence alone."""
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids)))


@pytest.mark.parametrize(
    ("row", "prompt", "options"),
    [
        (CLOZE, "<|begin|>The drug for Bakosis is", [" tolin", " vidolin", " zu"]),
        (REVIEW, "<|begin|>Question: Which organ filters blood?\nAnswer:", [" heart", " kidney"]),
        (CHAT, "<|begin|><|user|>What treats Bakosis?<|end|><|assistant|>", ["Tolin", "Vidolin é"]),
    ],
    ids=["cloze", "question", "chat"],
)
def test_option_text_is_the_direct_mean_per_byte(
    model: Any, tokenizer: Any, row: dict[str, Any], prompt: str, options: list[str]
) -> None:
    [record] = records_of(
        model, tokenizer, task(templates=["cloze"] if row is CLOZE else ["question"]), [row]
    )
    before = tokenizer.encode(prompt, add_special_tokens=False)
    for place, option in enumerate(options):
        ids = before + tokenizer.encode(option, add_special_tokens=False)
        total = direct(model, ids, len(before))
        assert record["sums"][place] == pytest.approx(total, abs=1e-5)
        assert record["scores"][place] == pytest.approx(total / len(option.strip().encode()), abs=1e-5)
    assert record["prediction"] == record["scores"].index(max(record["scores"]))
    assert record["correct"] == float(record["prediction"] == row["answer"])
    assert record["cluster"] == row.get("cluster", row["id"])


def test_letters_are_scored_after_the_listed_options_in_one_row(model: Any, tokenizer: Any) -> None:
    [record] = records_of(model, tokenizer, task(scorers=["letter"]), [CHAT])
    prompt = "<|begin|><|user|>What treats Bakosis?\nA. Tolin\nB. Vidolin é<|end|><|assistant|>"
    before = tokenizer.encode(prompt, add_special_tokens=False)
    expected = [direct(model, before + tokenizer.encode(letter), len(before)) for letter in "AB"]
    assert record["scores"] == pytest.approx(expected, abs=1e-5)
    item = item_of(tokenizer, task(scorers=["letter"]), CHAT)
    assert len({tuple(each.ids[:-1]) for each in item.pieces}) == 1


def test_a_merge_across_the_boundary_is_scored_whole(tokenizer: Any) -> None:
    # Alone, the prompt ends with the token of a blank; joined, the blank is part of the reply's first token.
    across = piece(tokenizer, "is ", "tolin", bos=True)
    assert tokenizer.decode(across.ids[across.start :]) == " tolin"
    assert piece(tokenizer, "is", "", bos=True).start == 2, "no continuation is empty"


def test_bits_per_byte_is_the_naive_loop(model: Any, tokenizer: Any) -> None:
    texts = ["Bakosis attacks the liver. It is treated with tolin, é and ß." * 3, "Short.", "x"]
    rows = [{"id": str(place), "text": text} for place, text in enumerate(texts)]
    records = records_of(model, tokenizer, task("bits-per-byte"), rows, 16)
    for record, text in zip(records, texts, strict=True):
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
        nats = 0.0
        for place in range(1, len(ids)):
            begin = (place - 1) // 15 * 15  # windows of 16 that overlap by one
            nats -= direct(model, ids[begin : place + 1], place - begin)
        assert record["nats"] == pytest.approx(nats, rel=1e-5)
        assert record["bytes"] == len(text.encode())
        assert record["tokens"] == len(ids) - 1, "every token is predicted exactly once"


def test_preference_sums_the_reply_and_its_stop_token(model: Any, tokenizer: Any) -> None:
    [record] = records_of(model, tokenizer, task("preference"), [PAIR])
    before = tokenizer.encode("<|begin|><|user|>What treats Bakosis?<|end|><|assistant|>")
    expected = [
        direct(model, before + tokenizer.encode(f"{reply}<|end|>"), len(before))
        for reply in ("Tolin.", "Vidolin is given.")
    ]
    assert record["scores"] == pytest.approx(expected, abs=1e-5)
    assert record["margin"] == pytest.approx(expected[0] - expected[1], abs=1e-5)
    assert record["correct"] == float(expected[0] > expected[1])


def test_a_long_prompt_is_cut_on_the_left_and_counted(model: Any, tokenizer: Any) -> None:
    row = {**CLOZE, "prompt": "once " * 40 + "the drug is"}
    whole = item_of(tokenizer, CLOZE_TASK, row, 1000)
    item = item_of(tokenizer, CLOZE_TASK, row, 64)
    assert item.cut_tokens == max(len(piece.ids) for piece in whole.pieces) - 64
    assert all(piece.ids[0] == tokenizer.bos_token_id for piece in item.pieces)
    assert tokenizer.decode(item.pieces[1].ids[item.pieces[1].start :]) == " vidolin"
    starts = {tuple(piece.ids[: piece.start]) for piece in item.pieces[1:]}
    assert len(starts) == 1, "all options see the same prompt"
    [record] = records_of(model, tokenizer, CLOZE_TASK, [row], 64)
    assert record["cut_tokens"] == item.cut_tokens


def test_answers_longer_than_the_window_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match="item 'c1' alone is longer than max_length 8"):
        item_of(tokenizer, CLOZE_TASK, CLOZE, 8)


def test_conversations_need_a_chat_template(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ResidencyError, match="no chat template"):
        item_of(tokenizer, task(), CHAT)


def test_a_template_that_rewrites_the_prompt_is_refused(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages | length }}{{ messages[-1].content }}")
    rows = {
        "id": "p",
        "prompt": [{"role": "user", "content": "Why?"}],
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    with pytest.raises(ResidencyError, match="rewrites the prompt of 'p'"):
        pair(PREFERENCE, rows, tokenizer, 128)


SHOTS = [
    {
        "id": f"s{place}",
        "group": "ab"[place % 2],
        "prompt": f"Shot {place}?",
        "options": ["no", "yes"],
        "answer": 1,
    }
    for place in range(6)
]


def test_shots_are_of_the_questions_group_and_the_oldest_go_first(tokenizer: Any) -> None:
    asked = task(scorers=["letter"], shots=2, shots_from={"source": "x", "licence": "unknown"})
    row = {"id": "q", "group": "b", "prompt": "Which?", "options": ["left", "right"], "answer": 0}
    item = item_of(tokenizer, asked, row, 1000, Shots("t", 2, SHOTS))
    text = tokenizer.decode(item.pieces[0].ids)
    example = "Question: Shot {}?\nA. no\nB. yes\nAnswer: B\n\n"
    question = "Question: Which?\nA. left\nB. right\nAnswer: A"
    assert text == "<|begin|>" + example.format(1) + example.format(3) + question
    shorter = item_of(tokenizer, asked, row, len(item.pieces[0].ids) - 1, Shots("t", 2, SHOTS))
    assert shorter.cut_shots == 1
    assert tokenizer.decode(shorter.pieces[0].ids) == "<|begin|>" + example.format(3) + question


def test_orders_are_scored_where_they_stand_and_told_by_option(model: Any, tokenizer: Any) -> None:
    row = {"id": "q", "prompt": "Which?", "options": ["left", "right", "up"], "answer": 2}
    records = records_of(model, tokenizer, task(scorers=["letter", "option-text"], orders=3), [row])
    assert [(record["scorer"], record["order"], record["main"]) for record in records] == [
        *(("letter", order, True) for order in range(3)),
        *(("option-text", order, False) for order in range(3)),
    ]
    for record in records[:3]:
        assert record["prediction"] == (record["place"] + record["order"]) % 3
    rotated = "<|begin|>Question: Which?\nA. right\nB. up\nC. left\nAnswer:"
    ids = tokenizer.encode(rotated)
    letters = [direct(model, ids + tokenizer.encode(f" {letter}"), len(ids)) for letter in "ABC"]
    assert records[1]["sums"] == pytest.approx([letters[2], letters[0], letters[1]], abs=1e-5)
    texts = [record["scores"] for record in records[3:]]
    assert texts[1] == pytest.approx(texts[0], abs=1e-5), "option text does not depend on the order"


def test_an_option_that_reads_like_the_answer_is_right(model: Any, tokenizer: Any) -> None:
    row = {"id": "q", "prompt": "Which?", "options": ["up", "up"], "answer": 1}
    [record] = records_of(model, tokenizer, task(scorers=["option-text"]), [row])
    assert (record["prediction"], record["correct"]) == (0, 1.0)


def test_one_ending_is_scored_given_each_option(model: Any, tokenizer: Any) -> None:
    row = {
        "id": "w",
        "prompt": "",
        "options": ["She saw Ann", "She saw Bea"],
        "ending": "leave.",
        "answer": 1,
    }
    [record] = records_of(model, tokenizer, task(templates=["cloze"]), [row])
    for place, option in enumerate(("She saw Ann", "She saw Bea")):
        before = tokenizer.encode(f"<|begin|>{option}")
        assert record["sums"][place] == pytest.approx(
            direct(model, before + tokenizer.encode(" leave."), len(before)), abs=1e-5
        )


def test_a_continuation_is_right_when_it_is_the_likeliest(model: Any, tokenizer: Any) -> None:
    ids = torch.tensor([tokenizer.encode("<|begin|>The liver")])
    ids = model.generate(ids, max_new_tokens=1, do_sample=False)
    row = {"id": "l", "prompt": "The liver", "answers": ["zzz"]}
    [wrong] = records_of(model, tokenizer, task("continuation", templates=["cloze"]), [row])
    assert wrong["correct"] == 0.0
    assert wrong["nats"] > 0


def test_the_wording_is_chosen_on_the_validation_rows(model: Any, tokenizer: Any) -> None:
    source = {"source": "x", "licence": "unknown"}
    asked = task(templates=["question", "brackets", "plain"], validation=source, scorers=["letter"])
    rows = [
        {"id": f"q{place}", "prompt": f"Which {place}?", "options": ["left", "right"], "answer": place % 2}
        for place in range(6)
    ]
    candidate = Candidate(model, tokenizer, 128)
    every = measure(asked, candidate, rows, Shots("t"), [])
    totals = {
        template: sum(record["correct"] for record in every if record["template"] == template)
        for template in ("question", "brackets", "plain")
    }
    chosen = measure(asked, candidate, SHOTS, Shots("t"), rows)
    assert {record["template"] for record in chosen} == {max(totals, key=totals.__getitem__)}
    assert len(chosen) == len(SHOTS)


def test_a_wording_that_asks_for_an_unknown_field_is_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match="task t: templates: 'stem' is undefined"):
        records_of(model, tokenizer, task(templates=["{{ stem }}"]), [REVIEW])
