"""Settings of synthesis: how the rows of one corpus are made into another. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from residency.data.setting_types import Count, Settings

Template = Literal["define", "cloze", "title", "explain", "continue", "judge", "exam"]


class TemplatesSettings(Settings):
    """Instructions with answers, made of running text or exam items by fixed wordings; all answers stand there.

    `define`: a term and the sentence that defines it; `cloze`: a sentence's missing term; `title`: the heading of a
    passage; `explain`: the passage under a heading; `continue`: the rest of a paragraph; `judge`: a sentence, or one
    with a term exchanged, true or false; `exam`: an exam item and its answer.
    """

    kind: Literal["templates"]
    templates: Annotated[list[Template], Field(min_length=1)] = list(get_args(Template))
    """Which templates are used."""
    per_document: Count = 4
    """At most so many instructions of one template from a document."""


class EntitiesSettings(Settings):
    """Text about target entities: what a corpus says on each, gathered into one document (idea: TOP-Training,
    arXiv:2310.16995)."""

    kind: Literal["entities"]
    terms: str | None = None
    """File with target entities, one a line."""
    like: str | None = None
    """Corpus (questions like those of an exam) whose most informative terms are the targets; the corpus itself
    unless given."""
    number: Count = 200
    """At most so many entities."""
    sentences: Count = 24
    """At most so many sentences on an entity; one with fewer than three is left out."""

    @model_validator(mode="after")
    def _one_origin(self) -> EntitiesSettings:
        if self.terms and self.like:
            raise ValueError("give either terms (a file) or like (a corpus)")
        return self


class GenerateSettings(Settings):
    """Text that a local model, or a function of the user's, writes about each row of a corpus."""

    kind: Literal["generate"]
    model: str | None = None
    """Directory or hub id of a model that runs on this machine, in its own chat template if it has one."""
    call: str | None = None
    """`module:function` instead; gets a list of prompts, returns as many texts."""
    version: str = "1"
    """Raise it when the function changes: the identity of the corpus hashes it."""
    prompt: str
    """What the model is asked; `{text}` stands for the row's text, `{title}` for its first line."""
    form: Literal["messages", "text"] = "messages"
    """A dialogue of prompt and reply, or the reply alone."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Temperature of sampling; 0 takes the likeliest token."""
    max_tokens: Count = 256
    """Longest reply in tokens."""
    batch_size: Count = 8
    """Prompts at a time."""

    @model_validator(mode="after")
    def _one_writer(self) -> GenerateSettings:
        if (self.model is None) == (self.call is None):
            raise ValueError("give either model (a directory) or call (module:function)")
        if "{text}" not in self.prompt and "{title}" not in self.prompt:
            raise ValueError("prompt holds neither {text} nor {title}: every reply would be about nothing")
        return self


Synthesis = Annotated[
    TemplatesSettings | EntitiesSettings | GenerateSettings,
    Field(discriminator="kind"),
]
