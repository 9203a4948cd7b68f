"""Pairs and rankings of replies as different tools write them. No torch here.

Pairs are TRL's explicit- and implicit-prompt forms, plain or conversational; rankings are a prompt with several
replies and a rank or score for each (arXiv:2203.02155 collects 4 to 9)."""

from __future__ import annotations

from typing import Any

from residency.data.rows.fields import Message, Row, RowError, messages, text, texts, wrong

SIDES = ("chosen", "rejected")
REPLIES = ("responses", "replies", "answers")
RANKS = ("ranks", "rank")
SCORES = ("scores", "score")


def of_pair(row: Row) -> Row:
    """`chosen` and `rejected`, texts or messages, with `prompt` or with the prompt as their common start."""
    chosen, rejected = (messages(row, side, role="assistant") for side in SIDES)
    if "prompt" in row:
        prompt = messages(row, "prompt", role="user")
        # Some data sets repeat the prompt at the start of both sides.
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise RowError(
                f"row {row['id']}: no prompt, and chosen and rejected do not start with the same message",
                cure="Give prompt, or whole conversations on both sides",
            )
    for side, said in zip(SIDES, (chosen, rejected), strict=True):
        if not said or said[0]["role"] != "assistant" or said[-1]["role"] != "assistant":
            raise wrong(row, side, row[side], "a reply of the assistant to the prompt")
    extra: Row = {key: text(row, key) for key in ("cluster", "aspect") if row.get(key) is not None}
    if row.get("unfinished") is not None:
        if not isinstance(row["unfinished"], bool):
            raise wrong(row, "unfinished", row["unfinished"], "true or false")
        extra["unfinished"] = row["unfinished"]
    if row.get("margin") is not None:
        if not _is_number(row["margin"]) or row["margin"] < 0:
            raise wrong(row, "margin", row["margin"], "a number of at least 0")
        extra["margin"] = float(row["margin"])
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **extra}


def is_labelled(row: Row) -> bool:
    """Whether a row says of its completion that it is a good or a bad one."""
    return isinstance(row["label"], bool)


def of_label(row: Row) -> Row:
    """`prompt`, `completion` and `label`: TRL's unpaired form, true for a good completion (arXiv:2402.01306)."""
    prompt, completion = (
        messages(row, key, role=role) for key, role in (("prompt", "user"), ("completion", "assistant"))
    )
    if not completion or completion[0]["role"] != "assistant" or completion[-1]["role"] != "assistant":
        raise wrong(row, "completion", row["completion"], "a reply of the assistant to the prompt")
    return {"prompt": prompt, "completion": completion, "label": row["label"]}


def of_ranking(row: Row) -> Row:
    """`prompt`, `responses`, `replies` or `answers`, and for each its rank (1 is best) or score (the highest is best).

    Scores are kept. Where there are ranks too, they decide, and the scores must not contradict them."""
    prompt: list[Message] = messages(row, "prompt", role="user")
    key = next(key for key in REPLIES if key in row)
    replies = texts(row, key, row[key], least=2)
    ranked_by, scored_by = (
        next((name for name in names if row.get(name) is not None), None) for names in (RANKS, SCORES)
    )
    by = ranked_by or scored_by
    if by is None:
        raise RowError(
            f"row {row['id']}: replies without ranks or scores", cure=f"It has {', '.join(sorted(row))}"
        )
    for name in {by, scored_by or by}:
        values = row[name]
        if not isinstance(values, list) or len(values) != len(replies) or not all(map(_is_number, values)):
            raise wrong(row, name, values, f"{len(replies)} numbers, one for each of {key}")
    worth = [-value for value in row[by]] if ranked_by else row[by]
    order = sorted(range(len(replies)), key=lambda place: -worth[place])  # equal ones stay in their order
    ranks = [1 + sum(other > worth[place] for other in worth) for place in order]
    made: Row = {"prompt": prompt, "replies": [replies[place] for place in order], "ranks": ranks}
    if scored_by:
        scores = made["scores"] = [float(row[scored_by][place]) for place in order]
        if any(
            better < worse and rank < below
            for better, worse, rank, below in zip(scores, scores[1:], ranks, ranks[1:], strict=False)
        ):
            raise wrong(row, scored_by, row[scored_by], f"scores that fall where {ranked_by} do")
    if row.get("cluster") is not None:
        made["cluster"] = text(row, "cluster")
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
