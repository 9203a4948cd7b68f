"""The `pairs` stage: preference pairs are checked and written as an Arrow data set for the preference stages.

Pairs stay conversations (`prompt`, `chosen`, `rejected`): the trainer renders them with the same chat
template. What is checked here, before an accelerator is held: no side is empty, the two differ, and prompt
plus reply fit."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.artifact import commit, own, read_manifest, read_stage
from residency.data.corpus import rows, schema_of
from residency.data.encoding import own_template
from residency.data.settings import PairsSettings
from residency.data.tokenizer import load_tokenizer, template_digest, tokenizer_digest
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]
SIDES = ("chosen", "rejected")
BATCH = 512  # pairs rendered at a time


def run(attempt: Path) -> Path:
    """Check and write the pairs of a preference stage; returns the tokens artifact (`pairs/`).

    Raises:
        ResidencyError: another kind of corpus, a model without chat template, or a pair that teaches nothing
            or does not fit.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()

    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = PairsSettings.model_validate(stage.settings)
    name, corpus = next(
        (role[7:], path) for role, path in stage.parents.items() if role.startswith("corpus:")
    )
    if (schema := schema_of(corpus)) != "preference":
        raise ResidencyError(
            f"stage {stage.name}: corpus {name} holds rows of kind {schema}, not preference pairs",
            cure="Give prompt, chosen and rejected, or make pairs of dialogues with rejected: {same: FIELD}",
        )
    tokenizer = load_tokenizer(stage.parents["model"])
    template = settings.chat_template or own_template(tokenizer)
    if template is None:
        raise ResidencyError(
            f"stage {stage.name}: {stage.parents['model'].name} has no chat template",
            cure="Set chat_template to a Jinja file in an sft stage above",
        )
    pairs = list(islice(rows(corpus, "train"), settings.limit))
    for pair in pairs:
        _refuse_empty(pair, name)
    lengths = _lengths(pairs, tokenizer, template)
    _refuse_long(pairs, lengths, settings.max_length, name)
    Dataset.from_list([{key: pair[key] for key in ("prompt", *SIDES)} for pair in pairs]).save_to_disk(
        payload / "pairs"
    )
    measured = {
        "pairs": len(pairs),
        "aspects": dict(Counter(pair.get("aspect", "") for pair in pairs)),
        "tokens": sum(map(sum, lengths)),
        "longest": max(map(max, lengths)),
        "max_length": settings.max_length,
        "characters": {side: sum(_characters(pair, side) for pair in pairs) / len(pairs) for side in SIDES},
        "tokenizer_digest": tokenizer_digest(stage.parents["model"]),
        "template_digest": template_digest(template),
    }
    passport = [{**entry, "share": 1.0} for entry in read_manifest(corpus).passport]
    return commit(attempt, payload, "tokens", owner=owner, measured=measured, passport=passport)


def _refuse_empty(pair: Row, name: str) -> None:
    for side in ("prompt", *SIDES):
        if not any(message["content"].strip() for message in pair[side]):
            raise ResidencyError(f"corpus {name}: pair {pair['id']} has an empty {side}", cure="Take it out")
    if pair["chosen"] == pair["rejected"]:
        raise ResidencyError(
            f"corpus {name}: pair {pair['id']} prefers a reply to itself", cure="Take it out"
        )


def _lengths(pairs: list[Row], tokenizer: PreTrainedTokenizerFast, template: str) -> list[tuple[int, int]]:
    """Tokens of prompt plus reply, for the chosen and the rejected one of each pair."""
    lengths: list[tuple[int, int]] = []
    for at in range(0, len(pairs), BATCH):
        some = pairs[at : at + BATCH]
        chats = [pair["prompt"] + pair[side] for pair in some for side in SIDES]
        encoded: Any = tokenizer.apply_chat_template(
            chats, chat_template=template, return_dict=True, tokenizer_kwargs={"verbose": False}
        )
        sizes = [len(ids) for ids in encoded["input_ids"]]
        lengths += zip(sizes[::2], sizes[1::2], strict=True)
    return lengths


def _refuse_long(pairs: list[Row], lengths: list[tuple[int, int]], max_length: int, name: str) -> None:
    longest = max(map(max, lengths))
    if longest <= max_length:
        return
    long = sum(max(both) > max_length for both in lengths)
    worst = next(pair["id"] for pair, both in zip(pairs, lengths, strict=True) if max(both) == longest)
    raise ResidencyError(
        f"corpus {name}: {long} of {len(pairs)} pairs are longer than max_length = {max_length}; "
        f"the longest, {worst}, has {longest} tokens with its prompt",
        cure=f"Set max_length to {longest}, or take them out",
    )


def _characters(pair: Row, side: str) -> int:
    return sum(len(message["content"]) for message in pair[side])
