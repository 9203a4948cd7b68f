"""Where things come from: names for messages, the tokenizer's maker, and the passport that follows the chain."""

from __future__ import annotations

from pathlib import Path

from residency.artifact import Manifest, read_manifest
from residency.errors import ResidencyError

NEW_TOKENIZER = ("scratch", "vocab")
"""Kinds of stages whose model has a tokenizer of its own."""


def manifest_of(directory: Path) -> Manifest | None:
    """None for a directory that no stage made."""
    return read_manifest(directory) if (directory / "manifest.json").exists() else None


def parent_of(directory: Path, role: str = "model") -> Path | None:
    """The artifact or directory that an artifact was made from, if it is still here."""
    manifest = manifest_of(directory)
    path = manifest.parent_paths.get(role) if manifest else None
    parent = (directory / path).resolve() if path else None
    return parent if parent and parent.exists() else None


def name_of(directory: Path) -> str:
    """How messages name a model: its stage, or its directory."""
    manifest = manifest_of(directory)
    return f"stage {manifest.stage}" if manifest else f"{directory}"


def tokenizer_maker(directory: Path) -> str:
    """The stage whose tokenizer a model has, or the directory from outside that it came with."""
    at = directory
    while (manifest := manifest_of(at)) and manifest.stage_kind not in NEW_TOKENIZER:
        above = parent_of(at)
        if above is None:
            break
        at = above
    return name_of(at)


def check_passport(stage: str, model: Path) -> None:
    """What a model's parent had seen, the model has seen too: nothing is lost on the way.

    Raises:
        ResidencyError: the passport of some model above lacks what its parent was made of.
    """
    at: Path | None = model
    while at is not None:
        manifest, above = manifest_of(at), parent_of(at)
        before = manifest_of(above) if above else None
        if manifest and before:
            known = {(entry.get("corpus"), entry.get("source")) for entry in manifest.passport}
            for entry in before.passport:
                if (entry.get("corpus"), entry.get("source")) not in known:
                    raise ResidencyError(
                        f"stage {stage}: stage {manifest.stage} lost from its passport that stage {before.stage} "
                        f"learnt from {entry.get('corpus')} ({entry.get('source')}): licence and contamination would "
                        "be judged wrongly",
                        cure=f"Remove {at} and run stage {manifest.stage} again",
                    )
        at = above
