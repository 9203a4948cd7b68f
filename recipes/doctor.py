"""What this machine offers, one line each: for a first look, and for bug reports."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from residency.train.launch import count_accelerators

PACKAGES = ("torch", "transformers", "trl", "deepspeed", "peft", "datasets", "flash-attn", "vllm")


def print_doctor() -> None:
    """Print every finding."""
    for name, finding in findings().items():
        print(f"{name:20} {finding}")


def findings() -> dict[str, str]:
    """Name to what was found."""
    found = {"cores": str(len(os.sched_getaffinity(0))), "memory": _memory()}
    found |= {package: _version(package) for package in PACKAGES}
    found["accelerators"] = _accelerators()
    found["attention"] = _attention()
    found["DeepSpeed ops"] = _ops()
    found["C++ compiler"] = shutil.which("c++") or "none (DeepSpeed's shared-memory op cannot be compiled)"
    found["Slurm"] = _slurm()
    mirror = os.environ.get("RESIDENCY_MIRROR")
    found["mirror"] = (
        f"{mirror}: {_count(Path(mirror))} repositories" if mirror else "none (RESIDENCY_MIRROR not set)"
    )
    return found


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _accelerators() -> str:
    if not count_accelerators():
        return "none: training runs on CPU ranks"
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{len(names)}: {', '.join(names)}"


def _attention() -> str:
    flash = importlib.util.find_spec("flash_attn") is not None and count_accelerators() > 0
    return ", ".join(
        [*(["flash_attention_2"] if flash else []), "sdpa", "flex_attention (forward only on CPU)", "eager"]
    )


def _ops() -> str:
    cache = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache/torch_extensions"))
    built = sorted({path.stem for path in cache.glob("**/*.so")})
    return f"compiled: {', '.join(built)}" if built else "none compiled yet (make install does it)"


def _slurm() -> str:
    if not shutil.which("sinfo"):
        return "no sinfo on PATH"
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%P %D %t"], capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip().replace("\n", "; ") or done.stderr.strip().splitlines()[-1]


def _count(mirror: Path) -> int:
    return sum(1 for path in mirror.glob("*/*") if path.is_dir())
