"""Settings that say which fields of a row make an exam item. No torch here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from residency.data.setting_types import Settings

STEM = "stem"


class Distractors(Settings):
    """Draws wrong options from other rows, for data that have only right answers."""

    same: str
    """Field whose value all options' rows share (a question's type, a chapter)."""
    count: Annotated[int, Field(gt=0)] = 3
    """Wrong options of an item. A row with fewer candidates is left out, and counted."""


class EntityTags(Settings):
    """Reads a tagged sentence: its tokens with a space between are the question, `facts.text`; the entities' places are
    `facts.spans` ([start, end, type] in characters), and their names, or `none`, the reference answer."""

    tokens: str
    """Field that holds the tokens."""
    tags: str
    """Field that holds the tag of each, its number in `names` or its name."""
    names: list[str]
    """Tags by number: `O`, `B-<type>` (an entity begins) and `I-<type>` (it goes on)."""
    type: str | None = None
    """Only entities of this type."""


class ExamFields(Settings):
    """Fields that make an exam item. A dot goes into nested values (`context.contexts`), through lists too
    (`answers.text`). Without `question` a row's own layout is read, and the other fields are added to it."""

    question: str | None = None
    """Field that holds the question, a text or messages."""
    options: str | list[str] | None = None
    """Field that holds the options, a list or texts by letter; or one field for each option."""
    choices: Annotated[list[str], Field(min_length=2)] | None = None
    """Options that all items share, such as yes and no."""
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
    constants: dict[str, Any] = {}
    """Facts that all items share, such as the classes of a classification."""
    entities: EntityTags | None = None
    """Instead of `question`: sentences whose named entities are asked for."""
    only: dict[str, str | int | list[str] | list[int]] = {}
    """Only rows whose fields have these values, or one of a list."""
    distractors: Distractors | None = None
    """How wrong options are found where the data have none."""
    id: str | None = None
    """Field that holds the id."""

    @model_validator(mode="after")
    def _one_kind_of_answer(self) -> ExamFields:
        if self.entities:
            if self.question or self.is_choice or self.answers:
                raise ValueError("exam: entities bring question and answers of their own")
            return self
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
        return bool(self.answer or self.options or self.distractors or self.choices)

    @property
    def is_whole(self) -> bool:
        """Whether the named fields make the item; else they are added to a layout that is recognised."""
        return bool(self.question or self.entities)
