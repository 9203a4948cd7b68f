"""Recognises what a row is by its fields, and writes it in one of four forms. No torch here.

    text        {id, text}
    messages    {id, messages: [{role, content}]}
    preference  {id, prompt: [message], chosen: [message], rejected: [message], cluster?, aspect?}
    choice      {id, cluster, prompt: str | [message], options: [str], answer: int, form?}

Everything behind this module reads only these. Exam items may come as MedMCQA (`opa`..`opd`, `cop`), MMLU
(`choices`), MedQA (`options` by letter, `answer_idx`) or `query`/`choices`/`gold` have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from residency.data.settings import Turns
from residency.errors import ResidencyError

Row = dict[str, Any]
Schema = Literal["text", "messages", "preference", "choice"]
ROLES = ("system", "user", "assistant")
QUESTIONS = ("prompt", "question", "query")
OPTIONS = ("options", "choices")
ANSWERS = ("answer_idx", "answer", "gold", "cop")
MEDMCQA = ("opa", "opb", "opc", "opd")


def recognise(row: Row, turns: Turns | None) -> Schema:
    """Which form a row takes.

    Raises:
        ResidencyError: no form fits its fields.
    """
    if turns:
        return "messages"
    if "chosen" in row and "rejected" in row:
        return "preference"
    if any(key in row for key in (*OPTIONS, "opa")):
        return "choice"
    if "messages" in row:
        return "messages"
    if "text" in row:
        return "text"
    raise ResidencyError(
        f"row {row['id']}: its fields {', '.join(sorted(row))} are no text, messages, pair or exam item",
        cure="Name the fields of question and answer with turns: {user: ..., assistant: ...}, or rename them",
    )


def normalise(row: Row, schema: Schema, turns: Turns | None = None) -> Row:
    """A row in the form of `schema`; its other fields are left out.

    Raises:
        ResidencyError: a field is missing or of the wrong type; names the row, the key and what is expected.
    """
    kept = {"id": str(row["id"])}
    if turns:
        said = (("user", turns.user), ("assistant", turns.assistant))
        return kept | {"messages": [{"role": role, "content": _said(row, key)} for role, key in said]}
    return kept | FORMS[schema](row)


def why_empty(row: Row, schema: Schema) -> str | None:
    """Reason to drop a normalised row that teaches nothing, or None."""
    if schema == "text":
        return None if row["text"].strip() else "empty text"
    if schema == "messages":
        return None if all(message["content"].strip() for message in row["messages"]) else "empty message"
    return None


def _plain(row: Row) -> Row:
    return {"text": _text(row, "text")}


def _dialogue(row: Row) -> Row:
    messages = _messages(row, "messages")
    if not any(message["role"] == "assistant" for message in messages):
        raise _fault(row, "messages", row["messages"], "at least one message of the assistant")
    return {"messages": messages}


def _preference(row: Row) -> Row:
    sides = {side: _messages(row, side, role="assistant") for side in ("chosen", "rejected")}
    if "prompt" in row:
        prompt = _messages(row, "prompt", role="user")
    else:
        # Whole conversations on both sides: what they share is the prompt.
        chosen, rejected = sides["chosen"], sides["rejected"]
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, sides = chosen[:shared], {side: said[shared:] for side, said in sides.items()}
    extra = {key: _text(row, key) for key in ("cluster", "aspect") if row.get(key) is not None}
    return {"prompt": prompt, **sides, **extra}


def _choice(row: Row) -> Row:
    question = next((key for key in QUESTIONS if key in row), None)
    answer = next((key for key in ANSWERS if row.get(key) is not None), None)
    if question is None or answer is None:
        missing = QUESTIONS if question is None else ANSWERS
        raise ResidencyError(f"row {row['id']}: an exam item without {' or '.join(missing)}")
    letters, options = _options(row)
    if question != "prompt":
        options = [
            option.strip() for option in options
        ]  # a continued sentence (`prompt`) keeps its leading space
    prompt = _messages(row, question) if isinstance(row[question], list) else _text(row, question)
    cluster = row.get("cluster")
    item = {
        "cluster": str(row["id"]).partition("/")[0] if cluster is None else str(cluster),
        "prompt": prompt,
        "options": options,
        "answer": _answer(row, answer, letters, options),
    }
    return item | ({"form": _text(row, "form")} if row.get("form") is not None else {})


def _options(row: Row) -> tuple[list[str], list[str]]:
    """Letters and texts of an item's options."""
    key = next((key for key in OPTIONS if key in row), None)
    if key is None:
        found: Any = {name[-1].upper(): _text(row, name) for name in MEDMCQA}
        key = "opa"
    else:
        found = row[key]
    if isinstance(found, list):
        found = {chr(ord("A") + place): option for place, option in enumerate(found)}
    if (
        not isinstance(found, dict)
        or len(found) < 2
        or not all(isinstance(text, str) for text in found.values())
    ):
        raise _fault(row, key, row[key], "two or more options, each a text")
    letters = sorted(found)
    return letters, [found[letter] for letter in letters]


def _answer(row: Row, key: str, letters: list[str], options: list[str]) -> int:
    value = row[key]
    if isinstance(value, str):
        places = (
            [letters.index(value)]
            if value in letters
            else [i for i, text in enumerate(options) if text == value]
        )
        value = places[0] if len(places) == 1 else value
    if type(value) is not int or not 0 <= value < len(options):
        raise _fault(
            row,
            key,
            row[key],
            f"0 to {len(options) - 1}, a letter {letters[0]} to {letters[-1]} or an option",
        )
    return value


def _text(row: Row, key: str) -> str:
    if key not in row:
        raise ResidencyError(f"row {row['id']}: no field {key!r}", cure=f"It has {', '.join(sorted(row))}")
    if not isinstance(row[key], str):
        raise _fault(row, key, row[key], "a text")
    return str(row[key])


def _said(row: Row, key: str) -> str:
    """A turn's text; an answer that was taken out (null, as in MedQuAD) is empty, and its row is dropped later."""
    return "" if key in row and row[key] is None else _text(row, key)


def _messages(row: Row, key: str, role: str | None = None) -> list[dict[str, str]]:
    """A list of messages; a plain text counts as one message of `role`."""
    value = row.get(key)
    if isinstance(value, str) and role:
        return [{"role": role, "content": value}]
    expected = f"a list of {{role: {'|'.join(ROLES)}, content: text}}"
    if not isinstance(value, list) or not value:
        raise _fault(row, key, value, expected)
    for message in value:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise _fault(row, key, message, expected)
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _fault(row: Row, key: str, value: Any, expected: str) -> ResidencyError:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return ResidencyError(f"row {row['id']}: {key} is {shown} ({type(value).__name__}), expected {expected}")


FORMS: dict[Schema, Callable[[Row], Row]] = {
    "text": _plain,
    "messages": _dialogue,
    "preference": _preference,
    "choice": _choice,
}
