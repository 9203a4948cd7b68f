"""Prints what a source holds: schema, lengths, faults, some rows, and with a tokenizer which tokens carry loss.

Plain text where the console has no colours. Torch is imported only with a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.text import Text

from residency.data.curation.batch import pieces
from residency.data.reading.sample import Sample, take
from residency.data.rows.fields import Row
from residency.data.settings import CorpusSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from residency.data.tokenization.mask import Masker

CHARACTERS = 300  # of a text that are shown
TOKENS = 600  # of a row that are shown
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters and overrides of the writing direction: they would act on the terminal."""


def show(
    console: Console,
    settings: CorpusSettings,
    *,
    rows: int,
    tokenizer: PreTrainedTokenizerFast | None = None,
    template: str | None = None,
    mask: bool = False,
) -> None:
    """Print the first rows of a source.

    Args:
        rows: how many are printed; the figures are of a larger sample.
        tokenizer: also counts tokens, as training would.
        template: chat template instead of the tokenizer's.
        mask: also print the tokens of the rows.

    Raises:
        ResidencyError: a source without usable rows; a tokenizer that cannot encode them.
    """
    sample = take(settings, settings.seed or 0)
    masker = _masker(sample, tokenizer, template, mask)
    encoded = list(masker(sample.rows)) if masker else []
    lengths = [len(ids) for ids, _ in encoded] if masker else _plain_lengths(sample.rows, tokenizer)
    _summary(console, settings, sample)
    _lengths(console, {"characters": [sum(map(len, pieces(row))) for row in sample.rows], "tokens": lengths})
    for row in sample.rows[:rows]:
        _print(console, (f"\nrow {_shortened(row['id'])}", "bold"))
        for label, said in _said(row):
            _print(console, (f"  {label:10} ", "dim"), _shortened(said))
    if masker and mask:
        _tokens(console, masker, sample.rows[:rows], encoded)


def _masker(
    sample: Sample, tokenizer: PreTrainedTokenizerFast | None, template: str | None, mask: bool
) -> Masker | None:
    if tokenizer is None or not (mask or sample.schema in ("text", "messages")):
        return None
    from residency.data.tokenization.mask import Masker

    return Masker(sample.schema, tokenizer, str(tokenizer.name_or_path), template, sample.rows)


def _plain_lengths(rows: list[Row], tokenizer: PreTrainedTokenizerFast | None) -> list[int]:
    """Tokens of what a row says, where a stage would put it together otherwise."""
    if tokenizer is None:
        return []
    texts = ["\n\n".join(pieces(row)) for row in rows]
    encoded: Any = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def _summary(console: Console, settings: CorpusSettings, sample: Sample) -> None:
    file = f", file {' and '.join(settings.files)}" if settings.file else ""
    lines = [
        ("source", f"{settings.source}{file}"),
        ("schema", f"{sample.schema} ({sample.why})"),
        ("rows", f"the first {sample.seen:,} read, {len(sample.rows):,} of them fit"),
    ]
    for reason, times in sample.lost.most_common():
        lines.append(("faults", f"{times:,} {reason}, the first: {_shortened(sample.first_lost[reason])}"))
    for label, said in lines:
        _print(console, (f"{label:8}", "dim"), said)


def _lengths(console: Console, lengths: dict[str, list[int]]) -> None:
    _print(console, ("\nlength in   {:>10} {:>10} {:>10}".format("median", "90 %", "longest"), "dim"))
    for unit, values in lengths.items():
        if values:
            median, most, longest = np.quantile(values, [0.5, 0.9, 1.0])
            _print(console, f"{unit:11} {median:10,.0f} {most:10,.0f} {longest:10,.0f}")


def _print(console: Console, *parts: str | tuple[str, str]) -> None:
    """A line; what data say is never taken for the console's own markup."""
    console.print(Text.assemble(*parts))


def _said(row: Row) -> Iterator[tuple[str, str]]:
    """Each text of a row with what it is: a role, an option's letter, a rank."""
    for key, value in row.items():
        if key == "options":
            for place, option in enumerate(value):
                right = " *" if place == row["answer"] else ""
                yield f"{chr(ord('A') + place)}{right}", option
        elif key == "replies":
            yield from ((f"rank {rank}", said) for rank, said in zip(row["ranks"], value, strict=True))
        elif key == "steps":
            yield from (
                (f"value {worth:.2f}", said) for worth, said in zip(row["values"], value, strict=True)
            )
        elif key in ("text", "prompt", "context", "ending") and isinstance(value, str):
            yield key, value
        elif key == "answers":
            yield from (("answer", said) for said in value)
        elif key == "completion":
            yield from (("good" if row["label"] else "bad", said["content"]) for said in value)
        elif key in ("prompt", "messages", "chosen", "rejected"):
            for message in value:
                yield key if key in ("chosen", "rejected") else message["role"], message["content"]


def _shortened(text: str) -> str:
    shown = _visible(text[:CHARACTERS]).replace("\n", "⏎ ")
    return f"{shown} … ({len(text):,} characters)" if len(text) > CHARACTERS else shown


def _visible(text: str) -> str:
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _tokens(
    console: Console, masker: Masker, rows: list[Row], encoded: list[tuple[list[int], list[bool]]]
) -> None:
    coloured = console.color_system is not None
    legend = (("carries loss", "green"), "  ") if coloured else ("«carries loss»  ",)
    _print(console, "\n", *legend, ("carries none", "dim"), "  | between tokens")
    for row, (ids, mask) in zip(rows, encoded, strict=False):
        ends, share = masker.ends(ids, mask), sum(mask) / len(mask)
        _print(console, (f"\ntokens of row {_shortened(row['id'])}", "bold"))
        console.print(_marked(masker, ids[:TOKENS], mask[:TOKENS], coloured))
        if len(ids) > TOKENS:
            _print(console, (f"  … {len(ids) - TOKENS:,} more", "dim"))
        _print(console, f"  loss on {sum(mask):,} of {len(ids):,} tokens ({share:.0%})")
        learnt = "yes" if ends.learnt == ends.stretches else "no"
        _print(
            console,
            f"  stop token {_shortened(ends.token)} is learnt: {learnt} "
            f"({ends.learnt} of {ends.stretches} stretches with loss end with it)",
        )


def _marked(masker: Masker, ids: list[int], mask: list[bool], coloured: bool) -> Text:
    """The tokens in a line; brackets stand for colours where there are none."""
    line, before = Text("  "), False
    for place, piece in enumerate(masker.pieces(ids, mask)):
        if not coloured and before and not piece.loss:
            line.append("»")
        line.append("|" if place else "", style="dim")
        if not coloured and piece.loss and not before:
            line.append("«")
        line.append(_visible(piece.text).replace("\n", "⏎\n  "), style="green" if piece.loss else "dim")
        before = piece.loss
    return line.append("»" if before and not coloured else "")
