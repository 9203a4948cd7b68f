"""Settings of the cluster: what an sbatch script asks for. No torch here."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from residency.data.settings import Settings


def _plain(value: str) -> str:
    """A value that may stand on an #SBATCH line: no blanks, quotes or shell characters."""
    if not re.fullmatch(r"[A-Za-z0-9_.,:=@/+-]+", value):
        raise ValueError(f"{value!r} may hold only letters, digits and _.,:=@/+-")
    return value


Word = Annotated[str, AfterValidator(_plain)]


class ClusterSettings(Settings):
    """What each training job asks Slurm for."""

    nodes: Annotated[int, Field(gt=0)] = 1
    """Machines of a training job."""
    tasks_per_node: Annotated[int, Field(gt=0)] = 1
    """Ranks per machine; one per GPU."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs per machine."""
    cpus_per_task: Annotated[int, Field(gt=0)] = 1
    """Cores per rank."""
    memory: Word | None = None
    """Memory per machine, as Slurm writes it (`64G`)."""
    time: Word = "24:00:00"
    """Longest run of one job, as Slurm writes it."""
    partition: Word | None = None
    """Partition."""
    account: Word | None = None
    """Account that is charged."""
    constraint: Word | None = None
    """Node features."""
    setup: list[str] = []
    """Shell lines before the launch, for example `module load cuda`."""
