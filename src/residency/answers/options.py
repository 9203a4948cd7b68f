"""The options of one question, and what a text says about them at one place: a letter, an option's text, or several.

A letter must be followed by an end, a reason or its own option's text, so that "A patient" is an article,
"C. difficile" a genus, "B cells" a word; two letters, or a letter beside another option's text, name no option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from residency.answers.reply import plain

LETTER = re.compile(
    r"\s*[\"'(\[<{]*(?P<letter>[A-Za-z])(?![A-Za-z0-9]|'[A-Za-z]|\.[A-Za-z]|-\w)(?P<close>[\"')\]>}]*)"
)
# Words between the cue and the answer itself.
FILLER = re.compile(
    r"\s*(?:(?:the|la|el|die|option|choice|letter|letra|lettre|answer|opcion|alternativa|respuesta|"
    r"antwort(?:moglichkeit)?|reponse|"
    r"therefore|thus|daher|donc|(?:most\s+)?likely(?:\s+to\s+be)?|probably|definitely|clearly|sure|"
    r"final\s+answer|i\s+(?:think|believe|would\s+say)|"
    r"(?:it|that)\s+is)(?![A-Za-z])|选项|答案)[\s,:!]*",
    re.IGNORECASE,
)
JOINED = r"\s*(?:,|/|&|、|和|或|与|(?<![A-Za-z])(?:and|or|y|o|e|u|und|oder|et|ou|nor)(?![A-Za-z]))+\s*"
BECAUSE = (
    r"\s+(?:because|since|as|for|due|not|but|rather|instead|over|it\s+is|which|and\s+not|by|"
    r"porque|ya\s+que|weil|da|denn|wahlen|nehmen|car|parce|puisque)(?![A-Za-z])"
)
STOP = r"\s*(?:$|\n|[.,;:!)\"'\]}。、(]|\s-|\s?[–—✅])"
WRONG = re.compile(
    r"[^\w\n]*(?:选项)?[^\w\n]*(?:(?:is|are|was|es|ist|est|n'est|是)[ \t]+(?:(?:also|clearly)\s+)?(?:not|nicht|pas)"
    r"|(?:(?:is|are|was|es|ist|est|是)[ \t]*(?:(?:also|clearly)\s+)?)?"
    r"(?:incorrect|wrong|false|falsch|fausse|错|不正确|不对)"
    r"|(?:no|nein|non)(?=\s*(?:$|[.,;!])))",
    re.IGNORECASE,
)
ARTICLE = re.compile(r"\s*[\"'(]*(?:(?:the|an?|la|el|le|die|der|das|un|une)\s+|l')?", re.IGNORECASE)
SEVERAL = re.compile(
    r"\s*(?:either|both|neither|entweder|weder|ni)\s+(?:option\s+)?\(?[A-J](?![A-Za-z])", re.IGNORECASE
)
DISAGREE = "letter and text disagree"


@dataclass(frozen=True)
class Claim:
    """What a reply says at one place: an option's index, or None where no single option is said."""

    index: int | None
    rule: str
    by_letter: bool = True


