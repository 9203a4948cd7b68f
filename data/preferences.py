"""Pairs and rankings of replies as different tools write them. No torch here.

Pairs are TRL's explicit- and implicit-prompt forms, plain or conversational; rankings are a prompt with several
replies and a rank or score for each (arXiv:2203.02155 collects 4 to 9)."""

from __future__ import annotations

from typing import Any

from residency.data.fields import Message, Row, RowError, messages, text, texts, wrong

SIDES = ("chosen", "rejected")
REPLIES = ("responses", "answers")
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
    extra = {key: text(row, key) for key in ("cluster", "aspect") if row.get(key) is not None}
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **extra}


def of_ranking(row: Row) -> Row:
    """`prompt`, `responses` or `answers`, and for each its rank (1 is best) or score (the highest is best)."""
    prompt: list[Message] = messages(row, "prompt", role="user")
    key = next(key for key in REPLIES if key in row)
    replies = texts(row, key, row[key], least=2)
    by = next((name for name in (*RANKS, *SCORES) if row.get(name) is not None), None)
    if by is None:
        raise RowError(
            f"row {row['id']}: replies without ranks or scores", cure=f"It has {', '.join(sorted(row))}"
        )
    values = row[by]
    if not isinstance(values, list) or len(values) != len(replies) or not all(map(_is_number, values)):
        raise wrong(row, by, values, f"{len(replies)} numbers, one for each of {key}")
    worth = [-value if by in RANKS else value for value in values]
    order = sorted(range(len(replies)), key=lambda place: -worth[place])  # equal ones stay in their order
    ranks = [1 + sum(other > worth[place] for other in worth) for place in order]
    return {"prompt": prompt, "replies": [replies[place] for place in order], "ranks": ranks}


def with_line_ends(steps: list[str]) -> list[str]:
    """Steps that make up a reply when they are put together: each on a line of its own unless it brings other space."""
    pairs = zip(steps, [*steps[1:], " "], strict=True)
    return [step if step[-1:].isspace() or after[:1].isspace() else f"{step}\n" for step, after in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
