"""Reads running text for synthesis: sections under their headings, sentences that stand alone, informative terms.

Made for books and guidelines as plain text: one paragraph, heading or list item a line. English. No torch here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

SHORTEST_PARAGRAPH = 20  # words; shorter lines are headings, captions or list items
LONGEST_HEADING = 10  # words
COMMON = 0.2  # a word in more than this share of the documents tells nothing of any of them
SHORTEST_TERM = 5  # letters
LEAST_DOCUMENTS = 20  # fewer say nothing of what is common
WORD = re.compile(r"[A-Za-z][A-Za-z-]*[A-Za-z]")
SENTENCE_END = re.compile(r"(?<=[.?!])[\"”’)]?\s+(?=[\"“A-Z])")
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|vs|Dr|Mr|Ms|Mrs|Prof|Fig|St|No|approx|cf|[A-Z])\.$")
# A reference to a figure or table that plain text has lost: `( a)`, `(see )`, `in ,`.
LOST_REFERENCE = re.compile(
    r"\s*\((?:see|refer to)?\s*(?:(?:figure|table|panel|parts?)\s*)?(?:[a-f](?:\s*(?:,|and|-|–)\s*[a-f])*)?\s*\)",
    re.I,
)
BROKEN = re.compile(
    r"\(\s|\s[,.;)]|\b(?:in|see|from|of|and|by|shown in|illustrated in)\s*[.,;]|[<>{}|_]|https?:|"
    r"\b(?:credit|he|she|his|her|hers|him|chapter|section|figure|table|this|these|aforementioned|"
    r"previous|above|below|earlier)\b",
    re.I,
)
NOUN = re.compile(
    r"\b(?:the|an?|of|with|by|into|from|between|called) (?P<noun>(?:[A-Za-z-]+ ){0,2}?[A-Za-z-]+)"
    r"(?=[.,;:)]| (?:is|are|was|were|of|that|which|can|may)\b)",
    re.I,
)
# Sentences that begin so lean on the one before.
LEANS = re.compile(
    r"^(?:this|these|those|that|it|its|they|their|them|he|she|his|her|such|here|there|however|thus|therefore|hence|"
    r"moreover|furthermore|also|additionally|in addition|for example|for instance|instead|similarly|likewise|then|"
    r"finally|first|second|third|next|another|other|others|both|each|one|some|many|most|again|conversely|"
    r"in contrast|on the other hand|as a result|consequently|but|and|or|so|yet|because|recall|note|notice|remember|"
    r"consider|imagine|when this|in this|in these|at this|you|we|our|your|if you)\b",
    re.I,
)
NO_HEADING = re.compile(
    r"^(?:introduction|summary|overview|objectives?|learning objectives|chapter .*|key .*|review.*|references|"
    r"further reading|glossary|part \d+|resolution|clinical focus.*|"
    r"critical thinking.*|check your understanding|suggested .*|answer.*|"
    r".*[:;,.?!=→]|[^A-Za-z]*)$",
    re.I,
)


@dataclass
class Section:
    """Paragraphs under one heading."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """The sections of a document; the first heading is its title. Lists, captions and empty sections are left out."""
    found = [Section("")]
    for line in map(str.strip, text.splitlines()):
        words = len(line.split())
        if words >= SHORTEST_PARAGRAPH and line[0] not in "-•*" and line[-1] in '.?!”"':
            found[-1].paragraphs.append(clean(line))
        elif 0 < words <= LONGEST_HEADING and line[0].isupper() and not NO_HEADING.match(line):
            found.append(Section(line))
    return [section for section in found if section.paragraphs]


def clean(text: str) -> str:
    """Without the remains of references to figures."""
    return re.sub(r"\s+", " ", LOST_REFERENCE.sub("", text)).strip()


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph."""
    found: list[str] = []
    for piece in SENTENCE_END.split(paragraph):
        if found and ABBREVIATION.search(found[-1]):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def stands_alone(sentence: str) -> bool:
    """Whether a sentence can be understood, and was kept whole, without those around it."""
    return (
        8 <= len(sentence.split()) <= 45
        and sentence[0].isupper()
        and sentence[-1] == "."
        and not LEANS.match(sentence)
        and not BROKEN.search(sentence)
        and sentence.count("(") == sentence.count(")")
        and sentence.count("“") == sentence.count("”")
    )


class Terms:
    """How many documents hold a term, one word or two words side by side; what is rare and repeated is informative."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.documents = 0
        self.holding: Counter[str] = Counter()
        for text in texts:
            self.documents += 1
            self.holding.update(set(candidates(text)))

    def is_common(self, term: str) -> bool:
        """Whether so many documents hold the term that it tells nothing of any."""
        if self.documents < LEAST_DOCUMENTS:
            return False
        return self.holding[term] > COMMON * self.documents

    def weight(self, term: str) -> float:
        """Information in nats: log of all documents over those that hold the term."""
        return math.log((1 + self.documents) / (1 + self.holding[term]))

    def of(self, text: str, number: int, least: int = 2) -> list[str]:
        """The most informative terms of a text that stand in it at least `least` times, best first."""
        counts = Counter(candidates(text))
        scores = {
            term: times * self.weight(term) * (1.5 if " " in term else 1.0)
            for term, times in counts.items()
            if times >= least and not any(self.is_common(word) for word in (term, *term.split()))
        }
        return sorted(scores, key=lambda term: (-scores[term], term))[:number]


def nouns(text: str) -> set[str]:
    """Words and pairs of words, in lower case, that a text uses as nouns: behind an article or preposition, and not
    before another noun."""
    found = set()
    for match in NOUN.finditer(text):
        words = match["noun"].lower().split()
        found |= {words[-1], " ".join(words[-2:])}
    return found


def candidates(text: str) -> list[str]:
    """Words of a text in lower case, and pairs of them side by side."""
    words = [word.lower() if len(word) >= SHORTEST_TERM else "" for word in WORD.findall(text)]
    pairs = [f"{left} {right}" for left, right in pairwise(words) if left and right]
    return [word for word in words if word] + pairs
