"""Scores against direct, unbatched computations over the whole sequence."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from residency.errors import Exit, ResidencyError
from residency.eval import score
from residency.eval.evaluate import score_task
from residency.eval.items import Piece, _piece, make_item
from residency.eval.settings import TaskSettings

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
    return TaskSettings.model_validate(
        {"kind": kind, "name": "t", "domain": "medicine", "items": "c", **fields}
    )


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
    [record] = score_task(model, tokenizer, task(), [row], 128)
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
    [record] = score_task(model, tokenizer, task(scorer="letter"), [CHAT], 128)
    prompt = "<|begin|><|user|>What treats Bakosis?\nA. Tolin\nB. Vidolin é<|end|><|assistant|>"
    before = tokenizer.encode(prompt, add_special_tokens=False)
    expected = [direct(model, before + tokenizer.encode(letter), len(before)) for letter in "AB"]
    assert record["scores"] == pytest.approx(expected, abs=1e-5)
    item = make_item(task(scorer="letter"), CHAT, tokenizer, 128)
    assert len(score._rows(item.pieces)) == 1


def test_a_merge_across_the_boundary_is_scored_whole(tokenizer: Any) -> None:
    # Alone, the prompt ends with the token of a blank; joined, the blank is part of the reply's first token.
    across = _piece(tokenizer, "is ", "tolin", bos=True)
    assert tokenizer.decode(across.ids[across.start :]) == " tolin"
    assert _piece(tokenizer, "is", "", bos=True).start == 2, "no continuation is empty"


def test_batching_changes_nothing(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [
        Piece([0, *tokenizer.encode("The liver of a fox is red. " * times)[:120]], start)
        for times, start in [(1, 1), (4, 30), (2, 5), (3, 60), (1, 20), (4, 2)]
    ]
    alone = [direct(model, piece.ids, piece.start) for piece in pieces]
    assert score.log_likelihoods(model, pieces) == pytest.approx(alone, abs=1e-4)
    monkeypatch.setattr(score, "TOKENS_PER_BATCH", {"cpu": 1})
    assert {len(batch) for batch in score._batches(pieces, 1, 10)} == {1}
    assert score.log_likelihoods(model, pieces) == pytest.approx(alone, abs=1e-4)


def test_batches_stay_within_their_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Piece([place, *range(length)], 1) for place, length in enumerate([9, 3, 5, 7, 2, 8, 4])]
    batches = list(score._batches(pieces, 16, 10))
    assert sorted(index for batch in batches for _, readers in batch for index in readers) == list(range(7))
    assert all(len(batch) * len(batch[0][0]) <= 16 for batch in batches)
    monkeypatch.setattr(score, "LOGITS_PER_BATCH", 90)
    assert all(len(batch) * len(batch[0][0]) <= 9 for batch in score._batches(pieces, 16, 10))


def test_bits_per_byte_is_the_naive_loop(model: Any, tokenizer: Any) -> None:
    texts = ["Bakosis attacks the liver. It is treated with tolin, é and ß." * 3, "Short.", "x"]
    rows = [{"id": str(place), "text": text} for place, text in enumerate(texts)]
    records = score_task(model, tokenizer, task("bits-per-byte"), rows, 16)
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
    [record] = score_task(model, tokenizer, task("preference"), [PAIR], 128)
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
    whole = make_item(task(), row, tokenizer, 1000)
    item = make_item(task(), row, tokenizer, 64)
    assert item.cut_tokens == max(len(piece.ids) for piece in whole.pieces) - 64
    assert all(piece.ids[0] == tokenizer.bos_token_id for piece in item.pieces)
    assert tokenizer.decode(item.pieces[1].ids[item.pieces[1].start :]) == " vidolin"
    starts = {tuple(piece.ids[: piece.start]) for piece in item.pieces[1:]}
    assert len(starts) == 1, "all options see the same prompt"
    [record] = score_task(model, tokenizer, task(), [row], 64)
    assert record["cut_tokens"] == item.cut_tokens


def test_answers_longer_than_the_window_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match="item 'c1' alone is longer than max_length 8"):
        make_item(task(), CLOZE, tokenizer, 8)


def test_conversations_need_a_chat_template(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ResidencyError, match="no chat template"):
        make_item(task(), CHAT, tokenizer, 128)


def test_logits_are_float32_for_bfloat16_weights(model: Any) -> None:
    coarse = type(model)(model.config).to(torch.bfloat16).eval()
    coarse.load_state_dict(model.state_dict())
    score.float32_head(coarse)
    [value] = score.log_likelihoods(coarse, [Piece([0, 70, 71, 72], 1)])
    ids = torch.tensor([[0, 70, 71]])
    with torch.no_grad():
        hidden = coarse.model(ids).last_hidden_state
        logs = (hidden.double() @ coarse.lm_head.weight.double().T)[0].log_softmax(-1)
    expected = float(logs[0, 70] + logs[1, 71] + logs[2, 72])
    assert value == pytest.approx(expected, abs=1e-5)


def test_a_diverged_model_is_named(model: Any) -> None:
    broken = type(model)(model.config).eval()
    torch.nn.init.constant_(broken.lm_head.weight, math.nan)
    with pytest.raises(ResidencyError, match="diverged") as caught:
        score.log_likelihoods(broken, [Piece([0, 1], 1)])
    assert caught.value.code is Exit.DIVERGED
