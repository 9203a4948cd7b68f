"""What stands in the way of new ranks after others were killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from residency.train.launch import LOCK_SECONDS, free_operations


def test_only_old_locks_that_nobody_holds_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    locks = {name: tmp_path / name / "lock" for name in ("left", "held", "young")}
    for name, lock in locks.items():
        lock.parent.mkdir()
        lock.touch()
        if name != "young":
            then = lock.stat().st_mtime - LOCK_SECONDS - 1
            os.utime(lock, (then, then))
    with locks["held"].open():
        free_operations()
    assert [name for name, lock in locks.items() if lock.exists()] == ["held", "young"]
