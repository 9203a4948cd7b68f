"""Killed at the worst moments and started again, a stage ends with the very bytes of an unbroken run.

The run is started as a user starts it (most with ranks that `tests.rank_server` forks, one and those that are asked to
stop by torchrun), and killed with all its ranks, which have sessions of their own: nothing can tidy up.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from safetensors.torch import load_file

from residency import events
from residency.artifact import RunPaths, read_attempt, read_manifest
from residency.errors import Exit, ResidencyError
from residency.train.checkpoint import SEAL
from residency.train.launch import launch
from residency.train.reshard import DIRECTORY
from tests.rank_server import SERVER

if TYPE_CHECKING:
    from tests.train.conftest import World

    Moment = Callable[[Path], bool]

pytestmark = pytest.mark.slow
PATIENCE = 240.0
STEPS_BETWEEN_SAVES = 3
STAGES: dict[str, dict[str, Any]] = {
    "cpt": {"tokens": 6000, "save_every": STEPS_BETWEEN_SAVES, "guard": {"skips": 1, "spike": 50.0}},
    "preference": {"epochs": 4.0, "save_every": STEPS_BETWEEN_SAVES},
    "reward": {"epochs": 6.0, "save_every": 2 * STEPS_BETWEEN_SAVES},
    "sft": {
        "epochs": 8.0, "save_every": STEPS_BETWEEN_SAVES, "lora": {"rank": 4, "dropout": 0.1, "finish": "merge"},
    },
}  # fmt: skip


def sealed(attempt: Path) -> list[int]:
    """Steps of the whole checkpoints."""
    return sorted(int(path.parent.name.rpartition("-")[2]) for path in attempt.glob(f"checkpoints/*/{SEAL}"))


def after_the_second_checkpoint(attempt: Path) -> bool:
    return len(sealed(attempt)) >= 2


def before_the_second_save(attempt: Path) -> bool:
    """A step was taken since the first checkpoint, and no second one is begun."""
    steps = [
        event["step"] for event in events.read(RunPaths(attempt.parent).events) if event["event"] == "step"
    ]
    begun = list(attempt.glob("checkpoints/checkpoint-*"))
    return len(begun) == len(sealed(attempt)) == 1 and bool(steps) and steps[-1] > sealed(attempt)[0]


def inside_a_save(attempt: Path) -> bool:
    """The second checkpoint's directory is there and holds bytes, but is not sealed."""
    if not sealed(attempt):
        return False
    unfinished = [path for path in attempt.glob("checkpoints/checkpoint-*") if not (path / SEAL).exists()]
    return any(file.stat().st_size for path in unfinished for file in path.rglob("*") if file.is_file())


def start(
    world: World, name: str, *, torchrun: bool = False, **engine: Any
) -> tuple[subprocess.Popen[bytes], Path]:
    """`residency run` as a user does, and the attempt that it works in."""
    plan = world.plan({name: STAGES[name]}, **engine)
    attempt = world.attempt(plan, name)
    recipe = str(world.root / "recipe.yaml")
    program = ["-m", "residency"] if torchrun else [str(SERVER), "residency", str(world.server)]
    command = [sys.executable, *program, "run", recipe, "--runs", str(world.run.parent)]
    with (world.root / "output.txt").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    return process, attempt


def wait_for(moment: Moment, attempt: Path, process: subprocess.Popen[bytes]) -> None:
    """Look often: a save takes a tenth of a second."""
    until = time.monotonic() + PATIENCE
    while not moment(attempt):
        assert process.poll() is None, f"ended with {process.returncode} before the moment came"
        assert time.monotonic() < until, "the moment did not come"
        time.sleep(0.001)


def kill(process: subprocess.Popen[bytes], attempt: Path) -> None:
    """SIGKILL to the run, its launcher and its ranks; the ranks first, since they write."""
    ranks = psutil.Process(read_attempt(attempt)["pid"]).parent().children()
    family = [*ranks, *psutil.Process(process.pid).children(recursive=True)[::-1]]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)


def unbroken(world: World, name: str, **engine: Any) -> dict[str, str]:
    """Digests of the weights of a run that nobody disturbs; the artifact is put aside."""
    artifact = world.train(name, STAGES[name], **engine)
    digests: dict[str, str] = read_manifest(artifact).measured["weights_sha256"]
    artifact.rename(world.root / "unbroken")
    return digests


def resumed_from(world: World) -> list[int]:
    return [event["step"] for event in events.read(world.events) if event["event"] == "resumed"]


@pytest.mark.parametrize(
    ("name", "zero", "moment"),
    [
        ("cpt", 2, after_the_second_checkpoint),
        ("cpt", 3, inside_a_save),
        ("preference", 3, after_the_second_checkpoint),
        ("preference", 2, inside_a_save),
        ("reward", 3, before_the_second_save),
        ("reward", 3, inside_a_save),
        ("reward", 2, after_the_second_checkpoint),
        ("sft", 2, after_the_second_checkpoint),
        ("sft", 3, after_the_second_checkpoint),
    ],
)
def test_killed_and_run_again(world: World, name: str, zero: int, moment: Moment) -> None:
    expected = unbroken(world, name, zero=zero)
    torchrun = (name, zero) == ("cpt", 2)
    process, attempt = start(world, name, torchrun=torchrun, zero=zero)
    wait_for(moment, attempt, process)
    kill(process, attempt)
    assert moment(attempt), "the kill came too late"
    kept = sealed(attempt)[-1]
    shutil.rmtree(
        world.run.parent / ".references", ignore_errors=True
    )  # made again, and not by the checkpoint
    artifact = world.train(name, STAGES[name], zero=zero)
    assert resumed_from(world) == [kept]
    manifest = read_manifest(artifact)
    assert manifest.measured["resumed_from_step"] == kept > 0
    assert manifest.measured["weights_sha256"] == expected


