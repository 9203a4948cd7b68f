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


def split_anew(checkpoint: Path, stage: StageFile, ranks: int) -> bool:
    """Whether the optimizer's state was saved in other parts than these ranks load, see `residency.train.reshard`.

    Raises:
        ResidencyError: it was saved under another stage of ZeRO, or cannot be split anew.
    """
    parts = len(list(checkpoint.glob("global_step*/*zero_pp_rank_*_optim_states.pt")))
    weights_split = any(checkpoint.glob("global_step*/zero_pp_rank_*_model_states.pt"))
    saved = "3" if weights_split else "1 or 2" if parts else "0"
    zero = stage.execution["engine"]["zero"]
    if str(zero) not in saved:
        raise ResidencyError(
            f"{checkpoint.name} was saved under ZeRO {saved}, now engine.zero = {zero}",
            cure=f"Set it back, or remove {checkpoint.parent} to start the stage over",
        )
    before = len(list(checkpoint.glob("rng_state*.pth")))  # one of each rank, also without ZeRO
    if stage.kind == "rl" and before != ranks:
        raise ResidencyError(
            f"{checkpoint.name} was saved by {before} ranks, now there are {ranks}: in a stage of kind rl each goes on "
            "with replies of its own",
            cure=f"Run again with {before} ranks, or remove {checkpoint.parent} to start the stage over",
        )
    return parts not in (0, ranks)  # without ZeRO every rank holds all


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
