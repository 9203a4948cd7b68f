"""Tokenizers, chat templates and special tokens: the data were made with the model's own."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from residency.artifact import StageFile, read_manifest
from residency.data.tokenization.tokenizer import template_digest, template_of, tokenizer_digest
from residency.errors import ResidencyError
from residency.generation.ends import EXCHANGE, SAID, turn_end
from residency.model import base_of
from residency.train.contract.files import rows_of
from residency.train.contract.lineage import name_of, parent_of, tokenizer_maker

TALKING = ("sft", "reward", "preference", "rl", "sample", "tree")
"""Kinds of stages whose rows are rendered with a chat template."""
GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
MARK = re.compile(r"<\|[^<>|\s]+\|>")


def check_tokenizer(stage: StageFile) -> None:
    """The data were made with the tokenizer that the model has now.

    Raises:
        ResidencyError: with another, or before the vocabulary grew.
    """
    model, tokens = stage.parents["model"], stage.parents["tokens"]
    prepared = read_manifest(tokens)
    if tokenizer_digest(model) == prepared.measured["tokenizer_digest"]:
        return
    before = parent_of(tokens)
    has = f"{name_of(model)} has that of {tokenizer_maker(model)} ({_size(model)} tokens)"
    if before is None:
        made = f"{prepared.stage} was made with another tokenizer"
    else:
        made = f"{prepared.stage} was made with the tokenizer of {tokenizer_maker(before)} ({_size(before)} tokens)"
    grew = before is not None and _size(model) > _size(before)
    raise ResidencyError(
        f"stage {stage.name}: {made}, {has}"
        + (": the vocabulary grew after the data were tokenised" if grew else ""),
        cure=f"Remove {tokens} and run again",
    )


def check_template(stage: StageFile) -> None:
    """The data were rendered with the template in force, and there is one where there are conversations.

    Raises:
        ResidencyError: none, or another.
    """
    if stage.kind not in TALKING:
        return
    model, prepared = stage.parents["model"], read_manifest(stage.parents["tokens"])
    template = stage.settings.get("chat_template") or template_of(model)
    if not template:
        raise ResidencyError(
            f"stage {stage.name}: {name_of(model)} left a model without chat template",
            cure="Set chat_template to a Jinja file in an sft stage above",
        )
    if prepared.measured["template_digest"] != template_digest(template):
        raise ResidencyError(
            f"stage {stage.name}: {prepared.stage} was rendered with another chat template than that of "
            f"{name_of(model)}",
            cure=f"Give the sft stage above the chat_template that its children use, or remove "
            f"{stage.parents['tokens']} and run again",
        )
    check_stop(f"stage {stage.name}", model, template)


def check_reward(stage: StageFile, role: str) -> None:
    """A reward model reads the ids and the turns that the model writes.

    Raises:
        ResidencyError: it has another tokenizer or chat template.
    """
    model, scorer = stage.parents["model"], stage.parents[role]
    for what, ours, theirs in (
        ("tokenizer", tokenizer_digest(model), tokenizer_digest(scorer)),
        ("chat template", template_digest(_template(stage)), template_digest(template_of(scorer))),
    ):
        if ours != theirs:
            raise ResidencyError(
                f"stage {stage.name}: the reward model of {name_of(scorer)} has another {what} than {name_of(model)}, "
                "whose replies it scores",
                cure=f"Train it from a model with the {what} of {name_of(model)}",
            )


def check_special(place: str, model: Path) -> None:
    """Special tokens and those that end a reply exist, are single ids, and lie inside the embedding.

    Raises:
        ResidencyError: one is not so.
    """
    known, rows, named = _all_ids(model), rows_of(model), _named(model)
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = named.get(key)
        if token is None:
            continue
        if token not in known:
            raise ResidencyError(
                f"{place}: the {key} {token!r} of {name_of(model)} is no token of its tokenizer",
                cure="Name one of its tokens in tokenizer_config.json, or add it to the vocabulary",
            )
        _inside(place, model, f"{key} {token!r}", known[token], rows)
    for number in _stop_ids(model):
        _inside(place, model, "stop token", number, rows)


def check_stop(place: str, model: Path, template: str) -> None:
    """What the template writes around a turn are single tokens, and one stands behind the assistant's words.

    Raises:
        ResidencyError: the model could not learn where to stop.
    """
    known, rows = _ids(model), rows_of(model)
    for mark in check_marks(place, name_of(model), template, known, _named(model)):
        _inside(place, model, mark, known[mark], rows)


def check_marks(
    place: str, of: str, template: str, known: Collection[str], named: Mapping[str, str | None]
) -> list[str]:
    """The same of a tokenizer that need not be here; returns the marks that the template writes.

    Args:
        of: the model that the tokenizer belongs to.
        known: its added tokens.
        named: those with a role, as templates ask for them: `eos_token`.

    Raises:
        ResidencyError: as `check_stop`.
    """
    if fault := _unreadable(template):
        raise ResidencyError(
            f"{place}: the chat template cannot be read: {fault}",
            cure="Mend it, or give another chat_template",
        )
    text = _rendered(template, named)
    if text is None:
        return []
    marks = list(dict.fromkeys(MARK.findall(text)))
    for mark in marks:
        if mark not in known:
            raise ResidencyError(
                f"{place}: the chat template writes {mark}, which is no single token of the tokenizer of {of}",
                cure="Give a chat_template that is made for this tokenizer, or add the token to its vocabulary",
            )
    if turn_end(text, known) is None:
        behind = text.rpartition(SAID)[2].strip()
        raise ResidencyError(
            f"{place}: the chat template writes {behind[:20]!r} behind the assistant's words, which is no special token"
            f" of {of}: it could not learn where to stop",
            cure="Let the template write the tokenizer's eos_token there",
        )
    return marks


def stop_ids(model: Path) -> list[int]:
    """Ids that end a reply: the model's and the tokenizer's end of sequence, and the chat template's end of turn."""
    ends, ids = _stop_ids(model), _all_ids(model)
    eos, template = _named(model).get("eos_token"), template_of(model)
    text = _rendered(template, _named(model)) if template else None
    turn = turn_end(text, _ids(model)) if text else None
    ends += [ids[token] for token in (eos, turn) if token in ids]
    return list(dict.fromkeys(ends))


