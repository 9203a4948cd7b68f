"""Tasks of lm-evaluation-harness (extra `lm-eval`): found by name or file, their documents read, and what they are.

    residency eval MODEL --tasks lm-eval:arc_easy,lm-eval:path/to/task.yaml

lm-eval reads the YAML and the documents, builds the prompts and applies filters and metrics; this engine scores and
writes (`residency.eval.lm_eval_model`), and the samples become records (`residency.eval.measures.lm_eval`). Identity is
lm-eval's version, the resolved configuration, the code beside the file and every document: a change in any of them is
another task. lm-eval is imported where such a task is used, never before.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from residency.artifact import identity_of, sha256
from residency.data.reading import hub
from residency.errors import Exit, ResidencyError
from residency.eval.settings import LmEvalTask

SEED, SHOTS_SEED = 0, 1234  # lm-eval's defaults (lm_eval.defaults)
NOT_CONTENT = ("dataset_path", "dataset_kwargs", "metadata")  # where documents lie; they count by themselves
ROLLING = "loglikelihood_rolling"


@dataclass(frozen=True)
class Loaded:
    """A task whose documents have been read."""

    task: Any
    """lm-eval's own object."""
    path: Path
    """Its YAML file."""
    identity: str
    metric: str
    """The metric that counts."""
    filter: str
    """The filter that replies pass before it."""


_loaded: dict[str, Loaded] = {}


def identify(settings: LmEvalTask) -> tuple[Path, str]:
    """File and identity of a task; everything is read again, so a changed document changes it.

    Raises:
        ResidencyError: lm-eval is not installed, no such task, a group, documents that are not here, or a metric that
            records cannot hold.
    """
    found = _loaded[settings.model_dump_json()] = _load(settings)
    return found.path, found.identity


def loaded(settings: LmEvalTask) -> Loaded:
    """The task as `identify` read it last in this process."""
    key = settings.model_dump_json()
    if key not in _loaded:
        _loaded[key] = _load(settings)
    return _loaded[key]


def refuse_changed(settings: LmEvalTask, identity: str) -> None:
    """Refuse a task that is no longer what a stage was planned with.

    Raises:
        ResidencyError: its file, its documents or lm-eval have changed.
    """
    if loaded(settings).identity != identity:
        raise ResidencyError(
            f"task {settings.name}: {settings.task} has changed since this evaluation was planned",
            cure="Start the same command again",
        )


def documents(settings: LmEvalTask) -> list[dict[str, Any]]:
    """One row per document, with its number as `id`."""
    return [{"id": str(number)} for number in range(len(loaded(settings).task.eval_docs))]


def require() -> None:
    """Raises ResidencyError where lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise ResidencyError(
            "tasks of lm-evaluation-harness need lm-eval", cure='pip install "residency[lm-eval]"'
        )


def _load(settings: LmEvalTask) -> Loaded:
    require()
    path = _find(settings)
    with _seeded():
        task = _build(settings, path)
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        what = (
            "runs code that a model wrote" if getattr(task, "UNSAFE_CODE", False) else "needs images or sound"
        )
        raise ResidencyError(
            f"task {settings.name}: {settings.task} {what}", cure="Run it with lm-eval itself"
        )
    metric, chosen = _metric(settings, task)
    return Loaded(task, path, _identity(task, path), metric, chosen)


def _find(settings: LmEvalTask) -> Path:
    """The YAML file of a task. Names are looked for in the files' text: lm-eval's own index parses all 14,000."""
    import lm_eval.tasks

    if settings.task.endswith((".yaml", ".yml")):
        if not Path(settings.task).is_file():
            raise ResidencyError(f"task {settings.name}: no file {settings.task}")
        return Path(settings.task).resolve()
    places = [Path(settings.include)] if settings.include else []
    if places and not places[0].is_dir():
        raise ResidencyError(f"task {settings.name}: include = {settings.include}: no such directory")
    name = rf"['\"]?{re.escape(settings.task)}['\"]?\s*(#.*)?$"
    line = re.compile(rf"^(?:['\"]?(task|group|tag)['\"]?:[ \t]*|\s*-[ \t]+){name}", re.MULTILINE)
    found: dict[str, Path] = {}
    for place in [*places, *map(Path, lm_eval.tasks.__path__)]:
        for path in sorted(place.rglob("*.yaml")):
            if match := line.search(path.read_text(encoding="utf-8", errors="replace")):
                found.setdefault(match[1] or "tag", path)
        if "task" in found:
            return found["task"].resolve()
    if found:
        what = "group" if "group" in found else "tag"
        raise ResidencyError(
            f"task {settings.name}: {settings.task} is a {what} of tasks ({found[what]})",
            cure="Name its tasks one by one",
        )
    raise ResidencyError(
        f"task {settings.name}: lm-eval has no task {settings.task!r}",
        cure="lm-eval ls tasks lists them; include names a directory of your own",
    )


def _build(settings: LmEvalTask, path: Path) -> Any:
    """lm-eval's task with its documents read and its solved examples set."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    source = ""
    try:
        config = load_yaml(path)
        source = str(config.get("dataset_path") or "")
        if mirrored := _mirrored(source):
            config["dataset_path"] = str(mirrored)
        with _no_hub_where_offline():
            [task] = TaskManager(include_defaults=False).load([config])["tasks"].values()
    except Exception as error:  # a user's YAML and its functions may raise anything
        raise _refused(settings, path, source, error) from error
    shots = settings.shots if settings.shots is not None else task.get_config("num_fewshot") or 0
    task.set_config(key="num_fewshot", value=shots)
    return task