def test_killed_before_the_first_save(world: World) -> None:
    expected = unbroken(world, "preference")
    references = world.run.parent / ".references"
    shutil.rmtree(references)
    process, attempt = start(world, "preference")
    wait_for(lambda _: any(references.glob("*.safetensors")), attempt, process)
    kill(process, attempt)
    assert not sealed(attempt), "the kill came too late"
    artifact = world.train("preference", STAGES["preference"])
    assert read_manifest(artifact).measured["weights_sha256"] == expected


def curve(world: World) -> dict[int, tuple[float, float]]:
    """Loss and learning rate of each step."""
    told = [event for event in events.read(world.events) if event["event"] == "step"]
    return {event["step"]: (event["loss"], event["learning_rate"]) for event in told}


@pytest.mark.parametrize(
    ("name", "own", "zero", "before", "after"),
    [
        ("cpt", {"tokens": 3000}, 2, 2, 1),
        ("cpt", {"tokens": 3000}, 3, 2, 1),
        ("sft", {"epochs": 3.0, "lora": {"rank": 4, "finish": "merge"}}, 3, 1, 2),
        ("preference", {"epochs": 2.0}, 2, 1, 2),
    ],
)
def test_goes_on_with_another_number_of_ranks(
    world: World, name: str, own: dict[str, Any], zero: int, before: int, after: int
) -> None:
    own = own | {"save_every": STEPS_BETWEEN_SAVES, "keep_checkpoints": 9, "weight_decay": 0.5}
    plan = world.plan({name: own}, zero=zero, processes=before)
    attempt, kept = world.attempt(plan, name), world.root / "kept"

    def keep() -> None:
        if sealed(attempt)[:1] and not kept.exists():
            first = f"checkpoint-{STEPS_BETWEEN_SAVES}"
            shutil.copytree(attempt / "checkpoints" / first, kept / first)

    launch(attempt, before, world.root / "log", keep, launcher=world.launcher)
    expected = curve(world)
    plan.stages[name].artifact.rename(world.root / "unbroken")
    world.events.unlink()

    shutil.copytree(kept, world.attempt(plan, name) / "checkpoints")
    (attempt / DIRECTORY / f"checkpoint-{STEPS_BETWEEN_SAVES}").mkdir(parents=True)  # left by a kill
    artifact = world.train(name, own, zero=zero, processes=after)
    assert resumed_from(world) == [STEPS_BETWEEN_SAVES]
    found = curve(world)
    assert list(found) == list(expected)[STEPS_BETWEEN_SAVES:]
    for step, told in found.items():
        assert told == pytest.approx(expected[step], abs=1e-5, rel=0)
    weights = load_file(artifact / "model.safetensors")
    for key, tensor in load_file(world.root / "unbroken" / "model.safetensors").items():
        assert (weights[key] - tensor).abs().max() < 1e-5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["SIGTERM", "SIGUSR1"])
def test_asked_to_stop_it_saves_and_says_run_me_again(world: World, number: signal.Signals) -> None:
    expected = unbroken(world, "cpt")
    process, attempt = start(world, "cpt", torchrun=True)
    wait_for(lambda attempt: len(sealed(attempt)) >= 1, attempt, process)
    process.send_signal(number)  # to `residency run` alone, as a batch system or `kill` does
    assert process.wait(PATIENCE) == Exit.RUN_AGAIN
    outcome = read_attempt(attempt)
    assert (outcome["status"], outcome["exit_code"]) == ("saved", Exit.RUN_AGAIN)
    assert outcome["step"] == sealed(attempt)[-1] > 0
    artifact = world.train("cpt", STAGES["cpt"])
    assert resumed_from(world) == [outcome["step"]]
    assert read_manifest(artifact).measured["weights_sha256"] == expected


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(world: World) -> None:
    expected = unbroken(world, "cpt")
    process, attempt = start(world, "cpt")
    wait_for(after_the_second_checkpoint, attempt, process)
    kill(process, attempt)
    older, newest = sealed(attempt)[-2:]
    shard = next((attempt / "checkpoints" / f"checkpoint-{newest}").rglob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    artifact = world.train("cpt", STAGES["cpt"])
    assert resumed_from(world) == [older]
    assert read_manifest(artifact).measured["weights_sha256"] == expected
    log = (world.run / "logs" / "cpt.log").read_text()
    assert f"skipped checkpoint-{newest}: " in log
    assert "was changed" in log


def test_without_a_usable_checkpoint_it_stops_with_its_own_code(world: World) -> None:
    process, attempt = start(world, "cpt")
    wait_for(after_the_second_checkpoint, attempt, process)
    kill(process, attempt)
    for step in sealed(attempt):
        next((attempt / "checkpoints" / f"checkpoint-{step}").rglob("*model_states.pt")).unlink()
    with pytest.raises(ResidencyError, match="no usable checkpoint") as caught:
        world.train("cpt", STAGES["cpt"])
    assert caught.value.code == Exit.NO_CHECKPOINT
