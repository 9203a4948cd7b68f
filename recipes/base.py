"""Finds a base model from outside: a directory, the mirror, the hub's cache, or (online) the hub. No torch here.

Only safetensors weights, the configuration and the tokenizer are ever fetched or read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from residency.artifact import identity_of, sha256
from residency.data.reading.sources import hub_errors, offline
from residency.errors import ResidencyError
from residency.model import base_of
from residency.recipes.schema import HubBase

WANTED = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"]


@dataclass(frozen=True)
class BaseModelFiles:
    """A base model; `directory` need not exist yet where the hub will be asked."""

    model: str
    revision: str | None
    directory: Path
    identity: str

    @property
    def here(self) -> bool:
        return any((self.directory / name).exists() for name in ("config.json", "adapter_config.json"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json`, or nothing where the model is not here."""
        path = base_of(self.directory)[0] / "config.json" if self.here else None
        return dict(json.loads(path.read_text())) if path else {}

    def fetch(self) -> None:
        """Download what is missing.

        Raises:
            ResidencyError: offline, or the hub has no such model.
        """
        if self.here:
            return
        if offline():
            raise ResidencyError(
                f"base: {self.model} is no directory and neither in the mirror nor in the hub's cache, and this "
                "process is offline",
                cure="Download it on a machine with internet, or give its directory",
            )
        from huggingface_hub import snapshot_download

        refused, unreachable = hub_errors()
        try:
            snapshot_download(self.model, revision=self.revision, allow_patterns=WANTED)
        except (*refused, *unreachable) as error:
            raise ResidencyError(f"base: {self.model}: {str(error).splitlines()[0]}") from error


def find_base(base: str | HubBase) -> BaseModelFiles:
    """Where a base is, or where the hub's cache will put it.

    Raises:
        ResidencyError: a directory without `config.json` or without safetensors weights.
    """
    wanted = HubBase(model=base) if isinstance(base, str) else base
    mirror = os.environ.get("RESIDENCY_MIRROR")
    for directory in [Path(wanted.model), *([Path(mirror, wanted.model)] if mirror else [])]:
        if directory.is_dir():
            return BaseModelFiles(wanted.model, wanted.revision, directory.resolve(), _digest(directory))
    if wanted.model.count("/") != 1 or wanted.model.startswith((".", "/")):
        raise ResidencyError(
            f"base: no directory {wanted.model}", cure="Give a directory or a hub id owner/name"
        )
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{wanted.model.replace('/', '--')}"
    reference = repository / "refs" / (wanted.revision or "main")
    commit = reference.read_text().strip() if reference.exists() else (wanted.revision or "main")
    return BaseModelFiles(
        wanted.model, wanted.revision, repository / "snapshots" / commit, f"{wanted.model}@{commit}"
    )


def _digest(directory: Path) -> str:
    """Identity of a model directory: the sha256 of its weights, configuration and tokenizer."""
    manifest = directory / "manifest.json"
    adapter = (directory / "adapter_config.json").exists()
    if not adapter and not (directory / "config.json").exists():
        raise ResidencyError(
            f"base: {directory} holds no config.json", cure="Give a directory in Hugging Face's format"
        )
    if manifest.exists():
        return str(json.loads(manifest.read_text())["identity"])
    if not list(directory.glob("*.safetensors")):
        raise ResidencyError(
            f"base: {directory} holds no safetensors weights",
            cure="Convert it: pickled weights are never loaded",
        )
    files = sorted(path for pattern in WANTED for path in directory.glob(pattern))
    below = {"base": _digest(base_of(directory)[0])} if adapter else {}
    return identity_of(files={path.name: sha256(path) for path in files}, **below)
