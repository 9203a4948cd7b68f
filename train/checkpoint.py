"""Checkpoints that can be trusted: sealed when whole, verified before they are loaded.

transformers writes `checkpoints/checkpoint-N/` in place, over seconds. When every rank has finished, rank 0 writes
`seal.json` (sha256 and size of every file) into it, atomically and last. Only a sealed checkpoint whose files still
match is ever resumed: DeepSpeed unpickles its files, so bytes that this attempt did not seal must not reach it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from residency.artifact import StageFile, file_digests, write_json
from residency.errors import Exit, ResidencyError

SEAL = "seal.json"
WEIGHTS = (".safetensors", ".json", ".jinja", ".model", ".txt")  # with configuration and tokenizer
NO_WEIGHTS = (SEAL, "trainer_state.json")


def seal(checkpoint: Path, identity: str) -> None:
    """Declare a checkpoint whole. Call on one rank, after all ranks have written."""
    files = {name: entry for name, entry in file_digests(checkpoint).items() if Path(name).name != SEAL}
    write_json(checkpoint / SEAL, {"identity": identity, "files": files})


def hold(checkpoint: Path, kept: Path) -> None:
    """Keep the weights of a sealed checkpoint under another name, so that they outlive its pruning.

    Hard links, which cost nothing, or copies where the file system has none. Whole or not at all.
    """
    if kept.exists():
        return
    beside = kept.with_name(f".{kept.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for path in checkpoint.iterdir():
        if path.is_file() and path.suffix in WEIGHTS and path.name not in NO_WEIGHTS:
            try:
                os.link(path, beside / path.name)
            except OSError:
                shutil.copyfile(path, beside / path.name)
    beside.rename(kept)


def newest_whole(attempt: Path, stage: StageFile) -> tuple[Path | None, list[str]]:
    """The newest checkpoint to resume from, and what was wrong with newer ones.

    Raises:
        ResidencyError: there are sealed checkpoints, and all of them are damaged.
    """
    faults: list[str] = []
    damaged = False
    for checkpoint in sorted(_checkpoints(attempt), key=_step, reverse=True):
        if not (checkpoint / SEAL).exists():
            faults.append(f"{checkpoint.name}: unfinished")
            continue
        fault = _fault(checkpoint, stage.identity)
        if fault is None:
            return checkpoint, faults
        damaged = True
        faults.append(f"{checkpoint.name}: {fault}")
    if damaged:
        raise ResidencyError(
            f"stage {stage.name}: no usable checkpoint ({'; '.join(faults)})",
            cure=f"Remove {attempt / 'checkpoints'} to start the stage over",
            code=Exit.NO_CHECKPOINT,
        )
    return None, faults


def refuse_other_ranks(checkpoint: Path, ranks: int) -> None:
    """Training goes on with as many ranks as saved: DeepSpeed does not cut the optimizer's state anew.

    Raises:
        ResidencyError: there are more ranks now, or fewer.
    """
    saved = len(list(checkpoint.glob("global_step*/*zero_pp_rank_*_optim_states.pt")))
    if saved and saved != ranks:
        raise ResidencyError(
            f"{checkpoint.name} was saved by {saved} ranks, now there are {ranks}: the optimizer's state cannot be "
            "split anew",
            cure=f"Run again with {saved} ranks, or remove {checkpoint.parent} to start the stage over",
        )


def sweep(attempt: Path, keep: Path | None) -> None:
    """Remove what a killed save left: checkpoints without a seal, and those newer than the one resumed."""
    for checkpoint in _checkpoints(attempt):
        newer = keep is not None and _step(checkpoint) > _step(keep)
        if newer or not (checkpoint / SEAL).exists():
            shutil.rmtree(checkpoint)


def _checkpoints(attempt: Path) -> list[Path]:
    return [path for path in (attempt / "checkpoints").glob("checkpoint-*") if path.is_dir()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _fault(checkpoint: Path, identity: str) -> str | None:
    try:
        sealed = json.loads((checkpoint / SEAL).read_text())
    except ValueError:
        return f"{SEAL} cannot be read"
    if sealed["identity"] != identity:
        return "of another stage"
    found = {name: entry for name, entry in file_digests(checkpoint).items() if Path(name).name != SEAL}
    for name in sorted(sealed["files"].keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in sealed["files"]:
            return f"{name} was added"
        if found[name] != sealed["files"][name]:
            return f"{name} was changed"
    return None
