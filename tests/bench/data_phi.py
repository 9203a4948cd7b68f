"""Benchmark of the PHI step: recall by kind on generated notes, false hits in textbooks, speed; Presidio beside it.

What: notes with planted identifiers (`tests/bench/notes.py`). An identifier is found when hits of any kind cover all of
its letters and digits. Recall is told apart for tuned forms and for untuned ones, an upper bound (see there);
names are labelled ones only. False hits: the share of words in a hit, over the two medical books of OpenStax, whose
dates, web addresses and people count as false too, and over the words of the notes that are no identifier. Presidio:
its recognizers for the same kinds, without an NLP engine, at a score of 0.3; its e-mail recognizer without the check of
domains, which loads a list from the network.

    RESIDENCY_MIRROR=DIR python tests/bench/data_phi.py [--record FILE]
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.data.steps.phi_finder import Finder, Hit
from residency.data.steps.settings import PhiSettings
from tests.bench.figures import Figure
from tests.bench.notes import Note, Planted, notes
from tests.bench.record import mirror, record_option, tell

NOTES, SEED, REPEATS = 3000, 11, 3
STRUCTURED = ("date", "phone", "email", "record", "ssn", "url", "ip", "account", "address")
WORD = re.compile(r"\S+")
Find = Callable[[str], list[Hit]]
PRESIDIO = {
    "DateRecognizer": "date", "PhoneRecognizer": "phone", "UrlRecognizer": "url", "IpRecognizer": "ip",
    "UsSsnRecognizer": "ssn", "CreditCardRecognizer": "account", "IbanRecognizer": "account", "NhsRecognizer": "ssn",
    "EsNifRecognizer": "ssn", "EsNieRecognizer": "ssn", "ItFiscalCodeRecognizer": "ssn",
    "UsLicenseRecognizer": "account", "UsBankRecognizer": "account",
    "UsPassportRecognizer": "account", "MedicalLicenseRecognizer": "account",
}  # fmt: skip


def main() -> None:
    """Measure, print, append the record; figures never change the exit code."""
    path = record_option(__doc__)
    load = os.getloadavg()[0]
    made, books = list(notes(NOTES, SEED)), list(read_books(mirror()))
    finder, presidio = Finder(PhiSettings().kinds), presidio_finder()
    found = [finder.find(note.text) for note in made]
    figures = [*recalls(made, found), Figure("phi_notes", len(made))]
    figures += [Figure("phi_notes_false_words_share", false_share(made, found))]
    in_books = [finder.find(text) for text in books]
    figures += [Figure("phi_books_words_in_hits_share", share_in_hits(books, in_books), at_most=0.005)]
    print(*frequent(books, in_books), sep="\n")
    print(*missed(made, found), sep="\n")
    figures += comparison(made, books, finder.find, presidio)
    tell(path, "data_phi", figures, {"notes": NOTES, "seed": SEED}, load=load, threads=1)


def recalls(made: list[Note], found: list[list[Hit]]) -> list[Figure]:
    """Recall by kind on tuned and on untuned forms, and the share of what was found that has the right kind."""
    planted = Counter[tuple[str, bool]]()
    seen, right = Counter[tuple[str, bool]](), 0
    for note, hits in zip(made, found, strict=True):
        for one in note.planted:
            planted[one.kind, one.tuned] += 1
            if is_found(note.text, one, hits):
                seen[one.kind, one.tuned] += 1
                right += any(
                    hit.kind == one.kind and hit.start < one.end and one.start < hit.end for hit in hits
                )
    figures = []
    for tuned, name, goal in ((True, "tuned", 0.98), (False, "untuned", 0.95)):
        for kind in dict.fromkeys(kind for kind, _ in planted):
            recall = seen[kind, tuned] / planted[kind, tuned]
            label = "labelled_name" if kind == "name" else kind
            figures.append(Figure(f"phi_recall_{name}_{label}", recall, goal if kind in STRUCTURED else None))
        all_found = sum(seen[kind, tuned] for kind in STRUCTURED)
        all_planted = sum(planted[kind, tuned] for kind in STRUCTURED)
        figures.append(Figure(f"phi_recall_{name}_structured", all_found / all_planted, goal))
    return [*figures, Figure("phi_right_kind_share", right / seen.total())]


def is_found(text: str, planted: Planted, hits: list[Hit]) -> bool:
    """Whether hits cover every letter and digit of an identifier."""
    return all(
        not text[place].isalnum() or any(hit.start <= place < hit.end for hit in hits)
        for place in range(planted.start, planted.end)
    )


def false_share(made: list[Note], found: list[list[Hit]]) -> float:
    """Share of the words without a planted identifier that a hit touches."""
    words = touched = 0
    for note, hits in zip(made, found, strict=True):
        for word in WORD.finditer(note.text):
            if not any(one.start < word.end() and word.start() < one.end for one in note.planted):
                words += 1
                touched += any(hit.start < word.end() and word.start() < hit.end for hit in hits)
    return touched / words


def share_in_hits(texts: list[str], found: list[list[Hit]]) -> float:
    """Share of all words that lie in hits."""
    inside = sum(
        len(text[hit.start : hit.end].split())
        for text, hits in zip(texts, found, strict=True)
        for hit in hits
    )
    return inside / sum(len(text.split()) for text in texts)


def frequent(texts: list[str], found: list[list[Hit]]) -> Iterator[str]:
    """The most frequent hits of each kind."""
    counts: dict[str, Counter[str]] = {}
    for text, hits in zip(texts, found, strict=True):
        for hit in hits:
            counts.setdefault(hit.kind, Counter())[text[hit.start : hit.end]] += 1
    for kind, count in counts.items():
        yield f"books {kind} {count.total()}: " + "; ".join(
            f"{text} ({times})" for text, times in count.most_common(12)
        )


def missed(made: list[Note], found: list[list[Hit]]) -> Iterator[str]:
    """Tuned forms that were missed; of untuned ones only how many forms of a kind, so that none is tuned on."""
    tuned, untuned = Counter[str](), dict[str, set[str]]()
    for note, hits in zip(made, found, strict=True):
        for one in note.planted:
            if not is_found(note.text, one, hits):
                if one.tuned:
                    tuned[f"{one.kind} {note.language} {one.form}"] += 1
                else:
                    untuned.setdefault(one.kind, set()).add(one.form)
    yield from (f"missed tuned {form}: {times}" for form, times in tuned.most_common())
    yield from (f"missed untuned {kind}: {len(forms)} forms" for kind, forms in untuned.items())


def presidio_finder() -> Find:
    """Presidio's own recognizers of our kinds."""
    from presidio_analyzer import PatternRecognizer, predefined_recognizers

    chosen: list[tuple[Any, Any]] = [
        (kind, getattr(predefined_recognizers, name)()) for name, kind in PRESIDIO.items()
    ]
    patterns = predefined_recognizers.EmailRecognizer.PATTERNS
    chosen.append(("email", PatternRecognizer("EMAIL_ADDRESS", patterns=patterns)))

    def find(text: str) -> list[Hit]:
        return [
            Hit(kind, result.start, result.end)
            for kind, recognizer in chosen
            for result in recognizer.analyze(text, recognizer.supported_entities)
            if result.score >= 0.3
        ]

    return find


