"""Records that were made before: `runs/.records/<key>/records.parquet`, one folder per model and task.

The key holds all that a record depends on: the digests of weights, configuration and tokenizer, the precision, the
scorer's version, the window, the task with the text of its wordings, and its items. Never a path or a name, so a model
that changed in place is never served an older model's scores.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from residency.artifact import identity_of, sha256
from residency.eval.records import FILE, Record, read_table, write_records
from residency.eval.settings import AskedTask, RubricTask, TaskSettings
from residency.eval.shipped import template_text

WRITTEN = ("answer", "rubric", "variance", "lm-eval")  # kinds whose records may hold what a model wrote


def model_key(model: Path, max_length: int) -> dict[str, Any]:
    """What makes two models' records comparable or not: weights, tokenizer, precision, scorer, window."""
    from residency.data.tokenization.tokenizer import template_digest, template_of, tokenizer_digest
    from residency.eval.likelihood.score import SCORER
    from residency.model import base_of, resolve_precision

    base, adapter = base_of(model)
    weights = [*base.glob("*.safetensors"), *(adapter.glob("*.safetensors") if adapter else [])]
    spoken = model if (model / "tokenizer_config.json").exists() else base
    facts = {
        "weights_sha256": {path.name: sha256(path) for path in sorted(weights)},
        "tokenizer_digest": tokenizer_digest(spoken),
        "template_digest": template_digest(template_of(spoken)),
        "precision": str(resolve_precision("auto")).removeprefix("torch."),
        "scorer": SCORER,
        "config_sha256": sha256(base / "config.json"),
        "adapter": _adapter_config(adapter) if adapter else None,
        "max_length": min(max_length, window(base)),
    }
    return {**facts, "key": identity_of(**facts)}


def _adapter_config(adapter: Path) -> str:
    """Digest of an adapter's rank, scale and places; not of the path to its base, whose weights count by themselves."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return identity_of(**{key: value for key, value in config.items() if key != "base_model_name_or_path"})


def window(model: Path) -> int:
    """Positions that a model knows, from its `config.json`; very many where it does not say."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    known = {**config, **config.get("text_config", {})}.get("max_position_embeddings")
    return int(known or 2**31)


def path_of(runs: Path, task: TaskSettings, items: dict[str, str], key: dict[str, Any]) -> Path:
    """Where the records of a model on a task are kept.

    Args:
        items: role to identity of the corpora of the task's items, solved examples and validation.
        key: the model's, as `model_key` gives it.
    """
    asked = task.model_dump(mode="json", exclude={"title", "domain", "margin"})
    wordings = [template_text(text) for text in task.templates] if isinstance(task, AskedTask) else []
    judge = _judge_key(task, key["max_length"]) if task.kind == "rubric" else {}
    asked |= {"backend": _backend()} if task.kind in WRITTEN or "reply" in asked.get("scorers", ()) else {}
    return (
        runs
        / ".records"
        / identity_of(task=asked, wordings=wordings, items=items, model=key["key"], **judge)[:32]
    )


def _judge_key(task: RubricTask, max_length: int) -> dict[str, str]:
    from residency.eval.writing.judge import directory_of

    assert task.judge is not None, "refused before"
    return {"judge": model_key(directory_of(task.judge), max_length)["key"]}


def _backend() -> str:
    from residency.generation.generate import WRITER, backend

    return f"{backend()} {WRITER}"


def read(path: Path, task: TaskSettings) -> list[Record] | None:
    """The records that are kept at a path, or None; a damaged file (a full disk, a power cut) counts as none."""
    from pyarrow import ArrowInvalid

    if not (path / FILE).exists():
        return None
    try:
        return [record | {"task": task.name} for record in read_table(path)]
    except (ArrowInvalid, OSError):
        shutil.rmtree(path)
        return None


def write(path: Path, records: list[Record]) -> None:
    """Keep records; whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    beside.mkdir(parents=True)
    try:
        write_records(beside, records)
        beside.rename(path)
    except OSError:
        shutil.rmtree(beside)
        if not path.exists():  # else another process was faster
            raise
