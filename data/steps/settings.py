"""Settings of the steps of curation, in the order in which a recipe usually lists them. No torch here.

Thresholds stand here with their source; a recipe holds only what differs."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from residency.data.setting_types import Count, Settings

# record: also case, accession, device; account: also insurance, licence, card; ssn: also other countries' numbers.
Identifier = Literal[
    "name", "date", "phone", "email", "address", "record", "ssn", "url", "ip", "account", "age"
]
Share = Annotated[float, Field(gt=0, le=1)]


class NormaliseSettings(Settings):
    """Repairs mojibake, line ends, control characters and Unicode form; the words stay as they are."""

    kind: Literal["normalise"] = "normalise"
    form: Literal["NFC", "NFKC"] = "NFC"
    """Unicode normal form; NFKC also folds full-width letters and ligatures (and changes `mm²` to `mm2`)."""


class LanguageSettings(Settings):
    """Keeps documents of some languages (fastText lid.176, arXiv:1612.03651)."""

    kind: Literal["language"] = "language"
    keep: Annotated[list[str], Field(min_length=1)]
    """ISO 639-1 codes, for example `[en, fr]`."""
    minimum_score: Annotated[float, Field(ge=0, le=1)] = 0.65
    """Least score of the best language (FineWeb, arXiv:2406.17557, section 3.3)."""


class BoilerplateSettings(Settings):
    """Removes lines that are page furniture: navigation, cookie and copyright notices, share buttons, references."""

    kind: Literal["boilerplate"] = "boilerplate"
    patterns: list[str] = []
    """Further regular expressions; a line that matches one as a whole is removed."""


class QualitySettings(Settings):
    """Drops documents that break heuristic rules of Gopher, C4 or FineWeb."""

    kind: Literal["quality"] = "quality"
    rules: Annotated[list[Literal["gopher", "c4", "fineweb"]], Field(min_length=1)] = ["gopher"]
    """Sets of rules, applied in this order."""
    language: str = "en"
    """ISO 639-1 code: whose stop words and word segmentation; `auto` goes by the `language` step or the script."""
    minimum_words: Annotated[int, Field(ge=0)] = 50
    """Gopher (arXiv:2112.11446, table A1): fewest words that are no punctuation."""


class RepetitionSettings(Settings):
    """Drops documents that repeat lines, paragraphs or n-grams (Gopher, arXiv:2112.11446, table A1)."""

    kind: Literal["repetition"] = "repetition"


class ParagraphsSettings(Settings):
    """Removes paragraphs that many documents share, keeping the first."""

    kind: Literal["paragraphs"] = "paragraphs"
    documents: Annotated[int, Field(gt=1)] = 3
    """A paragraph that stands in so many documents or more is removed from all but the first."""
    minimum_words: Annotated[int, Field(gt=0)] = 8
    """Shorter paragraphs (headings, answers) are left alone."""


class DuplicatesSettings(Settings):
    """Drops exact and near duplicates (MinHash, Broder 1997; bands as in FineWeb, arXiv:2406.17557)."""

    kind: Literal["duplicates"] = "duplicates"
    words: Annotated[int, Field(gt=0)] = 5
    """Words in a shingle."""
    bands: Annotated[int, Field(gt=0)] = 14
    """Bands of the signature; two documents that agree in one band are compared."""
    rows: Annotated[int, Field(gt=0)] = 8
    """Hashes in a band; (1/bands)^(1/rows) is about the similarity found in half of the cases."""
    similarity: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Compared documents whose signatures agree less than this (an estimate of their Jaccard index) both stay."""


class DecontaminateSettings(Settings):
    """Finds documents that hold items of the recipe's evaluation tasks."""

    kind: Literal["decontaminate"] = "decontaminate"
    coverage: Share = 0.4
    """A document holds an item when it has this share of the question's words, in stretches of five or more."""
    mode: Literal["drop", "flag"] = "drop"
    """What happens to such a document; its hits stand in `contamination.jsonl` either way."""


class DomainSettings(Settings):
    """Keeps documents that sound more like one corpus than like another (cross-entropies, Moore & Lewis 2010)."""

    kind: Literal["domain"] = "domain"
    like: str
    """Corpus of the domain."""
    unlike: str
    """Corpus of general text."""
    minimum: float = 0.0
    """Least mean log-odds in nats a word."""


class RankSettings(Settings):
    """Keeps the documents most like good text (the subset of the stability-gap method, arXiv:2406.14833)."""

    kind: Literal["rank"] = "rank"
    like: str | None = None
    """Corpus of good text that a small n-gram model is trained on."""
    kenlm: str | None = None
    """KenLM file (.arpa or .bin) instead; needs the package `kenlm`."""
    keep: Share | None = None
    """Share of the words that is kept."""
    keep_words: Count | None = None
    """Words that are kept instead of a share."""
    rounds: Annotated[int, Field(ge=0)] = 8
    """At most so many times the ranking is refined by the words of what is kept; 0 is perplexity alone, as there."""

    @model_validator(mode="after")
    def _one_of_each(self) -> RankSettings:
        if (self.like is None) == (self.kenlm is None):
            raise ValueError("give either like (a corpus) or kenlm (a file)")
        if (self.keep is None) == (self.keep_words is None):
            raise ValueError("give either keep (a share) or keep_words")
        return self


class DifficultySettings(Settings):
    """Writes how hard each document is, for a mixture ordered by difficulty."""

    kind: Literal["difficulty"] = "difficulty"
    like: str | None = None
    """Corpus of plain text: a document is as hard as it surprises a small model of it."""
    call: str | None = None
    """`module:function` instead; gets the text of a document, returns a number."""
    version: str = "1"
    """Raise it when the function changes: the identity of the corpus hashes it."""

    @model_validator(mode="after")
    def _one_judge(self) -> DifficultySettings:
        if (self.like is None) == (self.call is None):
            raise ValueError("give either like (a corpus) or call (module:function)")
        return self


class PhiSettings(Settings):
    """Finds identifiers of patients (the kinds of HIPAA Safe Harbor, 45 CFR 164.514(b)(2))."""

    kind: Literal["phi"] = "phi"
    mode: Literal["replace", "drop", "fail"] = "replace"
    """Replace each by its kind in brackets, drop the document, or stop the chain with exit code 3."""
    kinds: Annotated[list[Identifier], Field(min_length=1)] = list(get_args(Identifier))
    """Which identifiers are looked for."""
    names_model: str | None = None
    """An installed spaCy model that recognises names, or its directory; without one, labelled names only."""

    @model_validator(mode="after")
    def _names_are_looked_for(self) -> PhiSettings:
        if self.names_model and "name" not in self.kinds:
            raise ValueError("names_model finds names: add name to kinds")
        return self


class FunctionSettings(Settings):
    """Calls a function of the user's, for example a filter of unsafe advice."""

    kind: Literal["function"] = "function"
    call: str
    """`module:function`; gets the text of a document, returns None to keep it or the reason to drop it."""
    version: str = "1"
    """Raise it when the function changes: the identity of the corpus hashes it."""


Step = Annotated[
    NormaliseSettings
    | LanguageSettings
    | BoilerplateSettings
    | QualitySettings
    | RepetitionSettings
    | ParagraphsSettings
    | DuplicatesSettings
    | DecontaminateSettings
    | DomainSettings
    | RankSettings
    | DifficultySettings
    | PhiSettings
    | FunctionSettings,
    Field(discriminator="kind"),
]
