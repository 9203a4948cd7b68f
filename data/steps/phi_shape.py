"""One surface form of an identifier: an expression, the sign it is tried around, and a check of what it found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from residency.data.steps.settings import Identifier

Check = Callable[[re.Match[str]], bool]
REACH = 64  # characters around a sign in which an identifier and its label stand

# Signs are simple enough to be looked for in all of a text; what stands between two digits in reach is one stretch.
DIGIT = re.compile(rf"\d(?:[^\n]{{0,{REACH}}}\d)*")
NUMBER = re.compile(r"\d(?:[ ().-]{0,2}[A-Z]?\d){3,}")  # four digits or more, with what separates them
SLASH = re.compile(r"\d/\d")
OVER_89 = re.compile(r"(?<!\d)(?:9\d|1[0-2]\d)(?!\d)")
AT = re.compile("@")
HOST = re.compile(r"://|[wW]{3}|\.[a-z]{2,6}(?![A-Za-z0-9])")
COLON = re.compile("[:：]")
BY = re.compile(r" (?:by|BY|By)[ :]|\b[Dd]ear |DEAR ")
MONTH = re.compile("月")
NINETY = re.compile("[Nn]inety|NINETY")
MONSIEUR = re.compile(r"M\.\s")
PERSON = re.compile(
    "[患病姓联签医大主先女护教]"
)  # of the Chinese words for patients, doctors and how they are addressed


@dataclass(frozen=True)
class Shape:
    """See the module.

    Attributes:
        pattern: finds it; group `v` is the identifier where what stands around it (a label) is no part of it.
        sign: it is looked for around this only; None is all of the text.
        check: says False of what only looks like one.
    """

    kind: Identifier
    pattern: re.Pattern[str]
    sign: re.Pattern[str] | None = DIGIT
    check: Check | None = None


def shape(
    kind: Identifier, pattern: str, check: Check | None = None, sign: re.Pattern[str] | None = DIGIT
) -> Shape:
    """A shape from the source of its expression."""
    return Shape(kind, re.compile(pattern), sign, check)


def digits(text: str) -> int:
    """How many digits."""
    return sum(character.isdigit() for character in text)
