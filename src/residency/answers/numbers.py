"""The number that a free reply gives as its answer (GSM8K, SVAMP).

In order: the last `\\boxed{}`, `<answer>` or JSON answer; the last "#### 12" (GSM8K's mark, arXiv 2110.14168); the last
announcement ("the answer is"); the last number of all. Digits only: "twelve" is not read. "1.234" is a
decimal and "1,234" a thousand; "3,5" can only be a decimal.
"""

from __future__ import annotations

import re
from decimal import Decimal

from residency.answers.cues import cues, retracted
from residency.answers.reply import REFUSAL, contained, plain, read
from residency.answers.result import Extracted

CURRENCY = r"[$€£¥]?\s?"
NUMBER = re.compile(
    rf"""(?<![\w.])(?<![A-Za-z]-)(?P<sign>-?){CURRENCY}-?
    (?P<digits>\d{{1,3}}(?:[, ]\d{{3}})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+)
    (?P<comma>,\d{{1,2}}(?![\d,]))?(?P<power>[eE][+-]?\d+|\s*[×x*]\s*10\s*\^\s*\{{?-?\d+\}}?)?
    (?:\s*/\s*(?P<under>\d+))?(?:\s(?P<scale>thousand|million|billion)\b)?""",
    re.VERBOSE,
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
CLAUSE_END = re.compile(r"\.(?=\s|$)|[!?;。\n]")
ALTERNATIVE = re.compile(r"\s*(?:or|to|and|-|–|oder|o|ou|y|或|和)\s*(?=[-$€£]?\d)")


def number(reply: str, *, truncated: bool = False) -> Extracted[Decimal]:
    """The number that a reply answers with; `truncated` (the reply hit the length limit) rules out the last resort."""
    heard = read(reply, truncated=truncated)
    if heard.rule:
        return Extracted("truncated", None, heard.rule)
    text = _plain_numbers(heard.text)
    if container := contained(heard.text):
        value = _stated(_plain_numbers(container[0]))
        return Extracted("invalid" if value is None else "answered", value, container[1])
    if "####" in text:
        value = _stated(text.rpartition("####")[2].strip().partition("\n")[0])
        return Extracted("invalid" if value is None else "answered", value, "####")
    announced = [cue for cue in cues(text) if cue.strong and not cue.negative]
    announced = [
        cue for cue in announced if _stated(text[cue.end :]) is not None or _ambiguous(text[cue.end :])
    ]
    if announced:
        end = max(cue.end for cue in announced)
        value = None if retracted(text[end:]) else _stated(text[end:])
        return Extracted("invalid" if value is None else "answered", value, "announced")
    if REFUSAL.search(text):
        return Extracted("refused", None, "refusal")
    if heard.unfinished:
        return Extracted("truncated", None, "cut off before an answer")
    found = list(NUMBER.finditer(text))
    if not found or any(cue.strong for cue in cues(text)):
        return Extracted("invalid", None, "no number" if text else "empty")
    return Extracted("answered", _value(found[-1]), "last number")


def _plain_numbers(text: str) -> str:
    text = text.replace("\\$", "$").replace("{,}", ",").replace("\\%", "%")
    text = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
    return plain(text.replace("$", " ").replace("€", " ").replace("£", " ")).replace("\\times", "×")


def _clause(text: str) -> str:
    text = text.lstrip()
    end = CLAUSE_END.search(text)
    clause = text[: end.start()] if end else text
    return clause.rpartition("=")[2]


def _stated(text: str) -> Decimal | None:
    """The one number of the clause with which the text begins; behind its last "=", if it has one."""
    clause = _clause(text)
    match = NUMBER.search(clause)
    if not match or _ambiguous(text) or re.match(r"\s*(?:not|nicht|pas|no|不)(?![A-Za-z])", clause, re.I):
        return None
    return _value(match)


def _ambiguous(text: str) -> bool:
    clause = _clause(text)
    match = NUMBER.search(clause)
    return match is not None and ALTERNATIVE.match(clause, match.end()) is not None


def _value(match: re.Match[str]) -> Decimal | None:
    digits = re.sub(r"[, ]", "", match["digits"])
    if match["comma"]:
        digits += match["comma"].replace(",", ".")
    value = Decimal(digits)
    if match["power"]:
        value *= Decimal(10) ** int(re.sub(r".*?\^|[eE{}]|\s", "", match["power"]))
    if match["under"]:
        if not int(match["under"]):
            return None
        value /= int(match["under"])
    value *= SCALES.get(match["scale"] or "", 1)
    return -value if "-" in match[0][: match.start("digits") - match.start()] else value
