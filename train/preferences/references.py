"""Log-probabilities of all replies under the model that training starts from: computed once, kept beside the runs.

They stand in `<runs>/.references/<digest>.safetensors` under a digest of the weights, the pairs and how they are
computed, so that a stage with another loss or another strength finds them. A file that was damaged is made again.
Every forward pass holds the same replies whatever the ranks, so that the numbers are the same too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from residency.artifact import StageFile, read_manifest, sha256
from residency.model import base_of

VERSION = 1
"""Of what the digest covers; a new one forgets all that was kept."""
LIBRARIES = ("torch", "transformers", "peft")
"""Those that compute: another version may compute something else, and the policy is computed with the one at hand."""


def digest(stage: StageFile, how: dict[str, Any]) -> str:
    """Name of what a stage needs: of its model's weights, its pairs and `how` they are computed."""
    base, adapter = base_of(stage.parents["model"])
    described = {
        "version": VERSION,
        "base": _weights(base),
        "adapter": _weights(adapter) if adapter else None,
        "pairs": _files(stage.parents["tokens"] / "pairs", "*.arrow"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "how": how,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _weights(directory: Path) -> dict[str, str]:
    return _files(directory, "*.safetensors") | _files(directory, "*config.json")


def _files(directory: Path, pattern: str) -> dict[str, str]:
    """Hashes of files; of an artifact's as they stand in its manifest, which the hand-off has checked."""
    root = next(
        (place for place in (directory, directory.parent) if (place / "manifest.json").exists()), None
    )
    known = read_manifest(root).files if root else {}
    hashes = {}
    for path in sorted(directory.glob(pattern)):
        entry = known.get(str(path.relative_to(root))) if root else None
        hashes[path.name] = entry["sha256"] if entry else sha256(path)
    return hashes


def place(stage: StageFile, name: str) -> Path:
    """The file that holds what `digest` named."""
    return stage.run.parent / ".references" / f"{name}.safetensors"


def load(path: Path, shape: tuple[int, int]) -> torch.Tensor | None:
    """What is kept, `[items, replies]`; None where nothing is, or where it was damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            found: torch.Tensor = file.get_tensor("sums")
            told = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return found if tuple(found.shape) == shape and told == _sum(found) else None


def save(path: Path, sums: torch.Tensor) -> None:
    """Keep `[items, replies]`; the file appears whole. A disk that is full costs the next stage time, not this one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"sums": sums}, beside, metadata={"sha256": _sum(sums)})
        beside.rename(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        print(f"residency: {path.name} is not kept: {error}", flush=True)


def _sum(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def found(path: Path, shape: tuple[int, int], device: torch.device) -> torch.Tensor | None:
    """What rank 0 has kept, on every rank: the others may not see its disk, or see it later."""
    kept = load(path, shape) if _rank() == 0 else None
    sums = torch.zeros(shape, device=device) if kept is None else kept.to(device)
    flag = torch.tensor([kept is not None], dtype=torch.int32, device=device)
    torch.distributed.broadcast(flag, src=0)
    if not flag.item():
        return None
    torch.distributed.broadcast(sums, src=0)
    return sums.cpu()


def computed(
    lengths: Sequence[int],
    replies: int,
    at_once: int,
    forward: Callable[[Sequence[int]], torch.Tensor],
    device: torch.device,
) -> torch.Tensor:
    """Sums of all items, `[items, replies]`, each forward pass by one rank.

    Args:
        lengths: tokens of each item; those of like length go together.
        at_once: items of a forward pass.
        forward: sums `[items, replies]` of the items of these numbers. All ranks call it equally often, since with
            ZeRO-3 they gather the weights together.
    """
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    passes = [order[first : first + at_once] for first in range(0, len(order), at_once)]
    sums = torch.zeros(len(lengths), replies, device=device)
    for turn in range(0, len(passes), world_size):
        own = turn + _rank()
        batch = passes[own] if own < len(passes) else passes[-1]
        scored = forward(batch)
        if own < len(passes):
            sums[torch.tensor(batch, device=device)] = scored
    if world_size > 1:
        torch.distributed.all_reduce(sums)
    return sums.cpu()


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
