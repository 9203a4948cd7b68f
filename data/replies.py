"""The `replies` stage: judged replies become token ids for the `reward` stage, before an accelerator is held.

A row of `ranked` form is a prompt with its replies, best first: of a preference pair two (a `margin` of it as scores
`[margin, 0]`), of a ranking all, with their scores where it has some. A row of `steps` form is a conversation with the
place of each step's last token, and the steps' values. Rows whose prompt is held out are not trained on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal

from residency.artifact import commit, own, read_manifest, read_stage
from residency.data.corpus import Part, rows, schema_of
from residency.data.settings import RepliesSettings
from residency.data.tokenization.rendering import Renderer
from residency.data.tokenization.step_ends import step_ends
from residency.data.tokenization.tokenizer import load_tokenizer, template_digest, tokenizer_digest
from residency.errors import ResidencyError

Row = dict[str, Any]
Form = Literal["ranked", "steps"]
FORMS: dict[str, Form] = {"preference": "ranked", "ranked": "ranked", "steps": "steps"}
"""Schema of a corpus to the form of its rows."""
HELD_OUT = "prompt is held out"
ALIKE = "no reply is better than another"


def run(attempt: Path) -> Path:
    """Render the replies of a reward stage; returns the tokens artifact (`train/`, `held_out/` where there is any).

    Raises:
        ResidencyError: a corpus of another kind, a model without chat template, or a row that teaches nothing or
            does not fit.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = RepliesSettings.model_validate(stage.settings)
    corpora = {role[7:]: path for role, path in stage.parents.items() if role.startswith("corpus:")}
    main = next((name for name in corpora if name != settings.held_out), settings.held_out)
    assert main is not None, f"no corpus among {list(stage.parents)}"
    model = stage.parents["model"]
    renderer = Renderer(load_tokenizer(model), model.name, settings.chat_template)
    form = _form(main, corpora[main])
    name, part = _measured_on(main, corpora, settings.held_out)
    if part and _form(name, corpora[name]) != form:
        raise ResidencyError(
            f"corpus {name} holds rows of kind {schema_of(corpora[name])}, corpus {main} of kind "
            f"{schema_of(corpora[main])}",
            cure="Give held_out a corpus of the same kind",
        )
    judged, tied = _judged(name, corpora[name], part, settings.held_out)
    asked = {json.dumps(row["prompt"]) for row in judged}
    fresh, left_out = _fresh(main, corpora[main], asked)
    train, held_out = (
        list(islice(_made(some, form, renderer, corpus, settings.max_length), limit))
        for some, corpus, limit in ((fresh, main, settings.limit), (judged, name, None))
    )
    _save(train, payload / "train", form)
    if held_out:
        _save(held_out, payload / "held_out", form)
    measured = _measured(train, held_out) | {
        "form": form,
        "left_out": left_out,
        "held_out_left_out": tied,
        "max_length": settings.max_length,
        "tokenizer_digest": tokenizer_digest(model),
        "template_digest": template_digest(renderer.template),
    }
    passport = [{**entry, "share": 1.0} for entry in read_manifest(corpora[main]).passport]
    return commit(attempt, payload, "tokens", owner=owner, measured=measured, passport=passport)


def _judged(name: str, corpus: Path, part: Part | None, said: str | None) -> tuple[list[Row], dict[str, int]]:
    """The held-out rows, and why others of them measure nothing."""
    left_out: Counter[str] = Counter()
    judged = list(_teaching(rows(corpus, part), set(), left_out)) if part else []
    if said and not judged:
        raise ResidencyError(
            f"corpus {name}: no row is left to measure on ({_told(left_out)})", cure="Hold more rows out"
        )
    return judged, dict(left_out)


def _fresh(name: str, corpus: Path, asked: set[str]) -> tuple[list[Row], dict[str, int]]:
    """The rows to train on, and why others are left out."""
    left_out: Counter[str] = Counter()
    fresh = list(_teaching(rows(corpus, "train"), asked, left_out))
    if not fresh:
        raise ResidencyError(
            f"corpus {name}: no row is left to learn from ({_told(left_out)})",
            cure="Give other prompts, or other rewards",
        )
    return fresh, dict(left_out)


