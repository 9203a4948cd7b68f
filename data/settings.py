"""Settings of the data stages, and the two types that every room's settings use. No torch here.

`corpus` reads one source into normalised rows; `tokens` mixes corpora, tokenises and packs them for a training
stage. Recipes name corpora under `corpora:`; `tokens` stages are derived from the training stages.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from residency.data.mixture.settings import Mixture
from residency.data.passport import UNKNOWN, Consent, Phi, consent_of
from residency.data.rows.exam_settings import ExamFields
from residency.data.setting_types import Count, Settings, parse_count
from residency.data.steps.settings import Step
from residency.data.synthesis.settings import EntitiesSettings, Synthesis
from residency.data.world import Group, Groups

__all__ = ["Count", "Settings", "parse_count"]


MADE_OF = "corpus:"


class Turns(Settings):
    """Makes a one-question dialogue of each row."""

    user: str
    """Field that holds the question."""
    assistant: str
    """Field that holds the answer."""


class Rejected(Settings):
    """Makes a preference pair of each row: its own answer against another row's."""

    same: str
    """Field whose value both rows share (for example the question's type)."""


class CorpusSettings(Settings):
    """One source of rows: running text, dialogues, preference pairs or exam items; recognised by its fields."""

    kind: Literal["corpus"] = "corpus"
    source: str
    """`world:NAME` (generated), a Hugging Face data set id, or a local file or directory; in a recipe also a
    described corpus, `shipped:FILE/NAME` or `FILE.yaml:NAME`. `corpus:NAME`: made of another corpus by `synthesis`."""
    file: str | Annotated[list[str], Field(min_length=1)] | None = None
    """File inside the data set, for example `text/train.jsonl`; a pattern (`*/test.jsonl`), or a list of both."""
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = {}
    """File, or pattern of files, to its SHA-256; changed data are refused. Of several files it is that of the list of
    their hashes (`sha256sum FILES | cut -c1-64 | sha256sum`). Files that no pattern names are not checked."""
    seed: int | None = None
    """Seed of a generated world and of the held-out split; the recipe's own unless given."""
    size: Annotated[int, Field(gt=0)] | None = None
    """Number of diseases (or towns) in a generated world."""
    facts: Literal["all"] | Group | Annotated[list[Group], Field(min_length=1)] = "all"
    """Which facts of a generated world, one group or a list. Of two groups A is asked in training, B only read and
    examined; of four A is asked with answers, B with a check of the answer, C only read, and D told nowhere."""
    groups: Groups = 2
    """Into how many groups the facts of a generated world are divided."""
    copies: Count | None = None
    """Rows of a generated world on each topic (running text) or fact (the rest), in ever other words."""
    form: str | None = None
    """Question form of generated exam items."""
    text: str | None = None
    """Field that holds running text, where it is not called `text`."""
    split_before: Annotated[str, Field(min_length=1)] | None = None
    """Running text is cut before each line that begins so (`## `), and each piece is a row: for a book in one row."""
    turns: Turns | None = None
    """Fields that make a dialogue."""
    rejected: Rejected | None = None
    """How the rejected answer of a preference pair is found; needs `turns`."""
    exam: ExamFields | None = None
    """Fields that make an exam item, where they are not recognised by themselves."""
    synthesis: Synthesis | None = None
    """How rows are made of those of another corpus."""
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the rows kept out of training, chosen by a hash of their id."""
    limit: Count | None = None
    """At most so many rows, the first ones after the split."""
    max_characters: Count | None = None
    """Rows with more characters are left out, and counted."""
    steps: list[Step] = []
    """Curation: what is done to the rows, in this order."""
    keep_dropped: bool = False
    """Keep the text of every document that a step drops (else of a few for each reason)."""
    licence: Annotated[str | None, Field(validate_default=True)] = None
    """Licence of the source: an SPDX id, another name, or `unknown`; a generated world needs none."""
    consent: Annotated[Consent | None, Field(validate_default=True)] = None
    """What the source allows; follows from the licence where its SPDX id says it."""
    languages: list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]] = []
    """Languages of the source, ISO 639 codes."""
    phi: Phi | None = None
    """Identifiers of patients: there are none, they were scrubbed, or some are possible."""
    synthetic: str | None = None
    """How the text was made, where a machine wrote it."""

    @field_validator("licence")
    @classmethod
    def _licence_is_stated(cls, licence: str | None, info: ValidationInfo) -> str | None:
        derived = str(info.data.get("source", "world:")).startswith(("world:", "corpus:"))
        if not derived and not (licence or "").strip():
            raise ValueError("state the licence: an SPDX id such as CC-BY-4.0, or `unknown`")
        return licence

    @field_validator("consent")
    @classmethod
    def _consent_fits_licence(cls, consent: Consent | None, info: ValidationInfo) -> Consent | None:
        licence = info.data.get("licence")
        said = consent_of(licence)
        if consent is None and said is None and licence not in (None, UNKNOWN):
            raise ValueError(f"state what {licence} allows: {', '.join(get_args(Consent))}")
        if consent and said and get_args(Consent).index(consent) < get_args(Consent).index(said):
            raise ValueError(f"{licence} is {said}")
        return consent

    @model_validator(mode="after")
    def _pairs_need_turns(self) -> CorpusSettings:
        if self.rejected and not self.turns:
            raise ValueError("rejected needs turns: say which fields hold the question and the answer")
        return self

    @model_validator(mode="after")
    def _rows_are_read_in_one_way(self) -> CorpusSettings:
        if self.exam and (self.turns or self.text):
            raise ValueError("exam, turns and text exclude each other: rows are read in one way")
        if self.split_before and (self.exam or self.turns):
            raise ValueError("split_before is for running text")
        return self

    @model_validator(mode="after")
    def _synthesis_of_a_corpus(self) -> CorpusSettings:
        made = self.source.startswith(MADE_OF)
        if made != (self.synthesis is not None):
            raise ValueError(f"synthesis and source: {MADE_OF}NAME need each other")
        if made and (self.licence or self.consent or self.phi or self.synthetic):
            raise ValueError("licence, consent, phi and synthetic follow from the corpus that it is made of")
        return self

    @property
    def files(self) -> list[str]:
        """What `file` names, as a list."""
        return [self.file] if isinstance(self.file, str) else list(self.file or [])

    @property
    def made_of(self) -> list[str]:
        """Names of the corpora that this one is made of, the text's own first."""
        if self.synthesis is None:
            return []
        like = self.synthesis.like if isinstance(self.synthesis, EntitiesSettings) else None
        return [self.source.removeprefix(MADE_OF), *([like] if like else [])]


