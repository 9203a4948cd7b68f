"""One sbatch script per stage: what the job asks for, what it checks, what it starts.

A training stage gets one task per rank, every other stage one task. A script is plain bash that a person can
read, change and submit again: the `#SBATCH` lines, the environment variables that a stage needs, a check of the
parents, and the launch, copied from `stage.sbatch` so that both ways of starting are the same program.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from residency.artifact import TRAINING, WRITING, RunPaths, StageFile
from residency.errors import ResidencyError
from residency.slurm.settings import ClusterSettings

CARRIED = ("HF_HOME", "HF_HUB_OFFLINE", "PYTHONPATH", "RESIDENCY_MIRROR")
EXPORT = "PATH,HOME,LANG"  # never ALL: the controller keeps a job's environment, tokens included, in clear
WARNING_SECONDS = 180  # Slurm may warn a minute early or late; saving needs the rest
LAUNCH = "# --- launch ---\n"


def render(
    stage: StageFile,
    cluster: ClusterSettings,
    *,
    python: str,
    directory: Path,
    environment: Mapping[str, str],
) -> str:
    """The sbatch script of a stage.

    Args:
        python: interpreter that the ranks start.
        directory: working directory of the job; relative paths of a recipe start there.
        environment: of the caller; only the variables in `CARRIED` are taken over.

    Raises:
        ResidencyError: a path or a value that cannot stand in a script.
    """
    paths = RunPaths(stage.run)
    attempt = str(paths.attempt(stage.name, stage.identity))
    module = ["residency.train.worker"] if stage.kind in TRAINING + WRITING else ["residency", "stage"]
    lines = [
        "#!/bin/bash",
        f"# Stage {stage.name} ({stage.kind}) of {_quote(stage.run.name)}, written by `residency submit`.",
        *(f"#SBATCH --{option}" for option in _options(stage, cluster, paths)),
        "",
        f"cd {_quote(directory)} || exit 6",
        *(f"export {name}={_quote(environment[name])}" for name in CARRIED if environment.get(name)),
        *_checks(stage, paths.artifact(stage.name, stage.identity)),
        *cluster.setup,
        f"command=({shlex.join([_plain(python), '-m', *module])} {_quote(attempt)})",
        *_scoring(stage, paths, _plain(python)),
        "",
    ]
    return "\n".join(lines) + "\n" + launch()


def launch() -> str:
    """The shell text that starts the ranks, forwards signals and asks for another life."""
    text = files("residency.slurm").joinpath("stage.sbatch").read_text(encoding="utf-8")
    return LAUNCH + text.partition(LAUNCH)[2]


def log_pattern(paths: RunPaths, stage: str) -> str:
    """Where Slurm writes the output of a stage's job: `%j` is the job id, a `%` of the path is doubled."""
    return f"{paths.logs / stage}".replace("%", "%%") + "-%j.log"


def _options(stage: StageFile, cluster: ClusterSettings, paths: RunPaths) -> Iterator[str]:
    trains = stage.kind in TRAINING + WRITING
    yield f"job-name={stage.name}"
    yield f"output={_quote(log_pattern(paths, stage.name))}"
    yield f"nodes={cluster.nodes if trains else 1}"
    yield f"ntasks-per-node={cluster.tasks_per_node if trains else 1}"
    yield f"cpus-per-task={cluster.cpus_per_task}"
    if gpus := _gpus(stage, cluster):
        yield f"gres=gpu:{gpus}"
    if cluster.memory:
        yield f"mem={cluster.memory}"
    yield f"time={cluster.time}"
    for name in ("partition", "account", "constraint"):
        if value := getattr(cluster, name):
            yield f"{name}={value}"
    yield f"signal=B:USR1@{WARNING_SECONDS}"
    yield "requeue"
    yield "open-mode=append"
    yield f"export={EXPORT}"


def _gpus(stage: StageFile, cluster: ClusterSettings) -> int:
    """GPUs per machine: all for training, one for an evaluation (for a curve if it asks), none for work on data."""
    if stage.kind in TRAINING + WRITING:
        return cluster.gpus_per_node
    scores = stage.kind == "evaluate" or (stage.kind == "curve" and stage.execution["devices"])
    return min(cluster.gpus_per_node, 1) if scores else 0


def _checks(stage: StageFile, artifact: Path) -> list[str]:
    """Skip a finished stage; stop where a parent is not: to Slurm, `afterok` of an unknown job is met."""
    lines = [
        f"if [ -e {_quote(artifact / 'manifest.json')} ]; then",
        f"    echo {_quote(f'residency: stage {stage.name} is finished')}",
        "    exit 0",
        "fi",
    ]
    if proofs := [_quote(_proof(stage, parent)) for parent in stage.parents.values()]:
        lines += [
            f"for needed in {' '.join(proofs)}; do",
            '    if [ ! -e "$needed" ]; then',
            f'        echo "residency: stage {stage.name}: $needed is missing. Run that stage first" >&2',
            "        exit 2",
            "    fi",
            "done",
        ]
    return lines


def _scoring(stage: StageFile, paths: RunPaths, python: str) -> Iterator[str]:
    """A process on the first node that scores checkpoints beside the ranks, where the recipe asks for a curve.

    It ends with the job; what it has not scored then is held for the job of the curve.
    """
    if hold := stage.execution.get("hold"):
        curve = (paths.root / hold["directory"]).parent
        log = paths.logs / f"{curve.name.rpartition('-')[0]}.log"
        process = f"{shlex.join([python, '-m', 'residency.eval.curve', '--beside'])} {_quote(curve)}"
        yield f"OMP_NUM_THREADS=1 {process} >>{_quote(log)} 2>&1 </dev/null &"


def _proof(stage: StageFile, parent: Path) -> Path:
    """The file that shows a parent to be whole; a base model from outside has no manifest."""
    return parent / ("manifest.json" if parent.parent == stage.run else "config.json")


def _quote(value: str | Path) -> str:
    return shlex.quote(_plain(str(value)))


def _plain(value: str) -> str:
    """Refuse what quoting cannot mend: a new line ends an #SBATCH line, Slurm reads a backslash itself."""
    if not value.isprintable() or "\\" in value:
        raise ResidencyError(
            f"{value!r} cannot stand in a job script: it holds a line break, control character or backslash",
            cure="Rename it, or choose another directory with --runs",
        )
    return value
