"""Export: a plain directory that `transformers` loads as it is, with tokenizer, chat template and a model card.

A kept adapter is merged, in the precision of its base; a learnt prompt is refused. The generation settings name every
token that ends a reply, the chat template's end of turn among them. Runs in the chain's process.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from residency.artifact import commit, own, read_manifest, read_stage, sha256
from residency.data.passport import Entry, contradiction, forbidden, licence_of
from residency.model import base_of
from residency.train import contract
from residency.train.adapters.merging import copy_beside, merge

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [residency, medical]
{about}---

# {name}

Made by [Residency](https://github.com/residency/residency) {version}: {chain}.

Not a medical device. Its answers need the judgement of a clinician; nothing here was validated for clinical use.

## Data

| corpus | source | licence | consent | languages | patients' identifiers | made by | documents | learnt in |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{corpora}

{terms}

## Reproduce

Identity `{identity}`; the chain's settings stand in `manifest.json`.
"""


def run(attempt: Path) -> Path:
    """Write the export of the parent's model; returns its artifact."""
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    source = stage.parents["model"]
    contract.check_models(stage)
    base, adapter = base_of(source)
    if adapter:
        merge(base, adapter, payload)
        copy_beside(adapter, payload)
        copy_beside(base, payload)
    else:
        shutil.copytree(source, payload, ignore=shutil.ignore_patterns("manifest.json", "*.jsonl"))
    write_stops(payload)
    manifests = _lineage(source)
    made_of = manifests[-1].passport
    card = CARD.format(
        name=stage.run.name,
        version=manifests[-1].environment["packages"]["residency"],
        chain=" -> ".join(manifest.stage for manifest in manifests),
        about=_about(made_of, stage.settings["licence"]),
        corpora="\n".join(_row(entry) for entry in made_of),
        terms=_terms(made_of, stage.settings["licence"]),
        identity=stage.parent_identities["model"],
    )
    (payload / "README.md").write_text(card, encoding="utf-8")
    measured = {"weights_sha256": {path.name: sha256(path) for path in sorted(payload.glob("*.safetensors"))}}
    return commit(attempt, payload, "model", owner=owner, measured=measured, passport=made_of)


def _about(made_of: list[Entry], licence: str | None) -> str:
    """The card's head lines on licence and languages, as the hub reads them."""
    licence = licence or licence_of(made_of)
    languages = dict.fromkeys(code for entry in made_of for code in entry["languages"])
    lines = [f"license: {licence.lower()}"] if licence else []
    lines += [f"language: [{', '.join(json.dumps(code) for code in languages)}]"] if languages else []
    return "".join(f"{line}\n" for line in lines)


def _row(entry: Entry) -> str:
    cells = [
        entry["corpus"],
        entry["source"],
        entry["licence"] or "not stated",
        entry["consent"] or "not stated",
        ", ".join(entry["languages"]) or "not stated",
        entry["phi"] or "not stated",
        entry["synthetic"] or "people",
        entry["documents"],
        entry["stage"] if entry.get("share") is None else f"{entry['stage']} ({entry['share']:.0%})",
    ]
    return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"


def _terms(made_of: list[Entry], licence: str | None) -> str:
    """What the sources ask of whoever gets the model."""
    if reason := forbidden(made_of, "publish"):
        return f"This model must not be passed on: {reason}."
    if reason := contradiction(made_of, licence):
        return f"This model must not be passed on: {reason}."
    follows = licence_of(made_of)
    if licence:
        return f"Licence: {licence}."
    return f"Licence: {follows}, which follows from the corpora." if follows else "Licence: not stated."


def write_stops(model: Path) -> None:
    """Name in a model's generation settings all tokens that end a reply."""
    path = model / "generation_config.json"
    written = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if stops := contract.stop_ids(model):
        path.write_text(json.dumps(written | {"eos_token_id": stops}, indent=2) + "\n", encoding="utf-8")


def _lineage(model: Path) -> list[Any]:
    """Manifests from the first trained ancestor to the model itself."""
    manifest = read_manifest(model)
    parent = manifest.parent_paths.get("model")
    above = (model / parent).resolve() if parent else None
    return [*(_lineage(above) if above and (above / "manifest.json").exists() else []), manifest]