class Options:
    """The options of one question, ready to be found in text that `plain` has made plain."""

    def __init__(self, options: Sequence[str]) -> None:
        self.count = len(options)
        words = [re.findall(r"[^\W_]+", plain(option)) for option in options]
        self.patterns = {
            index: re.compile(r"[\W_]+".join(map(re.escape, spelled)), re.IGNORECASE)
            for index, spelled in enumerate(words)
            if spelled
        }
        # The longest first, so that "hypertension" does not hide "portal hypertension".
        self.longest_first = sorted(self.patterns, key=lambda index: -len(self.patterns[index].pattern))

    def at(self, text: str, *, strict: bool = False) -> Claim | None:
        """The option named where the text begins; None where none is. `strict`: no cue stands before it."""
        text = text if strict else text.lstrip()
        by_text = self.text_at(text)
        while by_text is None and (filler := FILLER.match(text)):
            text = text[filler.end() :]
            by_text = self.text_at(text)
        by_letter = self.letter_at(text, strict=strict)
        if by_letter is None:
            return by_text or (Claim(None, "several letters") if SEVERAL.match(text) else None)
        if by_text is None or by_text.index == by_letter.index:
            return by_letter
        # An option may itself read "A" or begin with "A 45-year-old man".
        return Claim(None, DISAGREE) if LETTER.fullmatch(text.rstrip(" .\n")) else by_text

    def letter_at(self, text: str, *, strict: bool) -> Claim | None:
        """The letter with which the text begins, where it is meant as one."""
        match = LETTER.match(text)
        if not match:
            return None
        letter, rest = match["letter"], text[match.end() :]
        index = ascii_uppercase.index(letter.upper())
        if self._more_letters(rest, letter) and index not in self.exact(rest):
            return Claim(None, "several letters")
        if WRONG.match(self._behind_own_text(index, rest)):
            return None
        if not self._meant(letter, index, match["close"], rest, strict):
            return None
        if index >= self.count:
            return Claim(None, "letter beyond the options") if letter.isupper() else None
        other = self.text_at(rest.lstrip(" .):,-–—\"'](*\t"), closing=r"\s*(?:$|\n|[.;)])")
        return Claim(None, DISAGREE) if other and other.index != index else Claim(index, "letter")

    def text_at(self, text: str, closing: str = "") -> Claim | None:
        """The option whose text stands where the text begins, with or without an article before it."""
        ends = re.compile(closing or f"{STOP}|{BECAUSE}", re.IGNORECASE)
        article = ARTICLE.match(text)
        for begin in sorted({0, article.end() if article else 0}):
            for index in self.longest_first:
                match = self.patterns[index].match(text, begin)
                rest = text[match.end() :] if match else ""
                if not match or not ends.match(rest) or re.match(r"\.\d", rest):
                    continue
                if re.fullmatch("[A-Za-z]", match[0]) and rest.strip(" .\n"):
                    continue  # "B. ..." is a letter, though some option may read "B"
                more = re.match(JOINED, rest)
                if more and more.end() and self.text_at(rest[more.end() :]):
                    return Claim(None, "several options", by_letter=False)
                return Claim(index, "text of the option", by_letter=False)
        return None

    def exact(self, text: str) -> list[int]:
        """The options whose text this is, but for case and punctuation."""
        core = text.strip(" \n.!\"'()-|>#*")
        return [index for index, pattern in self.patterns.items() if pattern.fullmatch(core)]

    def own_text(self, index: int, rest: str) -> bool:
        """Whether the option's own text follows its letter, perhaps with a word before it, in the same sentence."""
        sentence = re.split(r"[;!?\n]|\.\s+(?=[A-Z])", rest.lstrip(" .):-–(\"'"))[0]
        if index not in self.patterns:
            return False
        own = rf"(?<![A-Za-z0-9])(?:{self.patterns[index].pattern})(?![A-Za-z0-9])"
        return re.search(own, sentence, re.IGNORECASE) is not None

    def _meant(self, letter: str, index: int, close: str, rest: str, strict: bool) -> bool:
        if letter.upper() == "I" and re.match(r",\s+[a-z]", rest):
            return False  # "I, after some thought, ..."
        if self.own_text(index, rest):
            return True
        if not strict and letter.isupper() and letter not in "AI" and re.match(r"\s+[A-Z0-9]", rest):
            return True
        genus = re.match(r"\.\s+[a-z]", rest) and not re.match(rf"\.{BECAUSE}", rest)
        ended = close or re.match(f"{STOP}|{BECAUSE}", rest) or re.match(r"\s*[\u4e00-\u9fff]", rest)
        return bool(ended and not genus)

    def _more_letters(self, rest: str, letter: str) -> bool:
        """Whether more letters follow: "A and C", "A/B", "A, C"."""
        if others := re.fullmatch(r"((?:\W+[A-J])+)\W*", rest):
            return set(re.findall("[A-J]", others[1])) != {letter}
        kind = "[A-Z]" if letter.isupper() else "[a-z]"
        pattern = rf"{JOINED}(?:option\s+)?[\"'(\[]*(?P<letter>{kind})(?![A-Za-z0-9'-])[)\]]?(?P<rest>.*)"
        more = re.match(pattern, rest, re.DOTALL)
        if not more or ascii_uppercase.index(more["letter"].upper()) >= self.count:
            return False
        return more["letter"] not in "AI" or not re.match(r"\s+(?!and|or|are|both)[a-z]", more["rest"])

    def _behind_own_text(self, index: int, rest: str) -> str:
        """What follows the letter, its own text left out: "A. False", "A. Heparin is wrong"."""
        if index not in self.patterns:
            return rest
        own = rf"[\s.):,(\"'–-]*(?:{self.patterns[index].pattern})(?![A-Za-z0-9])"
        match = re.match(own, rest, re.IGNORECASE)
        return rest[match.end() :] if match else rest
