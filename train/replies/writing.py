"""What the stages that write share (`sample`, `tree`): prompts in fixed batches, each done by the rank that is free.

A batch gives the same on any rank of any number, and appears as one file when it is whole. So a stage that was
killed goes on with the batches that are missing, and leaves the same bytes as one that was not. A signal ends every
rank behind its batch. What the ranks write is gathered into a corpus, in the order of the prompts.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import torch

from residency import events
from residency.artifact import (
    RunPaths,
    StageFile,
    check_files,
    commit,
    identity_of,
    read_manifest,
    report_attempt,
    sha256,
)
from residency.data import passport
from residency.data.curation import parts
from residency.errors import Exit, ResidencyError
from residency.generation.generate import backend, tokens_per_batch
from residency.generation.writer import Writer
from residency.model import base_of
from residency.train.settings import EngineSettings, SampleSettings, TreeSettings

Row = dict[str, Any]
Batch = list[int]
"""Places of prompts."""
S = TypeVar("S", SampleSettings, TreeSettings)


@dataclass(frozen=True)
class Written:
    """What was written to one prompt."""

    row: Row | None
    """Of the corpus; None where nothing is worth keeping."""
    counts: dict[str, float]
    """Numbers that are added up over the prompts."""


def settings_of(stage: StageFile, kind: type[S]) -> S:
    """The stage's settings without what the planner added."""
    return kind.model_validate({key: stage.settings[key] for key in _keys(kind)})


def _keys(kind: type[SampleSettings] | type[TreeSettings]) -> list[str]:
    return [field.alias or name for name, field in kind.model_fields.items() if name != "engine"]


def load_writer(stage: StageFile, tokens: int) -> Writer:
    """The parent's model on this rank's device, for prompts and replies of so many tokens at most."""
    engine = EngineSettings.model_validate(stage.execution["engine"])
    precision = stage.settings["precision"]
    return Writer.load(stage.parents["model"], tokens, precision=precision, attention=engine.attention)


def check_weights(stage: StageFile) -> dict[str, str]:
    """The model that writes is the parent, byte for byte: file to sha256 of its weights.

    Raises:
        ResidencyError: a file is not what the parent's manifest says.
    """
    model = stage.parents["model"]
    base, adapter = base_of(model)
    directories = [base, *([adapter] if adapter else [])]
    for directory in directories:
        if (directory / "manifest.json").exists() and (faults := check_files(directory, rehash=True)):
            raise ResidencyError(f"stage {stage.name}: {faults[0]}", cure=f"Remove {directory} and run again")
    return {
        f"{directory.name}/{path.name}": sha256(path)
        for directory in directories
        for path in sorted(directory.glob("*.safetensors"))
    }


def facts(stage: StageFile, weights: dict[str, str], ranks: int) -> dict[str, Any]:
    """By what the corpus was written, for the manifest."""
    adapter = base_of(stage.parents["model"])[1]
    return {
        "weights_sha256": weights,
        "writer": "transformers" if adapter else backend(),  # vLLM runs whole weights only
        "ranks": ranks,
    }


def batches(prompts: Sequence[list[int]], rows: int, new: int) -> list[Batch]:
    """Prompts of about one length, as many at a time as the device can write to at once; the longest come first.

    Args:
        rows: replies that each prompt gets at the same time.
        new: most tokens of a reply.
    """
    budget = tokens_per_batch()
    found: list[Batch] = []
    for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place])):
        if not found or (len(found[-1]) + 1) * rows * (len(prompts[found[-1][0]]) + new) > budget:
            found.append([])
        found[-1].append(place)
    return found


