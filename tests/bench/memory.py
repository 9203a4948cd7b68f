"""Peak memory of one stretch of work, of the GPU or (Linux) of this process."""

from __future__ import annotations

from pathlib import Path

import torch

PROCESS = Path("/proc/self")


class Peak:
    """Counts from when it is made."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            (PROCESS / "clear_refs").write_text("5")  # sets VmHWM back to VmRSS, see proc(5)
            self._before = _status("VmRSS")

    def read(self) -> int:
        """Bytes above what was held at the beginning."""
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")
        return int(peak - self._before)


def _status(key: str) -> int:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