class CurationSettings(Settings):
    """Who does the work of curation; never changes what comes out."""

    executor: Literal["local", "slurm", "ray"] = "local"
    """Processes of this machine, a Slurm job array, or a Ray cluster (datatrove's executors)."""
    workers: Annotated[int, Field(gt=0)] | None = None
    """Tasks at a time; all cores of this machine (or, beyond it, all tasks) unless given."""
    partition: str = "cpu"
    """Slurm partition."""
    time: str = "24:00:00"
    """Slurm time limit of a task."""
    memory_gb: Annotated[int, Field(gt=0)] = 4
    """Memory of a task on Slurm or Ray, in GB."""


class TokensSettings(Settings):
    """Mixes corpora to a token budget, tokenises them and packs them into rows of `max_length` tokens."""

    kind: Literal["tokens"] = "tokens"
    mixture: Mixture
    """Corpus name to its share of the tokens, or a `MixtureSettings`."""
    tokens: Count | None = None
    """Token budget over all corpora."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Instead of a budget: passes over the first corpus of the mixture; the others follow their shares."""
    max_length: Annotated[int, Field(gt=1)]
    """Row length in tokens. Longer documents are split (running text) or refused (dialogues)."""
    virtual_tokens: Annotated[int, Field(ge=0)] = 0
    """Room for a learnt prompt of so many tokens before every document, and before every part of a split one."""
    truncate: bool = False
    """Cut dialogues at `max_length` instead of refusing them; how many is counted."""
    chat_template: str | None = None
    """Jinja text used for dialogues instead of the tokenizer's own template."""
    seed: int = 0
    """Order of the documents and of the rows."""


class ChatSettings(Settings):
    """What the rows of conversations share that are made ready for a stage."""

    max_length: Annotated[int, Field(gt=1)]
    """Longest prompt plus reply, or prompt where replies are still to come, in tokens; longer ones are refused."""
    chat_template: str | None = None
    """Jinja text used instead of the tokenizer's own template."""
    limit: Count | None = None
    """At most so many rows."""


class PairsSettings(ChatSettings):
    """Preference pairs, or labelled replies, as token ids for the `preference` stage."""

    kind: Literal["pairs"] = "pairs"
    labelled: bool = False
    """Each reply stands alone with a label, as KTO reads them; pairs are taken apart."""


class RepliesSettings(ChatSettings):
    """Ranked replies, pairs among them, or steps with values as token ids for the `reward` stage."""

    kind: Literal["replies"] = "replies"
    held_out: str | None = None
    """Corpus that accuracy is measured on; the held-out rows of the other unless given."""


class PromptsSettings(ChatSettings):
    """Prompts as token ids, with what is known of their right answers, for stages that write replies."""

    kind: Literal["prompts"] = "prompts"
    held_out: str | None = None
    """Corpus of prompts that are only asked to watch training."""
