"""Export: a plain directory that `transformers` loads as it is, with tokenizer, chat template and a model card.

A kept adapter is merged. Runs in the chain's process.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from residency.artifact import commit, own, read_manifest, read_stage, sha256
from residency.model import base_of

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [residency, medical]
---

# {name}

Made by [Residency](https://github.com/residency/residency) {version}: {chain}.

Not a medical device. Its answers need the judgement of a clinician; nothing here was validated for clinical use.

## Data

| corpus | source | licence | documents |
| --- | --- | --- | --- |
{corpora}

## Reproduce

Identity `{identity}`; the chain's settings stand in `manifest.json`.
"""


def run(attempt: Path) -> Path:
    """Write the export of the parent's model; returns its artifact."""
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    source = stage.parents["model"]
    if base_of(source)[1]:
        _merged(source, payload)
    else:
        shutil.copytree(source, payload, ignore=shutil.ignore_patterns("manifest.json"))
    manifests = _lineage(source)
    passport = [entry for manifest in manifests for entry in manifest.passport]
    corpora = {entry["corpus"]: entry for entry in passport}
    rows = [
        f"| {name} | {entry.get('source')} | {entry.get('licence') or 'not stated'} | {entry.get('documents', '')} |"
        for name, entry in corpora.items()
    ]
    card = CARD.format(
        name=stage.run.name,
        version=manifests[-1].environment["packages"]["residency"],
        chain=" -> ".join(manifest.stage for manifest in manifests),
        corpora="\n".join(rows),
        identity=stage.parent_identities["model"],
    )
    (payload / "README.md").write_text(card, encoding="utf-8")
    measured = {"weights_sha256": {path.name: sha256(path) for path in sorted(payload.glob("*.safetensors"))}}
    return commit(attempt, payload, "model", owner=owner, measured=measured, passport=list(corpora.values()))


def _merged(source: Path, payload: Path) -> None:
    from residency.model import load

    model, tokenizer = load(source)
    model.merge_and_unload().save_pretrained(payload)
    tokenizer.save_pretrained(payload)


def _lineage(model: Path) -> list[Any]:
    """Manifests from the first trained ancestor to the model itself."""
    manifest = read_manifest(model)
    parent = manifest.parent_paths.get("model")
    above = (model / parent).resolve() if parent else None
    return [*(_lineage(above) if above and (above / "manifest.json").exists() else []), manifest]
