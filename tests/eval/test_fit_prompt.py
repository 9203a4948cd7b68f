"""Prompts of replies as token ids: what is given up where they do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from residency.errors import ResidencyError
from residency.eval.items import Item, fit_prompt, piece
from residency.eval.prompt import ask
from residency.eval.settings import TASK

SHOTS = [
    {"id": f"s{n}", "prompt": f"Is {n} odd?", "options": ["yes", "no"], "answer": 1 - n % 2} for n in range(3)
]
ROW = {"id": "r", "prompt": "Which organ filters blood?", "options": ["heart", "kidney"], "answer": 1}


def fitted(tokenizer: Any, max_length: int, **fields: Any) -> Item:
    task = TASK.validate_python(
        {
            "kind": "choice",
            "name": "t",
            "domain": "medicine",
            "items": "c",
            "scorers": ["reply"],
            "max_new_tokens": 16,
            **fields,
        }
    )
    assert task.kind == "choice"
    return fit_prompt(
        task,
        ROW,
        tokenizer,
        max_length,
        SHOTS,
        lambda kept: ask(task, ROW, tokenizer, scorer="reply", shots=kept),
    )


def test_prompts_give_up_the_oldest_shots_and_then_their_left_end(tokenizer: Any) -> None:
    whole = fitted(tokenizer, 1000)
    text = tokenizer.decode(whole.pieces[0].ids)
    assert (whole.cut_shots, whole.cut_tokens) == (0, 0)
    assert text.startswith("<|begin|>Question: Is 0 odd?") and text.endswith("kidney\nAnswer:")
    fewer = fitted(tokenizer, len(whole.pieces[0].ids) + 15)
    assert (fewer.cut_shots, fewer.cut_tokens) == (1, 0)
    assert tokenizer.decode(fewer.pieces[0].ids).startswith("<|begin|>Question: Is 1 odd?")
    cut = fitted(tokenizer, 40)
    assert cut.cut_shots == 3 and cut.cut_tokens > 0
    assert len(cut.pieces[0].ids) == 24
    assert (
        tokenizer.decode(cut.pieces[0].ids).startswith("<|begin|>")
        and cut.pieces[0].ids[1:] == (whole.pieces[0].ids[-23:])
    )


def test_prompts_are_tokenised_as_those_of_the_likelihoods_and_have_one_first_token(tokenizer: Any) -> None:
    plain, chat = fitted(tokenizer, 1000).pieces[0].ids, fitted(tokenizer, 1000, chat=True).pieces[0].ids
    for ids, bos in ((plain, True), (chat, False)):
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        text = tokenizer.decode(ids).removeprefix("<|begin|>") if bos else tokenizer.decode(ids)
        assert piece(tokenizer, text, " B", bos=bos).ids[: len(ids)] == ids


def test_a_reply_that_fills_the_window_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match="max_new_tokens = 16 leaves no room"):
        fitted(tokenizer, 16)
