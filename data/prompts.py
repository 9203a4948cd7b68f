"""The `prompts` stage: what a model is asked, as token ids, with what is known of the right answer.

Prompts come from any corpus but running text: of a dialogue all up to its last reply, which becomes the reference; of
pairs and rankings the prompt, with the best reply as the reference; of an exam item the question. A question that is
plain text gets its options listed by letter, one a line; one that is a conversation is asked as it stands. Equal
prompts are kept once. Everything is made before an accelerator is held."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from residency.artifact import commit, own, read_manifest, read_stage
from residency.data.corpus import Part, rows, schema_of
from residency.data.settings import PromptsSettings
from residency.data.tokenization.rendering import Renderer
from residency.data.tokenization.tokenizer import load_tokenizer, template_digest, tokenizer_digest
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from residency.data.tokenization.rendering import Message

Row = dict[str, Any]
ANSWERED = ("choice", "answer")
"""Schemas whose prompts have a right answer."""
SCHEMAS = ("messages", "preference", "ranked", *ANSWERED, "labelled")


def run(attempt: Path) -> Path:
    """Render the prompts of a stage that writes replies; returns the tokens artifact (`train/`, `held_out/`).

    Raises:
        ResidencyError: a corpus of another kind, a model without chat template, no prompt at all, or one that does
            not fit.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = PromptsSettings.model_validate(stage.settings)
    corpora = {role[7:]: path for role, path in stage.parents.items() if role.startswith("corpus:")}
    main = next((name for name in corpora if name != settings.held_out), settings.held_out)
    assert main is not None, f"no corpus among {list(stage.parents)}"
    renderer = Renderer(
        load_tokenizer(stage.parents["model"]), stage.parents["model"].name, settings.chat_template
    )
    dropped: Counter[str] = Counter()
    held_out: list[Row] = []
    if settings.held_out:
        part: Part = "held_out" if settings.held_out == main else "train"
        asked = prompts(settings.held_out, corpora[settings.held_out], part)
        held_out = list(_once(asked, set(), dropped, "held-out prompt asked before"))
    known = {row["prompt"] for row in held_out}
    fresh = _once(prompts(main, corpora[main], "train"), known, dropped, "asked before, or held out")
    train = [row for _, row in zip(range(settings.limit or 10**12), fresh, strict=False)]
    if not train:
        raise ResidencyError(f"corpus {main}: no prompt is left ({dict(dropped)})")
    for name, some in ((main, train), (settings.held_out, held_out)):
        for row in some:
            row["prompt_ids"] = renderer.prompt(json.loads(row["prompt"]))
        _refuse_long(some, settings.max_length, str(name))
    _save(train, payload / "train")
    if settings.held_out:
        _save(held_out, payload / "held_out")
    measured = {
        "prompts": len(train),
        "held_out": len(held_out),
        "left_out": dict(dropped),
        "with_answer": sum(map(has_answer, train)),
        "tokens": sum(len(row["prompt_ids"]) for row in train),
        "longest": max(len(row["prompt_ids"]) for row in train + held_out),
        "max_length": settings.max_length,
        "schema": schema_of(corpora[main]),
        "tokenizer_digest": tokenizer_digest(stage.parents["model"]),
        "template_digest": template_digest(renderer.template),
    }
    passport = [{**entry, "share": 1.0} for entry in read_manifest(corpora[main]).passport]
    return commit(attempt, payload, "tokens", owner=owner, measured=measured, passport=passport)


def load(artifact: Path, part: Part) -> list[Row]:
    """The rows of an artifact of this stage, `prompt` as messages; none where nothing was held out."""
    from datasets import load_from_disk

    if not (artifact / part).exists():
        return []
    return [
        {**row, "prompt": json.loads(row["prompt"])} for row in load_from_disk(str(artifact / part)).to_list()
    ]


def listed(options: Sequence[str]) -> str:
    """The options of an exam item by letter, one a line."""
    return "\n".join(
        f"{letter}. {option.strip()}" for letter, option in zip(ascii_uppercase, options, strict=False)
    )


def has_answer(row: Row) -> bool:
    """Whether a reply to this prompt can be right or wrong."""
    return row["answer"] is not None or bool(row["answers"])


