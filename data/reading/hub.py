"""Data sets of the Hugging Face hub: the cached or downloaded snapshot, its commit, and what its client raises. No
torch here."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from residency.data.reading.formats import SUFFIXES
from residency.data.settings import CorpusSettings
from residency.errors import Exit, ResidencyError

TOKENIZER = ["tokenizer*", "special_tokens_map.json", "*.jinja", "config.json"]


class AbsentError(ResidencyError):
    """A hub data set that is not here, on a machine that must not ask the hub."""


def offline() -> bool:
    """Whether the hub must not be asked: a mirror is set, or Hugging Face's own switch."""
    return bool(os.environ.get("RESIDENCY_MIRROR")) or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def commit(settings: CorpusSettings) -> str:
    """The commit of a data set, from the cache or the hub.

    Raises:
        ResidencyError: neither has it.
    """
    from huggingface_hub import HfApi, constants

    source = settings.source
    reference = Path(constants.HF_HUB_CACHE) / f"datasets--{source.replace('/', '--')}" / "refs" / "main"
    if reference.exists():
        return reference.read_text().strip()
    if offline():
        raise _absent(settings)
    refused, unreachable = hub_errors()
    try:
        return str(HfApi().dataset_info(source).sha)
    except unreachable as error:
        raise _absent(settings) from error
    except refused as error:
        raise _no_answer(source, error) from error


def tokenizer_directory(model: str) -> Path:
    """Directory of a model's tokenizer: a local one, the mirror's, the cache's, or downloaded.

    Raises:
        ResidencyError: it is in none of them, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    mirror = os.environ.get("RESIDENCY_MIRROR")
    for directory in [Path(model), *([Path(mirror, model)] if mirror else [])]:
        if directory.is_dir():
            return directory
    refused, unreachable = hub_errors()
    try:
        found = snapshot_download(model, allow_patterns=TOKENIZER, local_files_only=offline())
    except (LocalEntryNotFoundError, ValueError) as error:
        raise ResidencyError(
            f"tokenizer {model}: no directory, and neither in a mirror nor in the hub's cache",
            cure="Give a directory with tokenizer.json, or the id owner/name of a model",
        ) from error
    except (*refused, *unreachable) as error:
        raise ResidencyError(
            f"tokenizer {model}: {str(error).splitlines()[0]}", code=Exit.ENVIRONMENT
        ) from error
    return Path(found)


def hub_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What the hub's client raises: where the hub says no, and where it cannot be reached."""
    from huggingface_hub.errors import HfHubHTTPError

    client = import_module("httpx2" if find_spec("httpx2") else "httpx")  # its name differs between releases
    return (HfHubHTTPError, OSError), (client.TransportError,)


def _no_answer(source: str, error: Exception) -> ResidencyError:
    return ResidencyError(
        f"source {source}: {str(error).splitlines()[0]}",
        cure="Check the id and the network",
        code=Exit.ENVIRONMENT,
    )


def snapshot(settings: CorpusSettings) -> Path:
    """Directory of a data set's data files (those that `file` names), downloaded if need be.

    Raises:
        ResidencyError: it is not here while this process is offline, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    source = settings.source
    patterns = settings.files or [f"*{suffix}" for suffix in SUFFIXES]
    try:
        directory = snapshot_download(
            source, repo_type="dataset", allow_patterns=patterns, local_files_only=offline()
        )
    except LocalEntryNotFoundError as error:
        raise _absent(settings) from error
    except hub_errors()[0] as error:
        raise _no_answer(source, error) from error
    return Path(directory)


def _absent(settings: CorpusSettings) -> AbsentError:
    source, mirror = settings.source, os.environ.get("RESIDENCY_MIRROR")
    place = f"the mirror {mirror}" if mirror else "a mirror"
    named = settings.files[:3] + (["..."] if settings.files[3:] else [])
    what = " and ".join(named) or "its files"
    directory = f"{mirror or '$RESIDENCY_MIRROR'}/{source}"
    return AbsentError(
        f"source {source}: neither a local path nor in {place} nor in the hub's cache, "
        "and this process is offline",
        cure=f"Put {what} (licence: {settings.licence}) into {directory}/; if it is on the hub: "
        f"hf download {source} --repo-type dataset --local-dir {directory}",
    )
