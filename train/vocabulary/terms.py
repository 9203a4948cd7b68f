"""Terms of a field, such as drugs and diseases, and their semantic types. No torch here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from residency.errors import ResidencyError

WORD = re.compile(r"[^\W\d_]+")  # a run of letters; byte-level tokenizers never join letters and digits
NO_TYPES = "there are no semantic types"
CURE = "Give a file as terms, with a tab and its type behind each term, or set start: pieces"
FEWEST_LETTERS = 3  # of a word by which a term is known: not "of", not "b" of "vitamin B"


@dataclass(frozen=True)
class Terms:
    """Terms in their order, each with its semantic type, or None."""

    types: dict[str, str | None]

    def __len__(self) -> int:
        return len(self.types)

    @cached_property
    def words(self) -> dict[str, str | None]:
        """The terms' words in lower case, each with the type of most of the terms that hold it."""
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for term, type_ in self.types.items():
            for word in WORD.findall(term.lower()):
                if len(word) >= FEWEST_LETTERS:
                    votes[word].update([type_] if type_ else [])
        return {word: max(count, key=count.__getitem__) if count else None for word, count in votes.items()}

    @cached_property
    def of_type(self) -> dict[str, list[str]]:
        """The terms of each semantic type."""
        found: dict[str, list[str]] = defaultdict(list)
        for term, type_ in self.types.items():
            if type_:
                found[type_].append(term)
        return dict(found)


def read(path: Path) -> Terms:
    """Terms of a file: one a line, perhaps with a tab and its semantic type behind it.

    Raises:
        ResidencyError: no terms in it, or it is no UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ResidencyError(f"{path} is not UTF-8 (byte {error.start})", cure="Convert it") from error
    return gather((line.split("\t", 1) for line in lines), str(path))


def gather(rows: Iterable[list[str]], place: str) -> Terms:
    """Terms of rows `[term]` or `[term, type]`; the first row of a term counts, empty ones do not.

    Raises:
        ResidencyError: there is none; `place` says where it was looked for.
    """
    types: dict[str, str | None] = {}
    for term, *type_ in rows:
        if term.strip():
            types.setdefault(term.strip(), type_[0].strip() or None if type_ else None)
    if not types:
        raise ResidencyError(f"{place} holds no terms", cure="Write one a line")
    return Terms(types)
