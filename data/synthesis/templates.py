"""Instructions made of running text or exam items by templates; what is answered always stands in the source.

Which sentence, term and wording is taken hangs on the seed and the document alone. Only sentences that can be
understood alone are used, and only terms that the document repeats and few others hold. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

from residency.data.synthesis.prose import Section, Terms, nouns, sections, sentences, stands_alone
from residency.data.synthesis.settings import TemplatesSettings

Row = dict[str, Any]
Turn = tuple[str, str]
LONGEST_PASSAGE = 1800  # characters
TERM = r"(?:(?:An?|The) )?(?P<term>[A-Za-z][\w’-]*(?: (?!is |are |was |and |or |that |which |of the )[\w’-]+){0,3})"
DEFINITION = re.compile(
    rf"^(?!The [^A-Za-z]){TERM}(?:, (?:also|sometimes) (?:called|known as) [^,]{{3,40}},)?"
    r" (?:is|are) (?:(?:defined as|the (?:term|name) for) )?(?:an?|the) (?P<what>(?!same\b|most\b|only\b|best\b|key\b)"
    r"[^,;]{3,40} (?:that|which|of|in|with|for|between|by|where|who|composed|containing|found|used|made|caused)\b.+)\.$"
)
NO_TERM = re.compile(
    r"\b(?:result|example|reason|purpose|function|goal|following|first|second|third|last|next|other|another|main|major|"
    r"primary|most|what|who|how|why|what|when|process|number|role|idea|case|part|way|person|people|author|chapter|"
    r"section|figure|difference|answer|question|problem|point|advantage|effect|cause|rest|type|form|kind|use|"
    r"combination|presence|absence|key|both|all|not|nor|he|she|it|they|we|you|his|her|their|our|your|its)\b",
    re.I,
)
WORDINGS: dict[str, list[str]] = {
    "define": ["What is meant by {term}?", "Define {term}.", "Explain the term “{term}” in one sentence."],
    "cloze": [
        "Fill in the missing term: {sentence}",
        "Which term belongs in the blank? {sentence}",
        "Complete the sentence with one term. {sentence}",
    ],
    "title": [
        "Give a heading for this passage.\n\n{text}",
        "What is the following passage about? Answer with a short heading.\n\n{text}",
    ],
    "explain": [
        "Write a passage on “{heading}”{subject}.",
        "Explain “{heading}”{subject}.",
        "What should a student know about “{heading}”{subject}?",
    ],
    "continue": ["Continue this text.\n\n{text}", "How does the following paragraph go on?\n\n{text}"],
    "judge": [
        "True or false? {sentence}",
        "Is this statement correct? {sentence}",
        "Judge whether the statement is true, and correct it if it is not. {sentence}",
    ],
    "exam": ["{question}\n\n{options}", "Choose the right answer.\n\n{question}\n\n{options}"],
}


def instructions(
    row: Row, settings: TemplatesSettings, terms: Terms, seed: int
) -> Iterator[tuple[str, Turn]]:
    """Template, and question with answer, for each instruction that a row gives.

    Args:
        row: normalised row of schema `text` or `choice`.
        terms: of the whole corpus.
    """
    document = _Document(row, terms) if "text" in row else None
    for template in settings.templates:
        random = Random(f"{seed} {row['id']} {template}")
        if (document is None) != (template == "exam"):
            continue
        made = _exam(row, random) if document is None else MAKERS[template](document, random)
        for asked, answer in islice(made, settings.per_document):
            yield template, (random.choice(WORDINGS[template]).format(**asked), answer)


class _Document:
    """A document with what templates look at."""

    def __init__(self, row: Row, terms: Terms) -> None:
        self.text = row["text"]
        self.title = self.text.strip().partition("\n")[0].strip()
        self.sections: list[Section] = sections(self.text)
        used = nouns(self.text)
        self.nouns = [term for term in terms.of(self.text, 200) if term in used]
        self.terms = self.nouns[:MOST_TERMS]
        self.sentences = [
            sentence
            for section in self.sections
            for paragraph in section.paragraphs
            for sentence in sentences(paragraph)
            if stands_alone(sentence)
        ]

    def passages(self, random: Random) -> Iterator[tuple[str, str]]:
        """Heading and text of the sections that fit, in a random order."""
        for section in random.sample(self.sections, len(self.sections)):
            text = "\n\n".join(section.paragraphs)
            if section.heading and len(text) <= LONGEST_PASSAGE and len(text.split()) >= 40:
                yield section.heading, text


Made = Iterator[tuple[dict[str, str], str]]


def _define(document: _Document, random: Random) -> Made:
    lower = document.text.lower()
    seen = set()
    for sentence in random.sample(document.sentences, len(document.sentences)):
        match = DEFINITION.match(sentence)
        if not match or NO_TERM.search(match["term"]):
            continue
        term = match["term"] if match["term"][1:] != match["term"][1:].lower() else match["term"].lower()
        # A term that the document never takes up again is seldom one.
        if len(term) >= SHORTEST_DEFINED and lower.count(term.lower()) >= 2 and term not in seen:
            seen.add(term)
            yield {"term": term}, sentence


def _cloze(document: _Document, random: Random) -> Made:
    for sentence, term in _holding(document, random):
        blanked = _replace(sentence, term, BLANK)
        if blanked is not None:
            yield {"sentence": blanked}, _written(sentence, term)


def _title(document: _Document, random: Random) -> Made:
    for heading, text in document.passages(random):
        yield {"text": text}, heading


def _explain(document: _Document, random: Random) -> Made:
    for heading, text in document.passages(random):
        same = document.title.lower() in heading.lower() or heading.lower() in document.title.lower()
        yield {"heading": heading, "subject": "" if same else f" ({document.title})"}, text


def _continue(document: _Document, random: Random) -> Made:
    paragraphs = [paragraph for section in document.sections for paragraph in section.paragraphs]
    for paragraph in random.sample(paragraphs, len(paragraphs)):
        parts = sentences(paragraph)
        if len(parts) >= 4 and len(paragraph) <= LONGEST_PASSAGE and not LEANING_START.match(paragraph):
            yield {"text": " ".join(parts[:2])}, " ".join(parts[2:])


def _judge(document: _Document, random: Random) -> Made:
    """True and false statements in turns, so that neither is the better guess."""
    false = random.random() < 0.5
    for sentence, term in _holding(document, random):
        if not false:
            yield {"sentence": sentence}, "True."
        else:
            others = [other for other in document.nouns if _could_stand_for(other, term, sentence)]
            changed = _replace(sentence, term, random.choice(others)) if others else None
            if changed is None:
                continue
            yield {"sentence": changed}, f"False. {sentence}"
        false = not false


def _could_stand_for(other: str, term: str, sentence: str) -> bool:
    """Whether a sentence with the other term would be grammatical and say something else."""
    return (
        other[-2:] == term[-2:]  # number and kind of word
        and (" " in other) == (" " in term)
        and other not in sentence.lower()
        and not set(other.split()) & set(term.split())
    )


def _exam(row: Row, random: Random) -> Made:
    question = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    if row.get("context"):
        question = f"{row['context']}\n\n{question}"
    lines = [f"{chr(ord('A') + place)}. {option.strip()}" for place, option in enumerate(row["options"])]
    yield {"question": question.strip(), "options": "\n".join(lines)}, lines[row["answer"]]


def _holding(document: _Document, random: Random) -> Iterator[tuple[str, str]]:
    """Sentences with one of the document's informative terms, each term and each sentence once."""
    left = random.sample(document.sentences, len(document.sentences))
    for term in random.sample(document.terms, len(document.terms)):
        whole = re.compile(rf"\b{re.escape(term)}\b", re.I)
        found = next((sentence for sentence in left if len(whole.findall(sentence)) == 1), None)
        if found is not None:
            left.remove(found)
            yield found, term


def _replace(sentence: str, term: str, other: str) -> str | None:
    """The sentence with another term; None where the term comes first or is part of a longer word."""
    match = re.search(rf"(?P<before>\b\w+ )(?<!-){re.escape(term)}\b(?![-’'])", sentence, re.I)
    if match is None:
        return None
    before = match["before"]
    if before.lower() in ("a ", "an "):
        if match.start() == 0:
            return None
        # The article must not tell what the term was.
        before = "a(n) " if other == BLANK else ("an " if other[0] in "aeiou" else "a ")
    return sentence[: match.start()] + before + other + sentence[match.end() :]


def _written(sentence: str, term: str) -> str:
    found = re.search(rf"\b{re.escape(term)}\b", sentence, re.I)
    assert found is not None
    return found[0]


SHORTEST_DEFINED = 4  # letters
BLANK = "____"
MOST_TERMS = 16  # of a document
LEANING_START = re.compile(r"^(?:This|These|It|They|However|Thus|Such|In contrast|For example)\b")
MAKERS: dict[str, Callable[[_Document, Random], Made]] = {
    "define": _define,
    "cloze": _cloze,
    "title": _title,
    "explain": _explain,
    "continue": _continue,
    "judge": _judge,
}
