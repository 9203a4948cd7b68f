"""Settings of a mixture: which corpora a training stage reads, how much of each, and in which order. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from residency.data.setting_types import Settings


class Temperature(Settings):
    """Sampling by size, flattened."""

    temperature: Annotated[float, Field(gt=0)]
    """T: a corpus' share grows with its tokens to the power of 1 / T."""


class MixtureSettings(Settings):
    """Which corpora, how much of each, in which order; `{a: 0.8, b: 0.2}` is short for `{shares: {a: 0.8, b: 0.2}}`."""

    shares: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Corpus name to its share of the tokens; they sum to 1."""
    corpora: Annotated[list[str], Field(min_length=1)] | None = None
    """Instead of shares: corpora whose shares follow from their sizes, as `sampling` says."""
    epochs: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None
    """Instead of shares and a token budget: corpus name to its passes."""
    sampling: Literal["proportional", "unimax"] | Temperature = "proportional"
    """Shares of `corpora`: proportional to their tokens, flattened by a `temperature`, or equal but for corpora that
    `max_epochs` ends earlier (UniMax, arXiv 2304.09151)."""
    max_epochs: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Most passes over every corpus, or over those named; a budget that needs more is refused."""
    replay: dict[str, Annotated[float, Field(gt=0)]] = {}
    """General text against forgetting: corpus name to its share of all tokens; the others share the rest."""
    order: Literal["shuffled", "length", "difficulty", "blocked", "interleaved", "curriculum"] = "shuffled"
    """Order within each pass: shuffled; short to long; easy to hard by the rows' `difficulty`; corpus after corpus;
    corpora in turns; or corpora in turns, each easy to hard (interleaved curriculum, arXiv 2408.07888)."""

    @model_validator(mode="after")
    def _fits_together(self) -> MixtureSettings:
        given = [part for part in (self.shares, self.corpora, self.epochs) if part is not None]
        if len(given) != 1:
            raise ValueError("give one of shares, corpora (with sampling) and epochs")
        if self.shares is not None and abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"the shares sum to {sum(self.shares.values()):.6g}, not to 1")
        if sum(self.replay.values()) >= 1:
            raise ValueError(f"replay takes {sum(self.replay.values()):.6g} of the tokens: nothing is left")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"a corpus stands twice among {', '.join(self.names)}")
        if isinstance(self.max_epochs, dict) and (strangers := self.max_epochs.keys() - set(self.names)):
            raise ValueError(f"max_epochs names {', '.join(sorted(strangers))}, which the mixture does not")
        if self.sampling != "proportional" and self.corpora is None:
            raise ValueError("sampling needs corpora: a list of names")
        if self.sampling == "unimax" and self.max_epochs is None:
            raise ValueError("sampling: unimax needs max_epochs")
        if self.epochs is not None and self.max_epochs is not None:
            raise ValueError("epochs and max_epochs: the passes are said already, keep one of the two")
        return self

    @property
    def names(self) -> list[str]:
        """All corpora, replay last."""
        return [*(self.shares or self.corpora or self.epochs or ()), *self.replay]

    def limit(self, name: str) -> float | None:
        """Most passes over a corpus."""
        return self.max_epochs.get(name) if isinstance(self.max_epochs, dict) else self.max_epochs


def spelt_out(value: Any) -> Any:
    """The long form of a mixture: a mapping of names to numbers is its shares."""
    if not isinstance(value, dict):
        return value
    keys = value.keys() & MixtureSettings.model_fields.keys()
    return value if any(not isinstance(value[key], int | float) for key in keys) else {"shares": value}


Mixture = Annotated[
    MixtureSettings,
    BeforeValidator(
        spelt_out, json_schema_input_type=dict[str, Annotated[float, Field(gt=0)]] | MixtureSettings
    ),
]