def _inside(place: str, model: Path, what: str, number: int, rows: int) -> None:
    if number >= rows:
        raise ResidencyError(
            f"{place}: {what} of {name_of(model)} has the id {number}, its embedding has {rows} rows",
            cure="The tokenizer has tokens that the model does not know: use the model's own",
        )


def _named(model: Path) -> dict[str, str | None]:
    """Special tokens by their names: `eos_token`."""
    return {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in _settings(model).items()
        if key.endswith("_token")
    }


def _engine() -> Any:
    """As transformers renders templates, but for what marks the assistant's words."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    extensions = ["jinja2.ext.loopcontrols"]
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)


def _unreadable(template: str) -> str | None:
    """What is wrong with a template's writing; None where it is Jinja."""
    from jinja2 import TemplateSyntaxError

    try:
        _engine().from_string(GENERATION.sub("", template))
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    return None


def _rendered(template: str, named: Mapping[str, str | None]) -> str | None:
    """A question and an answer; None where the template needs more than a template engine."""
    from jinja2 import TemplateError

    try:
        compiled = _engine().from_string(GENERATION.sub("", template))
        return str(compiled.render(messages=EXCHANGE, add_generation_prompt=False, **named))
    except (TemplateError, TypeError, ValueError):
        return None


def _template(stage: StageFile) -> str | None:
    return stage.settings.get("chat_template") or template_of(stage.parents["model"])


def _tokenizer(model: Path) -> dict[str, Any]:
    path = _spoken(model) / "tokenizer.json"
    if not path.exists():
        raise ResidencyError(
            f"{path.parent} holds no tokenizer.json",
            cure="Save the model's tokenizer in the fast (tokenizers) format",
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _spoken(model: Path) -> Path:
    """Where the tokenizer is: an adapter from elsewhere may come without one."""
    here = (model / "tokenizer.json").exists()
    return model if here or not (model / "adapter_config.json").exists() else base_of(model)[0]


def _settings(model: Path) -> dict[str, Any]:
    path = _spoken(model) / "tokenizer_config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _ids(model: Path) -> dict[str, int]:
    """Added tokens with their ids: those that text is never cut inside of."""
    return {entry["content"]: entry["id"] for entry in _tokenizer(model)["added_tokens"]}


def _all_ids(model: Path) -> dict[str, int]:
    plain = _tokenizer(model)["model"].get("vocab") or {}
    if not isinstance(plain, dict):  # pairs of token and score, in the order of the ids
        plain = {entry[0]: number for number, entry in enumerate(plain)}
    return {**plain, **_ids(model)}


def _size(model: Path) -> int:
    return len(_all_ids(model))


def _stop_ids(model: Path) -> list[int]:
    path = model / "generation_config.json"
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    return [end for end in (ends if isinstance(ends, list) else [ends]) if end is not None]
