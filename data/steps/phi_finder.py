"""Where identifiers stand in a text: our shapes, and what Presidio recognises with a checksum or a parser.

How: nearly every identifier holds a digit or one of a few other signs, so expressions run only on the stretches around
those, several times faster than Presidio's recognizers (https://github.com/microsoft/presidio) over all of a text.
Presidio's are called one by one, without its engine, which would download a model; its e-mail recognizer is left out
because it validates domains over the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from residency.data.steps import phi_dates, phi_patterns, phi_people
from residency.data.steps.phi_shape import DIGIT, REACH, Shape
from residency.data.steps.settings import Identifier

SPACE = re.compile(r"[\s\u3000-\u303f\uff00-\uff0f]")  # also Chinese punctuation
CERTAIN = 0.5  # least score of Presidio; below are its forms without a check
ENZYME = re.compile(r"(?i:\bEC|\bE\.C\.|section|chapter|version|table|figure)\W{0,2}$")


@dataclass(frozen=True)
class Hit:
    """An identifier in `[start, end)`, in characters."""

    kind: Identifier
    start: int
    end: int


class Finder:
    """Finds identifiers of some kinds. Holds compiled expressions and models: make one in each process.

    Raises:
        ResidencyError: `names_model` is not installed.
    """

    def __init__(self, kinds: Collection[Identifier], names_model: str | None = None) -> None:
        every = [
            *phi_dates.shapes(),
            *phi_patterns.telephones(),
            *phi_patterns.labelled_numbers(),
            *phi_people.addresses(),
            *phi_patterns.ages(),
            *phi_people.names(),
            *phi_patterns.web(),
        ]
        self._shapes: dict[re.Pattern[str] | None, list[Shape]] = {}
        for shape in every:
            if shape.kind in kinds:
                self._shapes.setdefault(shape.sign, []).append(shape)
        self._recognizers = [known for known in _recognizers() if known[0] in kinds]
        self._people = _people(names_model) if names_model and "name" in kinds else None

    def find(self, text: str) -> list[Hit]:
        """Hits in the order of the text; those that overlap are one, of the longest's kind."""
        hits: list[Hit] = []
        for sign, shapes in self._shapes.items():
            for start, end in _stretches(sign, text):
                for shape in shapes:
                    hits += _hits(shape, text, start, end)
        if self._recognizers:
            for start, end in _stretches(DIGIT, text):
                hits += self._recognised(text, start, end)
        if self._people is not None:
            hits += self._people(text)
        return joined(hits)

    def _recognised(self, text: str, start: int, end: int) -> Iterator[Hit]:
        """What Presidio's recognizers find around digits, each where something begins like what it knows."""
        for kind, sign, recognizer in self._recognizers:
            if not sign.search(text, start, end):
                continue
            stretch = text[start:end]
            for found in recognizer.analyze(stretch, recognizer.supported_entities):
                if found.score >= CERTAIN and not (
                    kind == "ip" and _numbering(stretch, found.start, found.end)
                ):
                    yield Hit(kind, start + found.start, start + found.end)


def joined(hits: list[Hit]) -> list[Hit]:
    """Overlapping hits as one, so that no part of an identifier stays."""
    result: list[Hit] = []
    longest = 0
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if result and hit.start < result[-1].end:
            last = result[-1]
            kind = hit.kind if hit.end - hit.start > longest else last.kind
            longest = max(longest, hit.end - hit.start)
            result[-1] = Hit(kind, last.start, max(last.end, hit.end))
        else:
            result.append(hit)
            longest = hit.end - hit.start
    return result


def _hits(shape: Shape, text: str, start: int, end: int) -> Iterator[Hit]:
    for found in shape.pattern.finditer(text, start, end):
        if shape.check is None or shape.check(found):
            first, last = found.span("v") if "v" in shape.pattern.groupindex else found.span()
            yield Hit(shape.kind, first, last)


def _stretches(sign: re.Pattern[str] | None, text: str) -> Iterator[tuple[int, int]]:
    """Stretches of a text around a sign, each to the end of its last word; those that touch are one."""
    if sign is None:
        yield 0, len(text)
        return
    open_start = open_end = -1
    for found in sign.finditer(text):
        if found.end() < open_end - REACH:
            continue
        if open_end < 0 or found.start() - REACH > open_end:
            if open_end >= 0:
                yield open_start, open_end
            open_start = max(0, found.start() - REACH)
        after = min(len(text), found.end() + REACH)
        space = SPACE.search(text, after)
        open_end = space.start() if space else len(text)
    if open_end >= 0:
        yield open_start, open_end


def _numbering(text: str, start: int, end: int) -> bool:
    """An enzyme's or a section's number looks like an IP address."""
    before, found = text[max(0, start - 16) : start], text[start:end]
    if re.search(r"(?i)\bIP\b[^\n]{0,12}$", before):
        return False
    small = "." in found and all(len(part) == 1 for part in found.split("."))
    return bool(small or ENZYME.search(before))


def _recognizers() -> list[tuple[Identifier, re.Pattern[str], Any]]:
    """Presidio's recognizers that check what they find, each with our kind and how what it knows begins."""
    from presidio_analyzer import predefined_recognizers as presidio

    known: list[tuple[Identifier, str, Any]] = [
        ("ip", r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]", presidio.IpRecognizer()),
        ("record", r"(?:[0-9A-Fa-f]{2}[:-]){3}|(?:[0-9A-Fa-f]{4}\.){2}", presidio.MacAddressRecognizer()),
        ("account", r"\d{4}[ -]?\d{4}[ -]?\d{4}|3\d{3}[ -]\d{6}", presidio.CreditCardRecognizer()),
        ("account", r"[A-Z]{2}\d\d[ -]?[A-Z0-9]{4}", presidio.IbanRecognizer()),
        ("ssn", r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D]", presidio.UkNinoRecognizer()),
        ("ssn", r"\d{7}-?[A-Z]", presidio.EsNifRecognizer()),
        ("ssn", r"[XYZ]-?\d{7}", presidio.EsNieRecognizer()),
        ("ssn", r"[A-Z]{6}\d\d[A-Z]", presidio.ItFiscalCodeRecognizer()),
    ]
    return [(kind, re.compile(sign), recognizer) for kind, sign, recognizer in known]


def _people(model: str) -> Callable[[str], Iterator[Hit]]:
    """Finds people by a spaCy pipeline, whose label is PERSON or PER by the data it was trained on."""
    import spacy

    pipeline = spacy.load(model)

    def find(text: str) -> Iterator[Hit]:
        for entity in pipeline(text).ents:
            if entity.label_ in ("PERSON", "PER"):
                yield Hit("name", entity.start_char, entity.end_char)

    return find
