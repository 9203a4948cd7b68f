"""Which option of a multiple-choice question a free reply names: by letter, or by the option's text.

Evidence is asked for in this order, and the first that speaks decides, even where it says "invalid":
a form made for machines (`\\boxed{}`, `<answer>`, JSON); the last place where the answer is announced; the letter
that the reply begins with; a letter alone on the last line; the text of one option. A wrong extraction is worse than none:
two letters ("A or B"), a letter beside another option's text, or a bare "A" that may be an article are invalid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from residency.answers.cues import cues, retracted
from residency.answers.reply import REFUSAL, contained, plain, read
from residency.answers.result import Extracted

LETTER = re.compile(
    r"\s*[\"'(\[<{]*(?P<letter>[A-Za-z])(?![A-Za-z0-9]|'[A-Za-z]|\.[A-Za-z]|-\w)(?P<close>[\"')\]>}]*)"
)
# Words between the cue and the answer itself.
FILLER = re.compile(
    r"\s*(?:(?:the|la|el|die|option|choice|letter|answer|opcion|alternativa|respuesta|antwort(?:moglichkeit)?|reponse|"
    r"therefore|thus|daher|donc|likely|probably|definitely|clearly|sure|final\s+answer|i\s+(?:think|believe|would\s+say)|"
    r"(?:it|that)\s+is)(?![A-Za-z])|选项|答案)[\s,:!]*",
    re.IGNORECASE,
)
JOINED = r"\s*(?:,|/|&|、|和|或|与|(?<![A-Za-z])(?:and|or|y|o|e|u|und|oder|et|ou|nor)(?![A-Za-z]))+\s*"
BECAUSE = r"\s+(?:because|since|as|for|due|not|but|rather|which|and\s+not|by|porque|ya\s+que|wahlen|nehmen|weil|da|denn|car|parce|puisque)(?![A-Za-z])"
STOP = r"\s*(?:$|\n|[.,;:!)\"'\]}。、(]|\s-|\s?[–—✅])"
WRONG = re.compile(
    r"[^\w\n]*(?:选项)?[^\w\n]*(?:is|are|was|es|ist|est|是)?[ \t]*(?:also\s+|clearly\s+)?"
    r"(?:incorrect|wrong|not|false|falsch|fausse|错误|错|不正确|不对|nicht|n'est)",
    re.IGNORECASE,
)
ALSO_RIGHT = re.compile(r"\W*(?:\w+\s+)?(?:too|also|as\s+well)\b", re.IGNORECASE)
RIGHT = r"(?:correct|right|best|answer|true|richtig|korrekt|correct[ae]|bonne|(?:drug|treatment|test|first)\s+(?:of\s+)?choice)"
JUDGED = re.compile(
    rf"""(?P<before>(?:\w+\s+)?)[(\[]?(?<![A-Za-z0-9-])(?P<letter>[A-J])[)\]]?\s*
    (?:\s(?:is|seems|looks|appears|es|est|ist)\s+(?:to\s+be\s+)?(?:the|la|die|le)?\s*(?:most\s+\w+\s+)?{RIGHT}(?![A-Za-z])
      |\sdie\s+(?:richtige|korrekte)
      |(?:选项)?是?(?:最|唯一)?正确)""",
    re.VERBOSE,
)
JUDGED_ON_ITS_LINE = re.compile(
    r"(?:^|\n)\W*(?P<letter>[A-J])[.):][^\n]{0,80}?[-–:(]\s*(?:correct|right)(?![A-Za-z])", re.I
)
NOT_ALONE = re.compile(
    r"(?:nor|neither|and|or|not|if|whether|why|ni|noch|weder|only|unless|und|oder|et|ou|y|o)\s+$",
    re.IGNORECASE,
)
NEGATION = re.compile(
    r"(?<![A-Za-z])(?:not|no|never|nor|avoid|contraindicated|incorrect|wrong|kein\w*|nicht|ne|pas)(?![A-Za-z])|n't|不",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Claim:
    """What a reply says at one place: an option's index, or None where no single option is said."""

    index: int | None
    rule: str
    by_letter: bool = True