def write(
    stage: StageFile,
    attempt: Path,
    rank: int,
    made: list[Batch],
    work: Callable[[Batch], list[Written]],
) -> Path | None:
    """Have all batches done by the ranks together; returns their directory, or None where a signal came before the
    end."""
    asked: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda came, _frame: asked.append(came))
    # Other batches (another device, another budget) are not to be mixed with these.
    directory = attempt / f"batches-{identity_of(batches=made)[:8]}"
    directory.mkdir(exist_ok=True)
    missing = _same(lambda: [at for at in range(len(made)) if not _file(directory, at).exists()], rank)
    # No rank waits for another until the end.
    store = _shared_counters()
    started = time.monotonic()
    while not store.add("stop", len(asked)) and (turn := store.add("turn", 1) - 1) < len(missing):
        found = work(made[missing[turn]])
        with parts.whole(_file(directory, missing[turn])) as file:
            for written in found:
                file.write(orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE))
        done = store.add("done", 1)
        if rank == 0:
            pace = (time.monotonic() - started) / done
            _tell(stage, len(made) - len(missing) + done, len(made), pace)
    torch.distributed.barrier()
    done = len(made) - len(missing) + store.add("done", 0)
    if done == len(made):
        return directory
    if rank == 0:
        report_attempt(attempt, status="saved", exit_code=int(Exit.RUN_AGAIN), step=done)
    return None


def gather(
    stage: StageFile,
    attempt: Path,
    owner: str,
    schema: str,
    made: list[Batch],
    directory: Path,
    measure: Callable[[Counter[str]], dict[str, Any]],
) -> Path:
    """Commit the corpus of all rows.

    Raises:
        ResidencyError: no row at all, or another process owns the attempt.
    """
    payload, counts, rows = attempt / "payload", Counter[str](), 0
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    with (payload / "train.jsonl").open("wb") as file:
        for written in _in_order(made, directory):
            counts.update(written["counts"])
            if written["row"] is not None:
                file.write(orjson.dumps(written["row"], option=orjson.OPT_APPEND_NEWLINE))
                rows += 1
    if not rows:
        raise ResidencyError(f"stage {stage.name}: the model wrote nothing to any prompt")
    sources = [entry for parent in stage.parents.values() for entry in _passport(parent)]
    measured = {
        "schema": schema,
        "documents": rows,
        "held_out_documents": 0,
        "bytes": (payload / "train.jsonl").stat().st_size,
        "prompts": sum(map(len, made)),
        **measure(counts),
    }
    entry = passport.of_replies(stage.name, stage.settings["from"], sources, rows)
    return commit(attempt, payload, "corpus", owner=owner, measured=measured, passport=[entry])


def _in_order(made: list[Batch], directory: Path) -> Iterator[Any]:
    """What was written to each prompt, in the order of the prompts; only where it stands is held in memory."""
    places: dict[int, tuple[int, int]] = {}
    for number, batch in enumerate(made):
        at = 0
        with _file(directory, number).open("rb") as file:
            for place, line in zip(batch, file, strict=True):
                places[place] = number, at
                at += len(line)
    for place in range(len(places)):
        number, at = places[place]
        with _file(directory, number).open("rb") as file:
            file.seek(at)
            yield orjson.loads(file.readline())


def _shared_counters() -> Any:
    """The store by which the ranks met; it counts in one place."""
    from torch.distributed import distributed_c10d

    return torch.distributed.PrefixStore("writing", distributed_c10d._get_default_store())  # type: ignore[attr-defined]


def _file(directory: Path, batch: int) -> Path:
    return directory / f"{batch:06d}.jsonl"


def _same(make: Callable[[], list[int]], rank: int) -> list[int]:
    """What rank 0 sees: files of another rank may appear at any time."""
    told = [make() if rank == 0 else []]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def _tell(stage: StageFile, done: int, of: int, pace: float) -> None:
    """A step of the display is a batch, by whichever rank; `pace` is seconds for each."""
    left = round(pace * (of - done), 1)
    events.emit(RunPaths(stage.run).events, "step", stage.name, step=done, steps=of, seconds_left=left)


def _passport(parent: Path) -> list[passport.Entry]:
    return read_manifest(parent).passport if (parent / "manifest.json").exists() else []