def comparison(made: list[Note], books: list[str], ours: Find, presidio: Find) -> list[Figure]:
    """Speed of both on the same texts in turns, best of three in processor time; Presidio's recall and false hits."""
    few, chapters = made[:300], books[:12]
    theirs = [presidio(note.text) for note in few]
    figures = []
    for kind in STRUCTURED:
        told = [
            is_found(note.text, one, hits)
            for note, hits in zip(few, theirs, strict=True)
            for one in note.planted
            if one.kind == kind
        ]
        figures.append(Figure(f"phi_presidio_recall_{kind}", sum(told) / len(told)))
    in_books = share_in_hits(chapters, [presidio(text) for text in chapters])
    figures.append(Figure("phi_presidio_books_words_in_hits_share", in_books))
    for name, texts in (("notes", [note.text for note in few]), ("books", chapters)):
        seconds: dict[str, float] = {"ours": 1e9, "presidio": 1e9}
        for _ in range(REPEATS):
            for side, find in (("ours", ours), ("presidio", presidio)):
                start = time.process_time()
                for text in texts:
                    find(text)
                seconds[side] = min(seconds[side], time.process_time() - start)
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        figures += [
            Figure(
                f"phi_mb_per_second_{name}", megabytes / seconds["ours"], 1.0 if name == "books" else None
            ),
            Figure(f"phi_speed_ratio_to_presidio_{name}", seconds["presidio"] / seconds["ours"]),
        ]
    return figures


def read_books(directory: Path) -> Iterator[str]:
    """Sections of OpenStax' two medical books."""
    for book in ("anatomy-physiology", "microbiology"):
        for path in sorted((directory / "openstax" / book / "text").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)["text"]


if __name__ == "__main__":
    main()