def choice(reply: str, options: Sequence[str], *, truncated: bool = False) -> Extracted[int]:
    """Index of the option that a reply names.

    Args:
        reply: what the model wrote, thinking and continuations included.
        options: texts of the options as shown, the first under the letter A; at most 26.
        truncated: whether the reply hit the length limit; then only an explicit answer counts.
    """
    assert 0 < len(options) <= len(ascii_uppercase), len(options)
    heard = read(reply, truncated=truncated)
    if heard.rule:
        return Extracted("truncated", None, heard.rule)
    text = plain(heard.text)
    named = Options(options)
    text = named.without_next_example(text)
    if claim := named.explicit(contained(heard.text), text):
        status = "invalid" if claim.index is None else "answered"
        return Extracted(status, claim.index, claim.rule)  # type: ignore[arg-type]
    if REFUSAL.search(text):
        return Extracted("refused", None, "refusal")
    if heard.unfinished:
        return Extracted("truncated", None, "cut off before an answer")
    if claim := named.implicit(text):
        status = "invalid" if claim.index is None else "answered"
        return Extracted(status, claim.index, claim.rule)  # type: ignore[arg-type]
    return Extracted("invalid", None, "no answer" if text else "empty")


class Options:
    """The options of one question, ready to be found in text."""

    def __init__(self, options: Sequence[str]) -> None:
        self.count = len(options)
        spelled = [
            r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", plain(option)))) for option in options
        ]
        # The longest first, so that "hypertension" does not hide "portal hypertension".
        self.patterns = sorted(
            ((index, re.compile(text, re.IGNORECASE)) for index, text in enumerate(spelled) if text),
            key=lambda each: -len(each[1].pattern),
        )

    def explicit(self, container: tuple[str, str] | None, text: str) -> Claim | None:
        if container is not None:
            inside, rule = container
            claim = self.at(plain(inside)) or Claim(None, "")
            return Claim(
                claim.index, rule if claim.index is not None else f"{rule}: {claim.rule or 'no option'}"
            )
        if claim := self.whole(text):
            return claim
        return self.announced(text) or self.leading(text) or self.last_line(text)

    def implicit(self, text: str) -> Claim | None:
        return self.by_text(text)

    # Places

    def at(self, text: str, *, strict: bool = False) -> Claim | None:
        """The option named where the text begins; None where none is. `strict`: no cue stands before it."""
        text = text.lstrip("\n ") if not strict else text
        by_text = self.text_at(text)
        while (filler := FILLER.match(text)) and by_text is None:
            text = text[filler.end() :]
            by_text = self.text_at(text)
        by_letter = self.letter_at(text, strict)
        if by_letter is None or (by_text and len(text) > 1 and not LETTER.fullmatch(text.rstrip(" .\n"))):
            return by_text or by_letter or (self.several(text))
        if by_text and by_text.index != by_letter.index:
            return Claim(None, "letter and text disagree")
        return by_letter

    def several(self, text: str) -> Claim | None:
        if re.match(
            r"\s*(?:either|both|neither|entweder|weder|ni)\s+(?:option\s+)?[(]?[A-J](?![A-Za-z])", text, re.I
        ):
            return Claim(None, "several letters")
        return None

    def letter_at(self, text: str, strict: bool) -> Claim | None:
        match = LETTER.match(text)
        if not match:
            return None
        letter, rest = match["letter"], text[match.end() :]
        index = ascii_uppercase.index(letter.upper())
        if self.joined(rest, letter):
            return Claim(None, "several letters")
        own = index < self.count and self.own_text(index, rest)
        if WRONG.match(self.behind_own_text(index, rest)):
            return None
        bracketed = bool(match["close"]) or rest[:1] == "."
        ended = re.match(STOP, rest) or re.match(BECAUSE, rest) or re.match(r"\s*[\u4e00-\u9fff]", rest)
        # "C. difficile", "E. coli": a genus, not an answer.
        genus = re.match(r"\.\s+[a-z]", rest) and not re.match(rf"\.{BECAUSE}", rest)
        loose = not strict and letter.isupper() and letter not in "AI" and re.match(r"\s+[A-Z0-9]", rest)
        if not (own or (ended and not genus) or (bracketed and not genus) or loose):
            return None
        if index >= self.count:
            return Claim(None, "letter beyond the options") if letter.isupper() else None
        other = self.text_at(rest.lstrip(" .):,-–—\"'](*\t"), closing=r"\s*(?:$|\n|[.;)])")
        if other and other.index != index:
            return Claim(None, "letter and text disagree")
        return Claim(index, "letter")

    def joined(self, rest: str, letter: str) -> bool:
        """Whether more letters follow: "A and C", "A/B", "A, C"."""
        kind = "[A-Z]" if letter.isupper() else "[a-z]"
        more = re.match(
            rf"{JOINED}(?:option\s+)?[\"'(\[]*(?P<letter>{kind})(?![A-Za-z0-9'-])[)\]]?(?P<rest>.*)",
            rest,
            re.S,
        )
        if not more or ascii_uppercase.index(more["letter"].upper()) >= self.count:
            return False
        return more["letter"] not in "AI" or not re.match(r"\s+(?!and|or|are|both)[a-z]", more["rest"])

    def own_text(self, index: int, rest: str) -> bool:
        """Whether the option's own text follows, perhaps with a word before it, in the same sentence."""
        sentence = re.split(r"[;!?\n]|\.\s+(?=[A-Z])", rest.lstrip(" .):-–(\"'"))[0]
        patterns = dict(self.patterns)
        return (
            index in patterns
            and re.search(rf"(?<![A-Za-z0-9])(?:{patterns[index].pattern})", sentence, re.I) is not None
        )

    def behind_own_text(self, index: int, rest: str) -> str:
        """What follows the letter, its own text left out: "A. False", "A. Heparin is wrong"."""
        pattern = dict(self.patterns).get(index)
        match = (
            re.match(rf"[\s.):,(\"'–-]*(?:{pattern.pattern})(?![A-Za-z0-9])", rest, re.I) if pattern else None
        )
        return rest[match.end() :] if match else rest

    def text_at(self, text: str, closing: str = rf"(?:{STOP}|{BECAUSE})") -> Claim | None:
        """The option whose text stands where the text begins, an article or not before it."""
        for start in re.finditer(
            r"\s*[\"'(]*(?:(?:the|an?|la|el|le|die|der|das|un|une)\s+|l')?", text[:16], re.I
        ):
            for begin in sorted({0, start.end()}):
                for index, pattern in self.patterns:
                    match = pattern.match(text, begin)
                    if (
                        match
                        and len(match[0]) == 1
                        and match[0].isalpha()
                        and text[match.end() :].strip(" .\n")
                    ):
                        continue  # "B. ...": a letter, though some option reads "B"
                    if (
                        match
                        and re.match(rf"(?:{closing})", text[match.end() :])
                        and not re.match(r"\.\d", text[match.end() :])
                    ):
                        more = re.match(JOINED, text[match.end() :])
                        if more and more.end() and self.text_at(text[match.end() + more.end() :]):
                            return Claim(None, "several options", by_letter=False)
                        return Claim(index, "text of the option", by_letter=False)
            break
        return None

    # Rules

    def whole(self, text: str) -> Claim | None:
        """The reply is an option's text, or one letter over and over."""
        core = text.strip(" \n.!\"'()-")
        exact = [index for index, pattern in self.patterns if pattern.fullmatch(core)]
        if len(core) == 1 and exact and core.upper() in ascii_uppercase[: self.count]:
            same = exact == [ascii_uppercase.index(core.upper())]
            return Claim(exact[0] if same else None, "letter" if same else "letter and text disagree")
        if len(exact) == 1:
            return Claim(exact[0], "text alone", by_letter=False)
        if repeated := re.fullmatch(r"\W*([A-J])(?:\W+\1)+\W*", text):
            return self.letter_at(repeated[1], True)
        if re.match(r"A:\s*[(]?[A-Ja-j][).]?\s*$", text):
            return self.letter_at(text[2:].strip(), True)
        return None

    def announced(self, text: str) -> Claim | None:
        """The last announcement; a letter, or a text after a strong cue, before a text after a weak one."""
        firm: list[tuple[int, Claim]] = []
        soft: list[tuple[int, Claim]] = []
        for cue in cues(text):
            rest = text[cue.end :]
            negated = re.match(r"\s*(?:n't|not|nicht|pas|keine?|no)\s+(?:the\s+)?", rest, re.I)
            if cue.negative or negated:
                contrary = re.match(r"[^.\n]{0,40}?[,\s](?:but|sino|sondern|mais|而是)\s+", rest, re.I)
                if not contrary:
                    continue
                rest = rest[contrary.end() :]
            claim = self.at(rest)
            if (
                claim is None
                or re.match(r"\W*[A-Za-z]\W*\?", rest)
                or (claim.index is None and not cue.strong)
            ):
                continue
            (firm if cue.strong or claim.by_letter else soft).append((len(text) - len(rest), claim))
        for pattern in (JUDGED, JUDGED_ON_ITS_LINE):
            for match in pattern.finditer(text):
                if NOT_ALONE.search(match.groupdict().get("before") or ""):
                    continue
                index = ascii_uppercase.index(match["letter"].upper())
                claim = (
                    Claim(index, "letter called correct")
                    if index < self.count
                    else Claim(None, "letter beyond the options")
                )
                if ALSO_RIGHT.match(text[match.end() :]):
                    claim = Claim(None, "several letters")
                firm.append((match.start("letter"), claim))
        if not (found := firm or soft):
            return None
        place, claim = max(found, key=lambda each: each[0])
        if claim.index is not None and retracted(text[place:]):
            return Claim(None, "answer taken back")
        return Claim(claim.index, f"announced: {claim.rule}", claim.by_letter)

    def leading(self, text: str) -> Claim | None:
        """The letter with which the reply begins, unless it only lists the options."""
        listed = re.findall(r"(?:^|\n)\W*([A-J])(?:[.):]\s|[ \t]*(?=\n|$))", text)
        listed_inline = [index for index, pattern in self.patterns if self.listed(index, pattern, text)]
        if listed[:2] == ["A", "B"] or (len(listed_inline) > 1 and 0 in listed_inline):
            return None
        text = text.lstrip(" \n>#-→=*|✅")
        claim = self.at(text, strict=True)
        if claim is None or not claim.by_letter:
            return None
        if re.match(r"\W*[A-Za-z]\W*\?", text):
            return None
        return Claim(claim.index, f"first: {claim.rule}")

    def listed(self, index: int, pattern: re.Pattern[str], text: str) -> bool:
        return (
            re.search(rf"(?<![A-Za-z]){ascii_uppercase[index]}[.):]\)?\s*(?:{pattern.pattern})", text, re.I)
            is not None
        )

    def last_line(self, text: str) -> Claim | None:
        """A letter, with or without its text, alone on the last line."""
        lines = text.strip().split("\n")
        last = lines[-1].strip(" |.#>-→")
        if (
            len(lines) < 2
            or not re.match(r"[(\[]?[A-J](?:[)\].:]|$)", last)
            or re.match(r"\W*[A-J](?:[.):]\s|\W*$)", lines[-2])
        ):
            return None
        claim = self.letter_at(last, True)
        return Claim(claim.index, f"last line: {claim.rule}") if claim else None

    def by_text(self, text: str) -> Claim | None:
        """The text of one option on the first or last line, calling itself right, or at the end of "... is X."."""
        lines = [line for line in (part.strip() for part in text.split("\n")) if line]
        for line, rule in (
            ((lines[0], "text on the first line"), (lines[-1], "text on the last line")) if lines else ()
        ):
            exact = [
                index for index, pattern in self.patterns if pattern.fullmatch(line.strip(" .!\"'()-|>#*"))
            ]
            if len(exact) == 1:
                return Claim(exact[0], rule, by_letter=False)
        sentences = re.split(r"(?<=[.!?。])\s+|\n", text.strip())
        if not NEGATION.search(sentences[0]) and (claim := self.text_at(text)):
            return Claim(claim.index, "text first", by_letter=False)
        if claim := self.text_at(text, closing=rf"\s+is\s+(?:the\s+)?(?:most\s+\w+\s+)?{RIGHT}"):
            return Claim(claim.index, "text called correct", by_letter=False)
        if re.search(r"\?\s*$", sentences[-1]) or NEGATION.search(sentences[-1]):
            return None
        if said := re.search(
            r"(?:\s(?:is|are|es|ist|est)\s|[是为])(?!.*\s(?:is|are|es|ist|est)\s)", sentences[-1], re.I
        ):
            claim = self.text_at(sentences[-1][said.end() :], closing=r"\s*[.!。]?\s*$")
            return Claim(claim.index, "text at the end", by_letter=False) if claim else None
        return None

    def without_next_example(self, text: str) -> str:
        """A first line that is an answer, without the next question where a base model goes on with other options."""
        first, _, rest = text.lstrip().partition("\n")
        answer = self.whole(first.strip()) or self.letter_at(first, True)
        if not answer or answer.index is None or len(first) > 200:
            return text
        listed = re.findall(r"(?:^|\n)\W*([A-J])[.):]\s*([^\n]+)", rest)
        foreign = [
            1
            for letter, line in listed
            if (index := ascii_uppercase.index(letter)) >= self.count or not self.own_text(index, line)
        ]
        return first if len(foreign) >= 2 and len(foreign) == len(listed) and listed[0][0] == "A" else text
