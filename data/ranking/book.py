"""What is to be ranked, and the rankings so far: an append-only JSONL file that a `reward` stage reads as it is.

A line is one ranking of one rater: `prompt`, `responses` in the order of the source, `ranks` (1 is best, equal ones
share a rank), and `item`, `rater`, `shown` (the order on the rater's page), `seconds`, `note`. A rater who cannot judge
leaves `ranks` out and is not asked again; such lines stand in `<file>.skipped.jsonl`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

from residency.data.reading.faults import Problem
from residency.data.reading.json_rows import json_lines
from residency.data.rows.fields import Row, RowError, messages, texts
from residency.errors import Exit, ResidencyError

REPLIES = ("replies", "responses", "answers")
FEWEST = 2  # replies that can be ranked
MOST = 9


class Book:
    """Items and rankings. Threads and other servers may add to the same files: `read` takes that up.

    Attributes:
        items: by id, in the order of the source: `prompt` (messages) and `responses`.
        left_out: rows without two different replies, or with too many of them.
    """

    def __init__(self, source: Path, rankings: Path, seed: int = 0) -> None:
        """Read the items of `source` (a JSONL file, or the directory of a `sample` stage) and what is ranked already.

        Raises:
            ResidencyError: a file that is not there, cannot be read or written, no row that can be ranked, or rankings
                of another source.
        """
        self.rankings, self.seed = rankings, seed
        self.skipped = rankings.with_suffix(".skipped.jsonl")
        self.items: dict[str, Row] = {}
        self.left_out = 0
        for row in _read(source / "train.jsonl" if source.is_dir() else source):
            self._add(row)
        if not self.items:
            raise ResidencyError(
                f"{source} holds no prompt with {FEWEST} to {MOST} different replies",
                cure=f"Give rows with prompt and {' or '.join(REPLIES)}",
            )
        _refuse_read_only(rankings)
        self._lock = threading.Lock()
        self._sizes: list[int] = []
        self.rows: list[Row] = []
        self.judged: set[tuple[str, str]] = set()
        self.read()
        if strangers := {item for _, item in self.judged} - self.items.keys():
            raise ResidencyError(
                f"{rankings} holds rankings of {sorted(strangers)[0]}, which {source} does not have",
                cure="Give another file for these rankings",
            )

    def _add(self, row: Row) -> None:
        key = next((name for name in REPLIES if name in row), None)
        if key is None:
            raise ResidencyError(f"row {row['id']}: no {', '.join(REPLIES)}", cure="Give the replies to rank")
        try:
            prompt, replies = messages(row, "prompt", role="user"), texts(row, key, row[key], least=1)
        except RowError as error:
            raise ResidencyError(str(error)) from error
        distinct = list(dict.fromkeys(replies))
        if not FEWEST <= len(distinct) <= MOST:
            self.left_out += 1
            return
        if str(row["id"]) in self.items:
            raise ResidencyError(f"row {row['id']}: two rows have this id", cure="Give each its own")
        self.items[str(row["id"])] = {"prompt": prompt, "responses": distinct}

    def read(self) -> None:
        """Take up what was judged since, here or by another server."""
        with self._lock, ExitStack() as open_files:
            if self.rankings.exists():
                file = open_files.enter_context(self.rankings.open("rb"))
                fcntl.flock(file, fcntl.LOCK_SH)  # no half of a line
            self._read()

    def _read(self) -> None:
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self.rankings, self.skipped)]
        if sizes != self._sizes:
            self.rows, passed = (
                list(_read(path)) if path.exists() else [] for path in (self.rankings, self.skipped)
            )
            self.judged = {(row["rater"], row["item"]) for row in [*self.rows, *passed]}
            self._sizes = sizes

    def next_for(self, rater: str) -> str | None:
        """The first item that a rater has not judged; each has an order of their own. None: all are judged."""
        order = Random(f"{self.seed} {rater}").sample(list(self.items), len(self.items))
        return next((item for item in order if (rater, item) not in self.judged), None)

    def shown(self, rater: str, item: str) -> list[int]:
        """Places of an item's replies in the order that a rater sees."""
        count = len(self.items[item]["responses"])
        return Random(f"{self.seed} {rater} {item}").sample(range(count), count)

    def done_by(self, rater: str) -> int:
        """Items that a rater has judged."""
        return sum(one == rater for one, _ in self.judged)

    def rank(self, rater: str, item: str, ranks: list[int] | None, *, seconds: float, note: str = "") -> None:
        """Keep a ranking: the rank of each reply in the order that was shown; None where the rater cannot judge.

        Raises:
            ResidencyError: an item that does not exist, ranks that do not fit, or an item that was judged before.
        """
        if item not in self.items:
            raise ResidencyError(f"no item {item}")
        shown, known = self.shown(rater, item), self.items[item]
        row: Row = {"item": item, "rater": rater, "shown": shown, "seconds": round(seconds, 1), "note": note}
        if ranks is not None:
            if len(ranks) != len(shown) or not all(1 <= rank <= len(shown) for rank in ranks):
                raise ResidencyError(f"item {item}: {ranks} are no ranks of {len(shown)} replies")
            placed = dict(zip(shown, ranks, strict=True))
            in_order = [placed[place] for place in range(len(shown))]
            row = {"id": f"{item}/{rater}", "cluster": item, **known, "ranks": in_order, **row}
        with self._lock, self.rankings.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._read()
            if (rater, item) in self.judged:
                raise ResidencyError(f"item {item} was judged by {rater} already")
            _append(self.rankings if ranks is not None else self.skipped, row)
            self._read()


def _read(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise ResidencyError(f"no file {path}", cure="Give a JSONL file or the directory of a sample stage")
    for number, row in json_lines(path):
        if isinstance(row, Problem):
            raise ResidencyError(f"{path}:{number}: {row.what}", cure="Mend or remove this line")
        yield {"id": number, **row}


def _refuse_read_only(rankings: Path) -> None:
    """Before a rater has judged anything for nothing."""
    try:
        rankings.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResidencyError(f"{rankings.parent}: {error.strerror}", cure="Give another file") from error
    if not os.access(rankings if rankings.exists() else rankings.parent, os.W_OK):
        raise ResidencyError(
            f"{rankings} cannot be written", cure="Give another file, or the right to write it"
        )


def _append(path: Path, row: Row) -> None:
    """A line that is on the disk before the rater sees the next item; the whole line or, on a full disk, none of it."""
    with path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError as error:
            os.ftruncate(file.fileno(), before)
            raise ResidencyError(
                f"{path}: {error.strerror}", cure="Free some room and save again", code=Exit.ENVIRONMENT
            ) from error
