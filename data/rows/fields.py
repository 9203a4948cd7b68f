"""Reads single fields of a row, and says which row, key and value is wrong and what is expected. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from residency.errors import ResidencyError

Row = dict[str, Any]
Message = dict[str, str]
ROLES = ("system", "user", "assistant")
SHOWN_CHARACTERS = 80
UNTRAINED = ("tool", "function", "tool_calls", "function_call", "observation")
"""Roles and keys of tool calls, which no stage trains on."""


class RowError(ResidencyError):
    """A row that does not fit; `reason` is the name under which it is counted where rows may be dropped."""

    def __init__(
        self, message: str, *, cure: str = "", reason: Literal["malformed", "other_schema"] = "malformed"
    ) -> None:
        super().__init__(message, cure=cure)
        self.reason = reason


def wrong(row: Row, key: str, value: Any, expected: str) -> RowError:
    """The error for a field: row, key, value with its type, and what is expected."""
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN_CHARACTERS else shown[: SHOWN_CHARACTERS - 3] + "..."
    return RowError(f"row {row['id']}: {key} is {shown} ({type(value).__name__}), expected {expected}")


def text(row: Row, key: str) -> str:
    """A field that is a text.

    Raises:
        RowError: it is missing, or no text.
    """
    if key not in row:
        raise RowError(
            f"row {row['id']}: no field {key!r}", cure=f"It has {', '.join(sorted(map(str, row)))}"
        )
    if not isinstance(row[key], str):
        raise wrong(row, key, row[key], "a text")
    return str(row[key])


def optional_text(row: Row, key: str) -> str:
    """A field that is a text, or empty where it is absent or null."""
    return "" if row.get(key) is None else text(row, key)


def texts(row: Row, key: str, value: Any, *, least: int = 1) -> list[str]:
    """A list of texts under a key.

    Raises:
        RowError: it is none, or shorter than `least`.
    """
    if (
        not isinstance(value, list)
        or len(value) < least
        or not all(isinstance(entry, str) for entry in value)
    ):
        raise wrong(row, key, value, f"a list of {least} or more texts")
    return list(value)


def messages(row: Row, key: str, role: str | None = None) -> list[Message]:
    """A list of messages as OpenAI writes them; with `role`, a plain text counts as one message of it.

    Content may be a text or a list of parts `{type: text, text}`.

    Raises:
        RowError: no such list, another role, a tool call, an image.
    """
    value = row.get(key)
    if isinstance(value, str) and role:
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise wrong(row, key, value, f"a list of {{role: {'|'.join(ROLES)}, content: text}}")
    return [_message(row, f"{key}[{place}]", entry) for place, entry in enumerate(value)]


def _message(row: Row, key: str, value: Any) -> Message:
    if not isinstance(value, dict):
        raise wrong(row, key, value, "{role, content}")
    role, content = value.get("role"), value.get("content")
    if role in UNTRAINED or any(value.get(name) for name in UNTRAINED):
        raise RowError(
            f"row {row['id']}: {key} is a tool call or its result", cure="Leave such dialogues out"
        )
    if role not in ROLES:
        raise wrong(row, f"{key}.role", role, " or ".join(ROLES))
    if value.get("weight", 1) not in (1, None):
        raise wrong(row, f"{key}.weight", value["weight"], "1: all that the assistant says carries loss")
    if isinstance(content, list):
        content = "".join(_part(row, f"{key}.content[{place}]", part) for place, part in enumerate(content))
    if not isinstance(content, str):
        raise wrong(row, f"{key}.content", content, "a text")
    return {"role": role, "content": content}


def _part(row: Row, key: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise wrong(row, key, part, "{type: text, text}: images and sound are not trained on")
    return str(part["text"])
