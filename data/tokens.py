"""The `tokens` stage: corpora are mixed to a budget, tokenised and packed, before any accelerator is held.

Leaves packed rows (`residency.data.mixture.shards`) and the receipt: planned and realised share of each corpus, its
epochs, and how full the rows are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.artifact import StageFile, commit, own, read_manifest, read_stage
from residency.data.corpus import schema_of
from residency.data.mixture import mixing, ordering, packing
from residency.data.mixture.documents import Documents
from residency.data.mixture.mixing import Source, Taken
from residency.data.mixture.shards import ShardWriter
from residency.data.mixture.shares import planned_tokens
from residency.data.settings import TokensSettings
from residency.data.tokenization.encoding import DialogueEncoder, TextEncoder, own_template
from residency.data.tokenization.tokenizer import load_tokenizer, template_digest, tokenizer_digest
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ints = NDArray[np.int64]
CHECKED = 50  # dialogues of each corpus in which every prompt is rendered alone too
SAMPLE = 200  # documents of each corpus on which a faster tokenizer must equal the model's own


def run(attempt: Path) -> Path:
    """Make the packed rows of a training stage; returns the tokens artifact.

    Raises:
        ResidencyError: a corpus that is neither text nor dialogues, a model without chat template, or a
            dialogue longer than a row.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = TokensSettings.model_validate(stage.settings)
    tokenizer = load_tokenizer(stage.parents["model"])
    writer = ShardWriter(payload, len(tokenizer))
    sources = [_source(stage, settings, name, tokenizer, writer) for name in settings.mixture.names]
    planned = planned_tokens(sources, settings)
    taken = [_take(source, planned[source.name], settings) for source in sources]
    receipt = mixing.check_shares(taken, planned)
    segments, rows, windows = _pack(taken, settings)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    writer.finish(
        segments,
        rows,
        windows,
        max_length=settings.max_length,
        pad=pad,
        virtual_tokens=settings.virtual_tokens,
    )
    filled = int((segments[:, 1] - segments[:, 0] + settings.virtual_tokens).sum())
    measured = {
        "rows": len(rows) - 1,
        "tokens": sum(part.tokens for part in taken),
        "loss_tokens": sum(part.loss_tokens for part in taken),
        "documents": sum(len(part.lengths) for part in taken),
        "split_documents": sum(int((part.lengths > _room(settings)).sum()) for part in taken),
        "longest_document": max(source.longest[0] for source in sources),
        "truncated_dialogues": sum(part.truncated for part in taken),
        "max_length": settings.max_length,
        "fill": filled / ((len(rows) - 1) * settings.max_length),
        "epochs": {part.name: part.epochs for part in taken},
        "mixture": receipt,
        "encoded_by": {source.name: source.encode.library for source in sources},
        "highest_token": writer.highest,
        "stop_tokens": sorted(
            {
                id
                for source in sources
                if isinstance(source.encode, DialogueEncoder)
                for id in source.encode.stops
            }
        ),
        "tokenizer_digest": tokenizer_digest(stage.parents["model"]),
        "template_digest": template_digest(settings.chat_template or own_template(tokenizer)),
    }
    return commit(
        attempt, payload, "tokens", owner=owner, measured=measured, passport=_passport(stage, receipt)
    )


def _source(
    stage: StageFile,
    settings: TokensSettings,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    writer: ShardWriter,
) -> Source:
    corpus, model = stage.parents[f"corpus:{name}"], stage.parents["model"].name
    schema, rows = schema_of(corpus), Documents(corpus)
    encode: TextEncoder | DialogueEncoder
    if schema == "text":
        sample = [row["text"] for row in rows[rows.sample(SAMPLE)]]
        encode = TextEncoder(tokenizer, model, sample)
    elif schema == "messages":
        some = rows[rows.sample(CHECKED)]
        encode = DialogueEncoder(tokenizer, model, settings.chat_template, sample=some)
    else:
        raise ResidencyError(
            f"stage {stage.name}: corpus {name} holds rows of kind {schema}",
            cure="Train on text or on dialogues (messages)",
        )
    longest = _room(settings) if settings.truncate else None
    return Source(name, rows, encode, writer, settings.seed, longest)


def _take(source: Source, tokens: int, settings: TokensSettings) -> Taken:
    taken = source.take(tokens)
    source.rows.close()
    if source.whole and not settings.truncate:
        _refuse_long(source, settings)
    return taken


def _room(settings: TokensSettings) -> int:
    """Tokens of a row that the longest document may have."""
    return settings.max_length - settings.virtual_tokens


def _refuse_long(source: Source, settings: TokensSettings) -> None:
    """A dialogue is never split: the answer would lose its question."""
    length, id = source.longest
    if length > _room(settings):
        long = sum(span.length > _room(settings) for span in source.spans)
        prompt = f" less {settings.virtual_tokens} virtual tokens" if settings.virtual_tokens else ""
        raise ResidencyError(
            f"corpus {source.name}: {long} of {len(source.spans)} dialogues are longer than "
            f"max_length = {settings.max_length}{prompt}; the longest, {id}, has {length} tokens",
            cure=f"Set max_length to {length + settings.virtual_tokens}, take them out, or set truncate: true to cut "
            "them",
        )


def _pack(taken: list[Taken], settings: TokensSettings) -> tuple[Ints, Ints, Ints]:
    """All windows' rows one after another: segments `[n, 2]`, offsets of the rows `[rows + 1]` and of the windows."""
    random, max_length = np.random.default_rng(settings.seed), settings.max_length
    segments, rows = [], [np.zeros(1, dtype=np.int64)]
    starts, count = [0], 0
    for window in ordering.windows(taken, settings.mixture.order, max_length):
        cut = packing.split(window.starts, window.lengths, _room(settings))
        packed, offsets = packing.pack(
            cut, max_length, random, ordered=window.ordered, before=settings.virtual_tokens
        )
        segments.append(packed)
        rows.append(offsets[1:] + rows[-1][-1])
        new = len(offsets) - 1
        starts += range(count + 1, count + new + 1) if window.ordered else [count + new]
        count += new
    return np.concatenate(segments), np.concatenate(rows), np.asarray(starts, dtype=np.int64)


def _passport(stage: StageFile, receipt: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the corpora say of themselves, with the share they got."""
    return [
        {**entry, "share": part["realised"]}
        for name, part in receipt.items()
        for entry in read_manifest(stage.parents[f"corpus:{name}"]).passport
    ]
