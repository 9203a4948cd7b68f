"""Which checkpoint is resumed from, and what is wrong with the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.artifact import StageFile
from residency.errors import Exit, ResidencyError
from residency.train.checkpoint import SEAL, newest_whole, seal, split_anew, sweep

IDENTITY = "a" * 64


@pytest.fixture
def stage(tmp_path: Path) -> StageFile:
    return StageFile(name="cpt", kind="cpt", identity=IDENTITY, settings={}, run=tmp_path)


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """Three sealed checkpoints: 2, 4 and 10."""
    for step in (2, 4, 10):
        checkpoint = tmp_path / "checkpoints" / f"checkpoint-{step}"
        (checkpoint / f"global_step{step}").mkdir(parents=True)
        (checkpoint / f"global_step{step}" / "rank_0.pt").write_bytes(bytes(range(256)))
        (checkpoint / "trainer_state.json").write_text("{}")
        seal(checkpoint, IDENTITY)
    return tmp_path


def flip(checkpoint: Path) -> None:
    file = next(checkpoint.rglob("*.pt"))
    file.write_bytes(b"\x01" + file.read_bytes()[1:])


def truncate(checkpoint: Path) -> None:
    file = next(checkpoint.rglob("*.pt"))
    file.write_bytes(file.read_bytes()[:-1])


def remove(checkpoint: Path) -> None:
    next(checkpoint.rglob("*.pt")).unlink()


def add(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").write_bytes(b"a pickle")


def unseal(checkpoint: Path) -> None:
    (checkpoint / SEAL).unlink()


def cut_seal(checkpoint: Path) -> None:
    (checkpoint / SEAL).write_text((checkpoint / SEAL).read_text()[:20])


def test_the_newest_by_number_wins(attempt: Path, stage: StageFile) -> None:
    found, faults = newest_whole(attempt, stage)
    assert found is not None
    assert (found.name, faults) == ("checkpoint-10", [])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (unseal, "checkpoint-10: unfinished"),
        (flip, "checkpoint-10: global_step10/rank_0.pt was changed"),
        (truncate, "checkpoint-10: global_step10/rank_0.pt was changed"),
        (remove, "checkpoint-10: global_step10/rank_0.pt is missing"),
        (add, "checkpoint-10: optimizer.pt was added"),
        (cut_seal, "checkpoint-10: seal.json cannot be read"),
    ],
)
def test_a_damaged_one_is_named_and_skipped(
    attempt: Path, stage: StageFile, damage: Callable[[Path], None], fault: str
) -> None:
    damage(attempt / "checkpoints" / "checkpoint-10")
    found, faults = newest_whole(attempt, stage)
    assert found is not None
    assert (found.name, faults) == ("checkpoint-4", [fault])


def test_one_of_another_stage_is_skipped(attempt: Path, stage: StageFile) -> None:
    path = attempt / "checkpoints" / "checkpoint-10" / SEAL
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "b" * 64}))
    assert newest_whole(attempt, stage)[1] == ["checkpoint-10: of another stage"]


def test_nothing_usable_is_its_own_exit_code(attempt: Path, stage: StageFile) -> None:
    for checkpoint in (attempt / "checkpoints").iterdir():
        flip(checkpoint)
    with pytest.raises(
        ResidencyError, match=r"no usable checkpoint \(checkpoint-10: .*checkpoint-2: "
    ) as caught:
        newest_whole(attempt, stage)
    assert caught.value.code == Exit.NO_CHECKPOINT


def test_only_unfinished_ones_mean_a_fresh_start(attempt: Path, stage: StageFile) -> None:
    for checkpoint in (attempt / "checkpoints").iterdir():
        unseal(checkpoint)
    assert newest_whole(attempt, stage)[0] is None


def test_no_checkpoints_mean_a_fresh_start(tmp_path: Path, stage: StageFile) -> None:
    assert newest_whole(tmp_path, stage) == (None, [])


def test_the_sweep_leaves_the_one_resumed_and_older_whole_ones(attempt: Path, stage: StageFile) -> None:
    flip(attempt / "checkpoints" / "checkpoint-10")
    unseal(attempt / "checkpoints" / "checkpoint-2")
    sweep(attempt, newest_whole(attempt, stage)[0])
    assert [path.name for path in (attempt / "checkpoints").iterdir()] == ["checkpoint-4"]


def test_another_number_of_ranks_splits_the_state_anew(attempt: Path, stage: StageFile) -> None:
    checkpoint = attempt / "checkpoints" / "checkpoint-10"
    plain, split = (stage.model_copy(update={"execution": {"engine": {"zero": zero}}}) for zero in (0, 2))
    assert not split_anew(checkpoint, plain, 4)  # without ZeRO every rank holds all
    with pytest.raises(ResidencyError, match=r"saved under ZeRO 0, now engine\.zero = 2\. Set it back"):
        split_anew(checkpoint, split, 4)
    for rank in range(2):
        (checkpoint / f"rng_state_{rank}.pth").touch()
    rl = plain.model_copy(update={"kind": "rl"})
    assert not split_anew(checkpoint, rl, 2)
    with pytest.raises(ResidencyError, match=r"saved by 2 ranks, now there are 4: .* Run again with 2 ranks"):
        split_anew(checkpoint, rl, 4)
    for rank in range(2):
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        (checkpoint / "global_step10" / name).touch()
    assert not split_anew(checkpoint, split, 2)
    assert split_anew(checkpoint, split, 4)
    with pytest.raises(ResidencyError, match="saved under ZeRO 1 or 2, now"):
        split_anew(checkpoint, plain, 2)
    rl = split.model_copy(update={"kind": "rl"})
    assert not split_anew(checkpoint, rl, 2)
    with pytest.raises(ResidencyError, match=r"saved by 2 ranks, now there are 4: .* Run again with 2 ranks"):
        split_anew(checkpoint, rl, 4)
