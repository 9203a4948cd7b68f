"""Texts of which the benchmarks know what shall be found in them: near-duplicates, lookalikes, exam items."""

from __future__ import annotations

import re
from random import Random
from typing import Any

Row = dict[str, Any]
NEAR, LOOKALIKE = 0.85, 0.5  # exact Jaccard index of word 5-grams: at least, and at most


def shingles(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams, case and punctuation aside."""
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))


def jaccard(one: str, other: str) -> float:
    """Exact Jaccard index of two texts' word 5-grams."""
    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right)


def near_duplicate(text: str, random: Random) -> str:
    """A text with a few words exchanged, a sentence's punctuation and case changed, and a line in front or behind."""
    words = text.split(" ")
    for _ in range(max(1, len(words) // 300)):
        words[random.randrange(len(words))] = random.choice(["however", "patients", "often", "treatment"])
    changed = " ".join(words)
    if random.random() < 0.5:
        changed = changed.replace(". ", " - ").upper()
    line = random.choice(["Reviewed this year.", "Source: health library.", ""])
    return f"{line}\n{changed}" if random.random() < 0.5 else f"{changed}\n{line}"


def lookalike(text: str, other: str, random: Random) -> str:
    """A text that begins as another does and goes on with a third's words."""
    words, others = text.split(" "), other.split(" ")
    kept = int(len(words) * random.uniform(0.2, 0.5))
    return " ".join(words[:kept] + others[: len(words) - kept])


def punctuated(text: str, random: Random) -> str:
    """A text in capitals with other punctuation."""
    return re.sub(r"[.,;:?!()]", lambda _: random.choice(["", " ;", "!", "-", " ("]), text).upper()


def rendered(item: Row, options: list[str]) -> str:
    """An exam item as it stands in a question bank."""
    lettered = (f"{letter}. {option}" for letter, option in zip("ABCDEFGH", options, strict=False))
    return "\n".join([item["prompt"], *lettered])


def half(item: Row, random: Random) -> str:
    """The first or the second half of a question's words."""
    words = item["prompt"].split()
    middle = len(words) // 2
    return " ".join(words[:middle] if random.random() < 0.5 else words[middle:])
