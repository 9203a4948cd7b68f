"""Dialogues as different tools write them, as messages. No torch here.

Alpaca: github.com/tatsu-lab/stanford_alpaca; `history` and `system` as LLaMA-Factory adds them. ShareGPT: as FastChat
and LLaMA-Factory read it. Prompt and completion: TRL's "prompt-completion" form."""

from __future__ import annotations

from typing import Any

from residency.data.rows.fields import (
    UNTRAINED,
    Message,
    Row,
    RowError,
    messages,
    optional_text,
    text,
    wrong,
)

SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


def of_messages(row: Row) -> Row:
    """`messages`: [{role, content}]."""
    return _answered(row, "messages", messages(row, "messages"))


def of_conversations(row: Row) -> Row:
    """`conversations`: [{from, value}], or messages under that key; perhaps with `system`."""
    turns = row["conversations"]
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]:
        said = messages(row, "conversations")
    elif isinstance(turns, list) and turns:
        said = [_turn(row, f"conversations[{place}]", turn) for place, turn in enumerate(turns)]
    else:
        raise wrong(row, "conversations", turns, "a list of {from: human|gpt|system, value: text}")
    return _answered(row, "conversations", _system(row) + said)


def of_instruction(row: Row) -> Row:
    """`instruction`, `output`, and perhaps `input` (joined by a blank line), `system` and `history`."""
    said, history = _system(row), row.get("history") or []
    for place, turn in enumerate(history if isinstance(history, list) else [history]):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(side, str) for side in turn):
            raise wrong(row, f"history[{place}]", turn, "[question, answer]")
        said += _exchange(*turn)
    asked, given = text(row, "instruction"), optional_text(row, "input")
    return {
        "messages": said + _exchange(f"{asked}\n\n{given}" if given.strip() else asked, text(row, "output"))
    }


def of_prompt(row: Row) -> Row:
    """`prompt` and `completion`, texts or messages."""
    said = messages(row, "prompt", role="user") + messages(row, "completion", role="assistant")
    return _answered(row, "completion", said)


def _turn(row: Row, key: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise wrong(row, key, turn, "{from, value}")
    speaker, said = turn.get("from"), turn.get("value")
    if speaker in UNTRAINED:
        raise RowError(
            f"row {row['id']}: {key} is a tool call or its result", cure="Leave such dialogues out"
        )
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise wrong(row, f"{key}.from", speaker, " or ".join(SPEAKERS))
    if not isinstance(said, str):
        raise wrong(row, f"{key}.value", said, "a text")
    return {"role": SPEAKERS[speaker], "content": said}


def _system(row: Row) -> list[Message]:
    said = optional_text(row, "system")
    return [{"role": "system", "content": said}] if said.strip() else []


def _exchange(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _answered(row: Row, key: str, said: list[Message]) -> Row:
    if not any(message["role"] == "assistant" for message in said):
        raise wrong(row, key, row[key], "at least one message of the assistant")
    return {"messages": said}