def _mirrored(source: str) -> Path | None:
    mirror = os.environ.get("RESIDENCY_MIRROR")
    place = Path(mirror, source) if mirror and re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None
    return place if place and place.is_dir() and not Path(source).exists() else None


@contextmanager
def _no_hub_where_offline() -> Iterator[None]:
    """Within, neither datasets nor the hub's client ask the network if this process must not."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = before[0] or hub.offline()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _refused(settings: LmEvalTask, path: Path, source: str, error: Exception) -> ResidencyError:
    """One line for what lm-eval or datasets raised."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).exists()
    if not (on_hub and isinstance(error, OSError)):
        return ResidencyError(
            f"task {settings.name}: lm-eval cannot load {path}: {type(error).__name__}: {said}",
            cure=f"Mend the file, or its data ({_mirrored(source) or source or 'not named'})",
        )
    if not hub.offline():
        return ResidencyError(
            f"task {settings.name}: {source}: {said}",
            cure="Check the id and the network",
            code=Exit.ENVIRONMENT,
        )
    mirror = os.environ.get("RESIDENCY_MIRROR", "$RESIDENCY_MIRROR")
    return hub.AbsentError(
        f"task {settings.name}: {source} is neither in a mirror nor in the cache of datasets, and this process is "
        "offline",
        cure=f"hf download {source} --repo-type dataset --local-dir {mirror}/{source}",
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """Within, what a task draws at random while it is read is drawn as under lm-eval's command line."""
    import numpy as np

    before = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(SHOTS_SEED)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _metric(settings: LmEvalTask, task: Any) -> tuple[str, str]:
    """The metric that counts and its filter."""
    from lm_eval.api.metrics import mean

    filters = [each.name for each in task._filters]
    metric, _, chosen = settings.metric.partition(",")
    better = task.higher_is_better()
    known = [
        name for name, combine in task.aggregation().items() if combine is mean and better.get(name, True)
    ]
    if task.OUTPUT_TYPE == ROLLING:
        known = ["bits_per_byte"]
    if not known or (metric and metric not in known):
        raise ResidencyError(
            f"task {settings.name}: {f'metric {metric!r}' if metric else 'no metric'} of {settings.task} is a mean "
            "over documents of which more is better",
            cure=f"Name one of: {', '.join(known)}" if known else "Run it with lm-eval itself",
        )
    if chosen and chosen not in filters:
        raise ResidencyError(
            f"task {settings.name}: {settings.task} has no filter {chosen!r}",
            cure=f"Name one of: {', '.join(filters)}",
        )
    return metric or known[0], chosen or filters[0]


def _identity(task: Any, path: Path) -> str:
    config = {name: value for name, value in task.dump_config().items() if name not in NOT_CONTENT}
    shots = task.fewshot_docs() if task.get_config("num_fewshot") else None
    return identity_of(
        lm_eval=metadata.version("lm_eval"),
        config=json.loads(json.dumps(config, default=_named, sort_keys=True)),
        code={file.name: sha256(file) for file in sorted(path.parent.glob("*.py"))},
        documents=_digest(task.eval_docs),
        shots=_digest(shots if shots is not None else []),
    )


def _digest(rows: Iterable[Any]) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row, default=_named, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        found.update(b"\n")
    return found.hexdigest()


def _named(value: Any) -> str:
    """What JSON cannot hold: functions by name (their text counts by itself), other things as they print."""
    return str(getattr(value, "__qualname__", value))