def prompts(name: str, corpus: Path, part: Part) -> Iterator[Row]:
    """What the rows of a corpus ask, not yet rendered: `prompt` is the messages' JSON text.

    Raises:
        ResidencyError: running text, an item that asks nothing, or more options than letters.
    """
    schema = schema_of(corpus)
    if schema not in SCHEMAS:
        raise ResidencyError(
            f"corpus {name} holds rows of kind {schema}, which ask nothing",
            cure=f"Give one of {', '.join(SCHEMAS)}",
        )
    for row in rows(corpus, part):
        messages, reference = _asked(row, schema, name)
        if not any(message["content"].strip() for message in messages):
            raise ResidencyError(f"corpus {name}: row {row['id']} asks nothing", cure="Take it out")
        yield {
            "id": row["id"],
            "cluster": row.get("cluster") or row["id"],
            "prompt": json.dumps(messages, ensure_ascii=False),
            "reference": reference,
            "options": [option.strip() for option in row.get("options", [])],
            "answer": row.get("answer"),
            "answers": row.get("answers") or [],
        }


def _asked(row: Row, schema: str, name: str) -> tuple[list[Message], str | None]:
    """Messages up to where the model speaks, and the reference reply, if there is one."""
    if schema == "messages":
        last = max(
            (at for at, said in enumerate(row["messages"]) if said["role"] == "assistant"), default=None
        )
        if not last:
            raise ResidencyError(f"corpus {name}: dialogue {row['id']} asks nothing", cure="Take it out")
        return row["messages"][:last], row["messages"][last]["content"]
    if schema == "preference":
        return row["prompt"], row["chosen"][-1]["content"]
    if schema == "ranked":
        return row["prompt"], row["replies"][0]
    if schema == "labelled":
        return row["prompt"], None
    options = row.get("options", [])
    if len(options) > len(ascii_uppercase):
        raise ResidencyError(
            f"corpus {name}: item {row['id']} has {len(options)} options", cure="Take it out"
        )
    if "ending" in row:
        raise ResidencyError(
            f"corpus {name}: item {row['id']} chooses a beginning, which cannot be asked", cure="Take it out"
        )
    right = options[row["answer"]].strip() if options else next(iter(row.get("answers") or []), None)
    return _question(row, options), right


def _question(row: Row, options: list[str]) -> list[Message]:
    """An exam item's question, behind what it is about; with the options where it is plain text."""
    asked = row["prompt"]
    before = [row["context"]] if row.get("context") else []
    if isinstance(asked, str):
        behind = f"\n{listed(options)}" if options else ""
        return [{"role": "user", "content": "\n\n".join([*before, asked.strip()]) + behind}]
    return [*asked[:-1], {**asked[-1], "content": "\n\n".join([*before, asked[-1]["content"]])}]


def _once(asked: Iterable[Row], known: set[str], dropped: Counter[str], reason: str) -> Iterator[Row]:
    seen = set(known)
    for row in asked:
        if row["prompt"] in seen:
            dropped[reason] += 1
        else:
            seen.add(row["prompt"])
            yield row


def _refuse_long(some: list[Row], max_length: int, name: str) -> None:
    long = [row for row in some if len(row["prompt_ids"]) > max_length]
    if long:
        worst = max(long, key=lambda row: len(row["prompt_ids"]))
        raise ResidencyError(
            f"corpus {name}: {len(long)} of {len(some)} prompts are longer than max_length = {max_length}; "
            f"the longest, {worst['id']}, has {len(worst['prompt_ids'])} tokens",
            cure=f"Set max_length to {len(worst['prompt_ids'])}, or take them out",
        )


def _save(some: list[Row], directory: Path) -> None:
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()
    text, texts = Value("string"), List(Value("string"))
    features = Features(
        {
            "id": text,
            "cluster": text,
            "prompt": text,
            "prompt_ids": List(Value("int32")),
            "reference": text,
            "options": texts,
            "answer": Value("int32"),
            "answers": texts,
        }
    )
    Dataset.from_list(some, features=features).save_to_disk(directory)
