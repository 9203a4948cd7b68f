"""`events.jsonl`: what happened in a run, one JSON object a line, appended by every process that takes part.

The live display, the report and `residency status` read this file; nothing else carries progress. A line is
written by one `write` on a file opened for appending, so lines of several processes never mix.

Events: `stage_started` (kind, identity), `step` (step, steps, loss, learning_rate, tokens, tokens_per_second,
seconds_left), `checkpoint` (step), `hold_failed` (step, reason), `checkpoint_scored` (of: the training stage, step,
task, n, value, low, high, lower_is_better), `left_out` (step, reason, loss: training went back and leaves this
step's batch out), `sign` (sign, step, value, message: a sign of trouble), `held_out` (step, score: on items that
are never trained on; in reinforcement also reward, correct, kl, length), `weights_checked` (step, digest, by: what
writes replies has the policy's weights), `eigenscore` (step, value, dropped), `task_scored` (task, value, n,
seconds), `stage_finished` (seconds), `stage_skipped` (identity), `stage_failed` (reason, exit_code).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def emit(path: Path, event: str, stage: str, **fields: Any) -> None:
    """Append one event; `time` is seconds since the epoch. Numbers that are no numbers become null."""
    line = json.dumps({"time": round(time.time(), 3), "event": event, "stage": stage, **_finite(fields)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole event of the file, oldest first; a last line cut short by a crash is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not abs(value) < float("inf") else value
        for key, value in fields.items()
    }
