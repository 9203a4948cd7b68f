"""Settings of evaluation: tasks and the `evaluate` stage. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from residency.data.settings import CorpusSettings, Count, Settings


class TaskSettings(Settings):
    """One measurement of a model on fixed items."""

    kind: Literal["choice", "bits-per-byte", "preference"]
    """Multiple choice by log-likelihood, compression of running text, or chosen above rejected."""
    name: str
    """Name in the verdict."""
    title: str = ""
    """What the report calls it."""
    domain: Literal["medicine", "general", "safety", "control"]
    """What it speaks for: a gain, forgetting, safety, or a control that must stay at chance."""
    items: CorpusSettings | str
    """Where the items come from: a source, or a corpus of the recipe (its held-out part)."""
    scorer: Literal["option-text", "letter"] = "option-text"
    """Multiple choice: mean log-likelihood per byte of each option's text, or the letter's log-likelihood."""
    aspect: str | None = None
    """Preference: only pairs of this aspect."""
    limit: Count | None = None
    """At most so many items."""
    margin: Annotated[float, Field(gt=0)] = 0.01
    """Difference that does not matter (absolute for accuracy, relative for bits per byte)."""


class EvaluateSettings(Settings):
    """Scores one model on every task; leaves one record per item."""

    kind: Literal["evaluate"] = "evaluate"
    parent: str = Field(alias="from")
    """Stage whose model is evaluated."""
    tasks: list[TaskSettings]
    """What is measured."""
    max_length: Annotated[int, Field(gt=1)] = 2048
    """Longest prompt in tokens, and the window of bits per byte."""


class EvaluationSettings(Settings):
    """The recipe's evaluation: which tasks, after which stages, against which stage."""

    tasks: list[str | TaskSettings] = []
    """Shipped tasks by name (`eval/tasks/*.yaml`) or tasks written out."""
    after: list[str] = []
    """Stages whose models are evaluated."""
    against: str | None = None
    """Stage that the others are compared with; the first of `after` unless given."""
    max_length: Annotated[int, Field(gt=1)] = 2048
    """Longest prompt in tokens, and the window of bits per byte."""
    resamples: Count = 10_000
    """Bootstrap resamples for the intervals."""
