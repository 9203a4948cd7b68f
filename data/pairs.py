"""The `pairs` stage: preference pairs, or replies with a label, are checked and written as token ids for training.

What is checked here, before an accelerator is held: no side is empty, the two differ, the prompt is rendered as it will
be when the model answers, and prompt plus reply fit. KTO reads single replies with a label (arXiv 2402.01306): pairs
are taken apart for it."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.artifact import commit, own, read_manifest, read_stage
from residency.data.corpus import rows, schema_of
from residency.data.settings import PairsSettings
from residency.data.tokenization.rendering import Renderer
from residency.data.tokenization.tokenizer import load_tokenizer, template_digest, tokenizer_digest
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]
SIDES = ("chosen", "rejected")


def run(attempt: Path) -> Path:
    """Check, render and write what a preference stage reads; returns the tokens artifact.

    `pairs/` is an Arrow data set of `id, cluster, prompt_ids, chosen_ids, rejected_ids`; with `labelled` of `id,
    cluster, prompt_ids, reply_ids, label`.

    Raises:
        ResidencyError: another kind of corpus, a model without chat template, or a row that teaches nothing or does not
            fit.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = PairsSettings.model_validate(stage.settings)
    name, corpus = next(
        (role[7:], path) for role, path in stage.parents.items() if role.startswith("corpus:")
    )
    schema = _schema(stage.name, name, corpus, settings.labelled)
    model = stage.parents["model"]
    renderer = Renderer(load_tokenizer(model), model.name, settings.chat_template)
    read = list(islice(rows(corpus, "train"), settings.limit))
    for row in read:
        _refuse_empty(row, name)
    made = [_rendered(row, renderer) for row in read]
    _refuse_long(made, settings.max_length, name)
    measured = _measured(read, made) | {
        "max_length": settings.max_length,
        "tokenizer_digest": tokenizer_digest(model),
        "template_digest": template_digest(renderer.template),
    }
    if settings.labelled and schema == "preference":
        made = [reply for pair in made for reply in _apart(pair)]
    Dataset.from_list(made, features=_features(made[0])).save_to_disk(payload / "pairs")
    passport = [{**entry, "share": 1.0} for entry in read_manifest(corpus).passport]
    return commit(attempt, payload, "tokens", owner=owner, measured=measured, passport=passport)


def _schema(stage: str, name: str, corpus: Path, labelled: bool) -> str:
    """The kind of rows, one that the loss can learn from."""
    schema = schema_of(corpus)
    if schema == "labelled" and not labelled:
        raise ResidencyError(
            f"stage {stage}: corpus {name} holds single replies with a label, not preference pairs",
            cure="Set loss: kto",
        )
    if schema not in ("preference", "labelled"):
        raise ResidencyError(
            f"stage {stage}: corpus {name} holds rows of kind {schema}, not preference pairs",
            cure="Give prompt, chosen and rejected, or make pairs of dialogues with rejected: {same: FIELD}",
        )
    return schema


def _replies(row: Row) -> dict[str, list[dict[str, str]]]:
    """The replies of a row by the name of their side."""
    return {side: row[side] for side in (*SIDES, "completion") if side in row}


def _refuse_empty(row: Row, name: str) -> None:
    replies = _replies(row)
    what = "reply" if "completion" in replies else "pair"
    for side, said in [("prompt", row["prompt"]), *replies.items()]:
        if not any(message["content"].strip() for message in said):
            raise ResidencyError(f"corpus {name}: {what} {row['id']} has an empty {side}", cure="Take it out")
    if what == "pair" and row["chosen"] == row["rejected"]:
        raise ResidencyError(f"corpus {name}: pair {row['id']} prefers a reply to itself", cure="Take it out")


def _rendered(row: Row, renderer: Renderer) -> Row:
    """A row as token ids. Replies that are `unfinished` end without the stop token."""
    unfinished = bool(row.get("unfinished"))
    sides = {
        side: renderer.reply(row["prompt"], said, unfinished=unfinished)
        for side, said in _replies(row).items()
    }
    made = {"id": row["id"], "cluster": row.get("cluster") or row["id"]}
    made["prompt_ids"] = next(iter(sides.values()))[0]
    made |= {f"{'reply' if side == 'completion' else side}_ids": ids for side, (_, ids) in sides.items()}
    return made | ({"label": row["label"]} if "label" in row else {})


def _apart(pair: Row) -> list[Row]:
    """The two replies of a pair, each with its label."""
    shared = {key: pair[key] for key in ("cluster", "prompt_ids")}
    return [
        {"id": f"{pair['id']}/{side}", **shared, "reply_ids": pair[f"{side}_ids"], "label": side == "chosen"}
        for side in SIDES
    ]


def _lengths(row: Row) -> list[int]:
    """Tokens of prompt plus reply, for each reply."""
    replies = (value for key, value in row.items() if key.endswith("_ids") and key != "prompt_ids")
    return [len(row["prompt_ids"]) + len(reply) for reply in replies]


def _refuse_long(made: list[Row], max_length: int, name: str) -> None:
    lengths = [max(_lengths(row)) for row in made]
    if (longest := max(lengths)) <= max_length:
        return
    long, worst = sum(length > max_length for length in lengths), made[lengths.index(longest)]["id"]
    raise ResidencyError(
        f"corpus {name}: {long} of {len(made)} {'replies' if 'label' in made[0] else 'pairs'} are longer than "
        f"max_length = {max_length}; the longest, {worst}, has {longest} tokens with its prompt",
        cure=f"Set max_length to {longest}, or take them out",
    )


def _measured(read: list[Row], made: list[Row]) -> Row:
    lengths = [_lengths(row) for row in made]
    measured: Row = {
        "tokens": sum(map(sum, lengths)),
        "longest": max(map(max, lengths)),
        "longest_prompt": max(len(row["prompt_ids"]) for row in made),
        "highest_token": max(max(ids) for row in made for key, ids in row.items() if key.endswith("_ids")),
        "characters": {
            side: sum(len(message["content"]) for row in read for message in row[side]) / len(read)
            for side in _replies(read[0])
        },
    }
    if "label" in made[0]:
        return {"replies": len(made), "good": sum(row["label"] for row in made), **measured}
    return {"pairs": len(made), "aspects": dict(Counter(row.get("aspect", "") for row in read)), **measured}


def _features(row: Row) -> Features:
    """Columns of the Arrow file, by those of one row."""
    from datasets import Features, List, Value

    kinds = {"id": "string", "cluster": "string", "label": "bool"}
    return Features({key: Value(kinds[key]) if key in kinds else List(Value("int32")) for key in row})
