"""Recognises what a row is by its fields, and writes it in one of eight forms. No torch here.

    text        {id, text, difficulty?}
    messages    {id, messages: [{role, content}], difficulty?}
    preference  {id, prompt: [message], chosen: [message], rejected: [message], cluster?, aspect?, unfinished?,
                margin?}; with unfinished: true both replies are beginnings, which no stop token ends
    labelled    {id, prompt: [message], completion: [message], label: bool}
    ranked      {id, prompt: [message], replies: [str], ranks: [int], scores?: [float], cluster?}; best first, rank 1 is
                best, equal ones share it
    steps       {id, prompt: [message], steps: [str], values: [float], cluster?}; the steps put together are the reply,
                a value in [0, 1] says how good it is up to there
    choice      {id, cluster, prompt: str | [message], options: [str], answer: int, form?, context?, group?, ending?,
                 facts?}; with an ending the options are beginnings, and the prompt is empty
    answer      {id, cluster, prompt: str | [message], answers?: [str], context?, group?, facts?}

`context` is what a question is about (an abstract, a note), `facts` what a metric needs beside the answers.
Everything behind this module reads only these. A row that fits several layouts is the first of `LAYOUTS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from residency.data.reading.faults import Fault, Reason
from residency.data.rows import dialogues, exam_fields, exam_items, preferences, stepwise
from residency.data.rows.exam_settings import ExamFields
from residency.data.rows.fields import Row, RowError, text, wrong
from residency.data.settings import Turns

Schema = Literal["text", "messages", "preference", "labelled", "ranked", "steps", "choice", "answer"]


@dataclass(frozen=True)
class Layout:
    """How one tool or data set writes rows."""

    name: str
    schema: Schema
    needs: tuple[tuple[str, ...], ...]
    """Fields it is recognised by: of each group, one."""
    make: Callable[[Row], Row]
    without: tuple[str, ...] = ()
    """Fields that say it is something else."""
    only: Callable[[Row], bool] = bool
    """What the values of its fields must say besides; a row is never empty."""

    def fields(self, row: Row) -> list[str] | None:
        """The fields by which this row has the layout; None where it has another."""
        found = [next((key for key in group if key in row), None) for group in self.needs]
        if any(key in row for key in self.without):
            return None
        named = [key for key in found if key is not None]
        return named if len(named) == len(found) and self.only(row) else None


def _text(row: Row) -> Row:
    return {"text": text(row, "text")}


def _content(row: Row) -> Row:
    return {"text": text(row, "content")}


LAYOUTS = (
    Layout("preference pair", "preference", (("chosen",), ("rejected",)), preferences.of_pair),
    Layout("ranked replies", "ranked", (("prompt",), preferences.REPLIES), preferences.of_ranking),
    Layout("valued steps", "steps", (("prompt",), ("steps",), ("values",)), stepwise.of_steps),
    Layout(
        "stepwise supervision",
        "steps",
        (("prompt",), ("completions",), ("labels",)),
        stepwise.of_completions,
    ),
    Layout("PubMedQA", "choice", (("question",), ("context",), ("final_decision",)), exam_items.of_pubmedqa),
    Layout("HeadQA", "choice", (("qtext",), ("answers",), ("ra",)), exam_items.of_headqa),
    Layout(
        "beginnings of one ending",
        "choice",
        (("context_options",), ("continuation",), ("gold",)),
        exam_items.of_endings,
    ),
    Layout("exam item", "choice", ((*exam_items.OPTIONS, "opa"),), exam_items.of_options),
    Layout("question with answers", "answer", (("question",), ("answers",)), exam_items.of_answers),
    Layout("continued text", "answer", (("context",), ("continuation",)), exam_items.of_continuation),
    Layout("OpenAI messages", "messages", (("messages",),), dialogues.of_messages),
    Layout("ShareGPT", "messages", (("conversations",),), dialogues.of_conversations),
    Layout("Alpaca", "messages", (("instruction",), ("output",)), dialogues.of_instruction),
    Layout(
        "labelled reply",
        "labelled",
        (("prompt",), ("completion",), ("label",)),
        preferences.of_label,
        only=preferences.is_labelled,
    ),
    Layout("prompt and completion", "messages", (("prompt",), ("completion",)), dialogues.of_prompt),
    Layout("running text", "text", (("text",),), _text),
    # One message a row has `role` too; MedRAG's passages repeat it with the title as `contents`.
    Layout("running text", "text", (("content",),), _content, without=("role", "contents")),
)


def layout_of(row: Row) -> tuple[Layout, list[str]]:
    """How a row is written, and the fields that say so.

    Raises:
        RowError: no layout fits its fields.
    """
    for layout in LAYOUTS:
        fields = layout.fields(row)
        if fields is not None:
            return layout, fields
    raise RowError(
        f"row {row['id']}: its fields {', '.join(sorted(map(str, row)))} are no text, messages, pair or exam item",
        cure="Name the fields of question and answer with turns: {user: ..., assistant: ...}, or rename them",
        reason="other_schema",
    )


def recognise(row: Row, turns: Turns | None, exam: ExamFields | None = None) -> Schema:
    """Which form a row takes.

    Raises:
        RowError: no form fits its fields.
    """
    if exam and exam.is_whole:
        return "choice" if exam.is_choice else "answer"
    return "messages" if turns else layout_of(row)[0].schema


def normalise(row: Row, schema: Schema, turns: Turns | None = None, exam: ExamFields | None = None) -> Row:
    """A row in the form of `schema`; its other fields are left out.

    Raises:
        RowError: it is of another schema, or a field is missing or wrong; names the row, the key and what is
            expected. Its `reason` is `other_schema` or `malformed`.
    """
    kept: Row = {"id": str(row["id"])}
    if schema in ("text", "messages") and row.get("difficulty") is not None:
        kept["difficulty"] = _difficulty(row)
    if turns:
        said = (("user", turns.user), ("assistant", turns.assistant))
        return kept | {"messages": [{"role": role, "content": text(row, key)} for role, key in said]}
    if exam and exam.is_whole:
        return exam_fields.added(row, kept | exam_fields.of_fields(row, exam), exam)
    layout, fields = layout_of(row)
    if layout.schema != schema:
        raise RowError(
            f"row {row['id']} is {layout.schema} (it has {' and '.join(fields)}), its corpus is {schema}",
            cure="Make one corpus of each (set file)",
            reason="other_schema",
        )
    made = kept | layout.make(row)
    if exam is None:
        return made
    if schema not in ("choice", "answer"):
        raise RowError(
            f"row {row['id']} is {schema}, not an exam item",
            cure="Say which field holds the question: exam: {question: ...}",
        )
    return exam_fields.added(row, made, exam)


def _difficulty(row: Row) -> float:
    """What orders of a mixture sort by (`residency.data.mixture.ordering`)."""
    value = row["difficulty"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong(row, "difficulty", value, "a finite number")
    return float(value)


def spoilt(row: Row) -> Fault | None:
    """What no text holds, in a normalised row: a NUL character (a binary file taken for text) or half a surrogate
    pair (which cannot be written as UTF-8). Both may be mended, so `normalise` lets them pass."""
    for key, value in row.items():
        for said in _strings(value):
            if "\0" in said:
                return _spoilt(row, "nul", f"a NUL character in its {key}")
            try:
                said.isascii() or said.encode()
            except UnicodeEncodeError as error:
                half = f"half a surrogate pair ({said[error.start]!r}) in its {key}"
                return _spoilt(row, "half_surrogate", half)
    return None


def why_empty(row: Row, schema: Schema) -> str | None:
    """Reason to drop a normalised row that teaches nothing, or None."""
    if schema == "text":
        return None if row["text"].strip() else "empty text"
    if schema == "messages":
        return None if all(message["content"].strip() for message in row["messages"]) else "empty message"
    if schema == "choice" and "kind" in row:  # its wrong options are other rows' right ones
        return None if row["options"][0] else "empty answer"
    if schema == "steps":
        told = [*(message["content"] for message in row["prompt"]), *row["steps"]]
        return None if all(piece.strip() for piece in told) else "empty message"
    if schema == "ranked":
        said: list[Any] = [*(message["content"] for message in row["prompt"]), *row["replies"]]
        if not all(piece.strip() for piece in said):
            return "empty message"
        return None if row["ranks"][-1] > 1 else "all ranked alike"
    return None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _spoilt(row: Row, reason: Reason, what: str) -> Fault:
    id = row["id"].encode(errors="backslashreplace").decode()
    return Fault(id, reason, f"row {id}: {what}")