def _told(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it has none"


def _measured(train: list[Row], held_out: list[Row]) -> Row:
    lengths = [length for row in train for length in _lengths(row)]
    return {
        "prompts": len(train),
        "judgements": sum(map(judgements, train)),
        "held_out": len(held_out),
        "held_out_judgements": sum(map(judgements, held_out)),
        "with_scores": sum(row.get("scores") is not None for row in train),
        "tokens": sum(lengths),
        "longest": max(length for row in train + held_out for length in _lengths(row)),
    }


def load(artifact: Path, part: Part) -> Any:
    """The Arrow rows of an artifact of this stage; an empty list where nothing is held out."""
    from datasets import load_from_disk

    return load_from_disk(str(artifact / part)) if (artifact / part).exists() else []


def pairs(ranks: list[int]) -> list[tuple[int, int]]:
    """Places of the better and the worse reply of every pair; replies of equal rank make none."""
    return [(one, other) for one, other in combinations(range(len(ranks)), 2) if ranks[one] < ranks[other]]


def judgements(row: Row) -> int:
    """Pairs of a row of `ranked` form, steps of one of `steps` form."""
    return len(pairs(row["ranks"])) if "ranks" in row else len(row["ends"])


def _form(name: str, corpus: Path) -> Form:
    schema = schema_of(corpus)
    if schema not in FORMS:
        raise ResidencyError(
            f"corpus {name} holds rows of kind {schema}, which judge nothing",
            cure="Give preference pairs, ranked replies, or steps with values",
        )
    return FORMS[schema]


def _measured_on(main: str, corpora: dict[str, Path], said: str | None) -> tuple[str, Part | None]:
    """Corpus and part that accuracy is measured on; no part where nothing is held out."""
    if said and said != main:
        return said, "train"
    if said or (corpora[main] / "held_out.jsonl").exists():
        return main, "held_out"
    return main, None


def _made(
    found: Iterable[Row], form: Form, renderer: Renderer, corpus: str, max_length: int
) -> Iterator[Row]:
    for row in found:
        try:
            made = _steps(row, renderer) if form == "steps" else _ranked(row, renderer)
        except ResidencyError as error:
            raise ResidencyError(f"corpus {corpus}: row {row['id']}: {error}") from error
        if (longest := max(_lengths(made))) > max_length:
            raise ResidencyError(
                f"corpus {corpus}: row {row['id']} has {longest} tokens with its prompt, more than max_length = "
                f"{max_length}",
                cure="Raise max_length, or take such rows out (max_characters of the corpus)",
            )
        yield made


def _teaching(found: Iterable[Row], asked: set[str], left_out: Counter[str]) -> Iterator[Row]:
    """Rows whose prompt is not held out and, of what a stage wrote and ranked, whose replies differ in rank."""
    for row in found:
        if json.dumps(row["prompt"]) in asked:
            left_out[HELD_OUT] += 1
        elif "ranks" in row and not pairs(row["ranks"]):
            left_out[ALIKE] += 1
        else:
            yield row


def _steps(row: Row, renderer: Renderer) -> Row:
    ids, ends = step_ends(renderer, row["prompt"], row["steps"])
    return _known(row) | {"ids": ids, "ends": ends, "values": row["values"]}


def _ranked(row: Row, renderer: Renderer) -> Row:
    """A pair or a ranking, rendered.

    Raises:
        ResidencyError: an empty prompt or reply, the same reply twice with different ranks, or ranks all equal.
    """
    if "chosen" in row:
        replies, ranks = [row["chosen"], row["rejected"]], [1, 2]
        scores = None if row.get("margin") is None else [row["margin"], 0.0]
    else:
        replies = [[{"role": "assistant", "content": reply}] for reply in row["replies"]]
        ranks, scores = row["ranks"], row.get("scores")
    for messages in (row["prompt"], *replies):
        if not any(message["content"].strip() for message in messages):
            raise ResidencyError("an empty prompt or reply", cure="Take it out")
    if not pairs(ranks):
        raise ResidencyError(ALIKE, cure="Take it out")
    if any(replies[better] == replies[worse] for better, worse in pairs(ranks)):
        raise ResidencyError("a reply is preferred to itself", cure="Take it out")
    rendered = [
        renderer.reply(row["prompt"], reply, unfinished=row.get("unfinished", False)) for reply in replies
    ]
    return _known(row) | {
        "prompt_ids": rendered[0][0],
        "replies_ids": [ids for _, ids in rendered],
        "ranks": ranks,
        "scores": scores,
    }


def _known(row: Row) -> Row:
    return {"id": row["id"], "cluster": row.get("cluster") or row["id"]}


def _lengths(row: Row) -> list[int]:
    if "ids" in row:
        return [len(row["ids"])]
    return [len(row["prompt_ids"]) + len(reply) for reply in row["replies_ids"]]


def _save(made: list[Row], target: Path, form: Form) -> None:
    """As Arrow; types are written out, since a column of nothing but null would have none."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()
    ids, number, text = List(Value("int32")), List(Value("float32")), Value("string")
    columns: dict[str, Any] = {"id": text, "cluster": text}
    if form == "steps":
        columns |= {"ids": ids, "ends": ids, "values": number}
    else:
        columns |= {"prompt_ids": ids, "replies_ids": List(ids), "ranks": ids, "scores": number}
    Dataset.from_list(made, features=Features(columns)).save_to_disk(target)
