"""Replies that answer with one of a few words (yes, no, maybe), and replies that are text as a whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from residency.answers.cues import cues, retracted
from residency.answers.reply import REFUSAL, contained, fold, plain, read
from residency.answers.result import Extracted

OPENING = r"[\s\"'(\[>#-]*(?:(?:therefore|thus|clearly|definitely|likely|probably|daher|donc)[\s,]+)?[\"'(]*"
ENDED = r"(?=\s*(?:$|[.,;:!)\"'\]\n。]|\s[-–—]|\s(?:because|since|as|for|porque|denn|weil|car)\b))"
OR = r"\s*(?:,|/|\||(?<!\w)(?:and|or|y|o|und|oder|et|ou)(?!\w)|和|或)\s*"
CAPTION = re.compile(
    r"^\W*(?:(?:the|my|final|correct)\s+)*(?:answer|respuesta|antwort|reponse|答案)[ \t*_]*[:：][ \t*_]*",
    re.IGNORECASE | re.MULTILINE,
)


def yes_no_maybe(
    reply: str, words: Sequence[str] = ("yes", "no", "maybe"), *, truncated: bool = False
) -> Extracted[str]:
    """The one of `words` that a reply answers with, as spelled in `words`.

    It counts in a form made for machines, after an announcement, alone on the last line, and where the reply
    begins with it as a clause of its own ("No, ..." but not "No evidence ...").
    """
    heard = read(reply, truncated=truncated)
    if heard.rule:
        return Extracted("truncated", None, heard.rule)
    if container := contained(heard.text):
        word = _word_at(plain(container[0], accents=True), words)
        return Extracted("answered" if word else "invalid", word or None, container[1])
    # Both have the same offsets: announcements are found without accents, words with them ("si" is not "sí").
    text, accented = plain(heard.text), plain(heard.text, accents=True)
    said = [
        (cue.end, _word_at(accented[cue.end :], words))
        for cue in cues(text)
        if cue.strong and not cue.negative
    ]
    said = [(end, word) for end, word in said if word is not None]
    if said:
        end, word = max(said)
        word = None if retracted(text[end:]) else word
        return Extracted("answered" if word else "invalid", word or None, "announced")
    if REFUSAL.search(text):
        return Extracted("refused", None, "refusal")
    if repeated := [
        word
        for word in words
        if re.fullmatch(rf"\W*{re.escape(word)}(?:\W+{re.escape(word)})+\W*", text, re.I)
    ]:
        return Extracted("answered", repeated[0], "one word over and over")
    for part, rule in ((accented, "first word"), (accented.rpartition("\n")[2], "last line")):
        alone = rule == "first word" or re.fullmatch(r"\W*[\w-]+\W*", part)
        if alone and (word := _word_at(part, words)) is not None:
            return Extracted("answered" if word else "invalid", word or None, rule)
    if heard.unfinished:
        return Extracted("truncated", None, "cut off before an answer")
    return Extracted("invalid", None, "no answer" if text else "empty")


def final_text(reply: str, *, truncated: bool = False) -> Extracted[str]:
    """The text behind the last line that opens with "Answer:", or the whole; of a text cut off, what there is."""
    heard = read(reply, truncated=truncated, running_text=True)
    if heard.rule:
        return Extracted("truncated", None, heard.rule)
    text = unicodedata.normalize("NFC", heard.text)
    captions = list(CAPTION.finditer(fold(text)))
    text = text[captions[-1].end() :].strip() if captions else text
    rule = "behind the caption" if captions else "whole reply"
    if not text:
        return Extracted("truncated" if heard.unfinished else "invalid", None, "empty")
    if heard.unfinished:
        return Extracted("truncated", text, rule)
    if not captions and (refusal := REFUSAL.search(fold(text))) and refusal.start() == 0:
        return Extracted("refused", None, "refusal")
    return Extracted("answered", text, rule)


def _word_at(text: str, words: Sequence[str]) -> str | None:
    """The word with which the text begins; empty where it names a second one, None where it begins with none."""
    start = re.match(OPENING + r"(?:(?:either|both)\s+)?", text, re.IGNORECASE)
    assert start is not None  # every part of the pattern is optional
    for word in sorted(words, key=len, reverse=True):
        match = re.compile(re.escape(word) + r"(?!\w)", re.IGNORECASE).match(text, start.end())
        if match is None:
            continue
        other = "|".join(re.escape(each) for each in words)
        if re.compile(rf"{OR}(?:{other}){ENDED}", re.IGNORECASE).match(text, match.end()):
            return ""
        if re.compile(ENDED).match(text, match.end()):
            return word
    return None
