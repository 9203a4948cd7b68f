"""Settings that say which fields of a row make an exam item. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from residency.data.setting_types import Settings

STEM = "stem"


class Distractors(Settings):
    """Draws wrong options from other rows, for data that have only right answers."""

    same: str
    """Field whose value all options' rows share (a question's type, a chapter)."""
    count: Annotated[int, Field(gt=0)] = 3
    """Wrong options of an item. A row with fewer candidates is left out, and counted."""


class ExamFields(Settings):
    """Fields that make an exam item. A dot goes into nested values (`context.contexts`), through lists too
    (`answers.text`). Without `question` a row's own layout is read, and the other fields are added to it."""

    question: str | None = None
    """Field that holds the question, a text or messages."""
    options: str | list[str] | None = None
    """Field that holds the options, a list or texts by letter; or one field for each option."""
    choices: Annotated[list[str], Field(min_length=2)] | None = None
    """Options that all items share, such as yes and no. With `answers` they are classes (`facts.classes`)."""
    answer: str | None = None
    """Field that holds the right option: its place, letter or text; with `distractors` its text."""
    counts_from: Annotated[int, Field(ge=0, le=1)] = 0
    """Place of the first option."""
    answers: str | None = None
    """Field that holds reference answers in free text, one or a list."""
    context: str | None = None
    """Field that holds what the question is about, a text or paragraphs."""
    group: str | None = None
    """Field that holds the subject."""
    cluster: str | None = None
    """Field whose value is shared by items that are not independent, or `stem`: those whose question is the same but
    for case and punctuation, in whatever task. Else the id up to its first `/`."""
    facts: dict[str, str] = {}
    """What a metric needs, by the name that it knows, and the field that holds it."""
    distractors: Distractors | None = None
    """How wrong options are found where the data have none."""
    id: str | None = None
    """Field that holds the id."""

    @model_validator(mode="after")
    def _one_kind_of_answer(self) -> ExamFields:
        if self.question is None:
            if self.options or self.choices or self.answer or self.answers or self.distractors:
                raise ValueError("exam needs question: the field that holds it")
            return self
        given = [name for name in ("options", "choices", "distractors") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"exam: {' and '.join(given)} exclude each other")
        if self.answer and self.answers:
            raise ValueError("exam: answer (an option) and answers (free text) exclude each other")
        if self.is_choice and not (given and self.answer):
            raise ValueError(
                "exam: an item with options needs answer, and one of options, choices, distractors"
            )
        return self

    @property
    def is_choice(self) -> bool:
        """Whether the items have options to choose from; else they are answered in free text."""
        return bool(self.answer or self.options or self.distractors or (self.choices and not self.answers))
