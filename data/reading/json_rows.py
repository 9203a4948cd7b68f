"""Rows of JSON files: one object a line, an array, or objects one after another, never the whole file at once.

Keys that stand twice in an object are found, which `json.loads` and faster parsers pass over (the last one wins).
No torch here."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from residency.data.reading.faults import Found, Problem, Row
from residency.data.reading.files import BUFFER, LONGEST, lines, opened
from residency.errors import ResidencyError

BLANK = re.compile(r"[ \t\n\r]*")
ONE_A_LINE = "Mend or fetch it again; one object a line (.jsonl) lets a reader pass over damage"


class RepeatedKeyError(ValueError):
    """A key stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> Row:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return made


DECODER = json.JSONDecoder(object_pairs_hook=_once)
LENIENT = json.JSONDecoder()
TOO_LONG = Problem("too_long", f"longer than {LONGEST // 2**20} MiB")


def json_lines(path: Path) -> Iterator[Found]:
    """Rows of a file with one object a line; their numbers are the lines'."""
    for number, line in enumerate(lines(path), 1):
        if line is None:
            yield number, TOO_LONG
        elif not line.isspace():
            yield number, _parsed(line)


def json_values(path: Path) -> Iterator[Found]:
    """Rows of a JSON array, or objects one after another.

    Raises:
        ResidencyError: it is no JSON from some row on, or cut short.
    """
    with opened(path) as file:
        text = Scroll(file)
        array = text.next() == "["
        text.at += array
        number = 0
        while text.next() not in ("", "]" if array else ""):
            number += 1
            yield number, _element(text, f"{path}: row {number}")
            if array and text.next() not in (",", "]", ""):
                raise ResidencyError(
                    f"{path}: row {number} ends without a comma or a bracket", cure=ONE_A_LINE
                )
            text.at += array and text.next() == ","
        if array and not text.next():
            raise ResidencyError(f"{path}: cut short behind row {number}", cure=ONE_A_LINE)
        text.at += array
        if text.next():
            raise ResidencyError(f"{path}: goes on behind the array's end", cure=ONE_A_LINE)


class Scroll:
    """Decoded text of a file, of which only what lies behind `at` is kept. Bytes that are no UTF-8 become lone
    surrogates (PEP 383)."""

    def __init__(self, file: BufferedReader) -> None:
        self.file, self.text, self.at = file, "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")

    def more(self) -> bool:
        """Read on, as much again as is left; False at the end of the file."""
        data = self.file.read(max(BUFFER, len(self.text) - self.at))
        self.text = self.text[self.at :] + self.decoder.decode(data, final=not data)
        self.at = 0
        return bool(data)

    def next(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            blank = BLANK.match(self.text, self.at)
            assert blank, "a pattern that fits nothing always fits"
            self.at = blank.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""


def _element(text: Scroll, place: str) -> Row | Problem:
    """The value at the scroll's place, which moves behind it."""
    while True:
        wrong: Problem | None = None
        try:
            try:
                value, end = DECODER.raw_decode(text.text, text.at)
            except RepeatedKeyError as error:
                wrong = _repeated(error)
                value, end = LENIENT.raw_decode(text.text, text.at)
        except (ValueError, RecursionError) as error:
            # The rest may be still to come.
            too_long = len(text.text) - text.at > LONGEST
            if not too_long and text.more():
                continue
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            size = f" or longer than {LONGEST // 2**20} MiB" if too_long else ""
            raise ResidencyError(f"{place} is not JSON{size} ({reason})", cure=ONE_A_LINE) from error
        if end == len(text.text) and text.more():
            continue  # a number may go on
        source, text.at = text.text[text.at : end], end
        if len(source) > LONGEST:
            return TOO_LONG
        return _undecodable(source) or wrong or _object(value)


def _parsed(line: bytes) -> Row | Problem:
    try:
        return _object(DECODER.decode(line.rstrip(b"\r\n").decode("utf-8")))
    except UnicodeDecodeError as error:
        return Problem("not_utf8", f"byte {error.start + 1} is not UTF-8")
    except RepeatedKeyError as error:
        return _repeated(error)
    except json.JSONDecodeError as error:
        return Problem("not_json", f"not JSON ({error.msg}, column {error.colno})")
    except RecursionError:
        return Problem("not_json", "not JSON (nested too deeply)")
    except ValueError as error:  # a number of thousands of digits
        return Problem("not_json", f"not JSON ({error})")


def _repeated(error: RepeatedKeyError) -> Problem:
    return Problem("duplicate_keys", f"the key {str(error)!r} stands twice in an object")


def _undecodable(text: str) -> Problem | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return Problem("not_utf8", "not UTF-8")
    return None


def _object(value: Any) -> Row | Problem:
    if isinstance(value, dict):
        return value
    return Problem("not_an_object", f"{type(value).__name__} where an object is expected")
