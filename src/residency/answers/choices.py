"""Which option of a multiple-choice question a free reply names: by letter, or by the option's text.

Evidence is asked for in this order, and the first that speaks decides, even where it says "invalid": a form made
for machines (`\\boxed{}`, `<answer>`, JSON); the reply being one option's text; the last place where an answer is
announced; the letter that the reply begins with; a letter alone on the last line; then, unless the reply refuses or
was cut off, the text of one option at its telling places. A wrong extraction is worse than none: what is ambiguous is
invalid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from residency.answers.cues import cues, retracted
from residency.answers.options import DISAGREE, Claim, Options
from residency.answers.reply import REFUSAL, contained, plain, read
from residency.answers.result import Extracted

ALSO_RIGHT = re.compile(r"\W*(?:\w+\s+)?(?:too|also|as\s+well)\b", re.IGNORECASE)
RIGHT = (
    r"(?:correct[ae]?|right|best|answer|true|richtig|korrekt|bonne"
    r"|(?:drug|treatment|test|first)\s+(?:of\s+)?choice)"
)
JUDGED = re.compile(
    rf"""(?P<before>(?:\w+\s+)?)[(\[]?(?<![A-Za-z0-9-])(?P<letter>[A-J])[)\]]?\s*
    (?:[.)]\s(?P<text>\w[\w -]{{0,80}}?))?
    (?:\s(?:is|seems|looks|appears|es|est|ist)\s+(?:to\s+be\s+)?(?:the|my|la|die|le)?\s*
        (?:most\s+\w+\s+)?{RIGHT}(?![A-Za-z])
      |\s(?:die\s+)?(?:richtige?|korrekte?)(?![A-Za-z])
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
NOT_THAT = re.compile(r"\s*(?:n't|not|nicht|pas|keine?|no)\s+", re.IGNORECASE)
INSTEAD = re.compile(r"[^.\n]{0,40}?[,\s](?:but|sino|sondern|mais|而是)\s+", re.IGNORECASE)
ASKED = re.compile(r"\W*[A-Za-z]\W*\?")
LINK = r"\s(?:is|are|es|ist|est)\s"


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
    shown = Options(options)
    text = _without_next_example(plain(heard.text), shown)
    claim = (
        _contained(heard.text, shown)
        or _whole(text, shown)
        or _announced(text, shown)
        or _leading(text, shown)
        or _last_line(text, shown)
    )
    if claim is None and REFUSAL.search(text):
        return Extracted("refused", None, "refusal")
    if claim is None and heard.unfinished:
        return Extracted("truncated", None, "cut off before an answer")
    claim = claim or _by_text(text, shown)
    if claim is None:
        return Extracted("invalid", None, "no answer" if text else "empty")
    return Extracted("invalid" if claim.index is None else "answered", claim.index, claim.rule)


def _contained(text: str, shown: Options) -> Claim | None:
    if (container := contained(text)) is None:
        return None
    inside, form = container
    claim = shown.at(plain(inside)) or Claim(None, "no option")
    return claim if claim.index is None else Claim(claim.index, form)


def _whole(text: str, shown: Options) -> Claim | None:
    """The reply is an option's text, or one letter over and over."""
    exact, core = shown.exact(text), text.strip(" \n.!\"'()-")
    if len(core) == 1 and exact and core.upper() in ascii_uppercase[: shown.count]:
        same = exact == [ascii_uppercase.index(core.upper())]
        return Claim(exact[0], "letter alone") if same else Claim(None, DISAGREE)
    if len(exact) == 1:
        return Claim(exact[0], "text alone", by_letter=False)
    if repeated := re.fullmatch(r"\W*([A-J])(?:\W+\1)+\W*", text):
        return shown.letter_at(repeated[1], strict=True)
    if re.match(r"A:\s*\(?[A-Ja-j][).]?\s*$", text):  # as in "Q: ... A: B"
        return shown.letter_at(text[2:].strip(), strict=True)
    return None


def _announced(text: str, shown: Options) -> Claim | None:
    """The last announcement; a letter, or a text after a strong cue, before a text after a weak one."""
    found = [*_after_cues(text, shown), *_judged(text, shown)]
    firm = [(place, claim) for place, strong, claim in found if strong or claim.by_letter]
    said = firm or [(place, claim) for place, _, claim in found]
    if not said:
        return None
    place, claim = max(said, key=lambda each: each[0])
    if claim.index is not None and retracted(text[place:]):
        return Claim(None, "answer taken back")
    return Claim(claim.index, f"announced: {claim.rule}", claim.by_letter)


def _after_cues(text: str, shown: Options) -> Iterator[tuple[int, bool, Claim]]:
    """Offset, strength of the cue, and what it announces."""
    for cue in cues(text):
        rest = text[cue.end :]
        if cue.negative or NOT_THAT.match(rest):
            contrary = INSTEAD.match(rest)  # "not A but B"
            if not contrary:
                continue
            rest = rest[contrary.end() :]
        claim = shown.at(rest)
        if claim is None or ASKED.match(rest) or (claim.index is None and not cue.strong):
            continue
        yield len(text) - len(rest), cue.strong, claim


def _judged(text: str, shown: Options) -> Iterator[tuple[int, bool, Claim]]:
    """Letters that are called right: "B is correct", "B. Heparin - correct"."""
    for pattern in (JUDGED, JUDGED_ON_ITS_LINE):
        for match in pattern.finditer(text):
            if NOT_ALONE.search(match.groupdict().get("before") or ""):
                continue
            index = ascii_uppercase.index(match["letter"].upper())
            if (between := match.groupdict().get("text")) and index not in shown.exact(between):
                continue
            claim = Claim(index, "letter called correct")
            if index >= shown.count:
                claim = Claim(None, "letter beyond the options")
            elif ALSO_RIGHT.match(text[match.end() :]):
                claim = Claim(None, "several letters")
            yield match.start("letter"), True, claim


def _leading(text: str, shown: Options) -> Claim | None:
    """The letter with which the reply begins, unless it only lists the options."""
    listed = re.findall(r"(?:^|\n)\W*([A-J])(?:[.):]\s|[ \t]*(?=\n|$))", text)
    if listed[:2] == ["A", "B"] or _listed_in_line(text, shown):
        return None
    text = re.sub(r"^\s*1[.)]\s+(?=\(?[A-J]\W*$)", "", text).lstrip(" \n>#-→=*|✅")
    claim = shown.at(text, strict=True)
    if claim is None or not claim.by_letter or ASKED.match(text):
        return None
    return Claim(claim.index, f"first: {claim.rule}")


def _listed_in_line(text: str, shown: Options) -> bool:
    """Whether the first option and another stand there with their letters, as in "(A) Warfarin, (B) Heparin"."""
    listed = [
        index
        for index, pattern in shown.patterns.items()
        if re.search(
            rf"(?<![A-Za-z]){ascii_uppercase[index]}[.):]\)?\s*(?:{pattern.pattern})", text, re.IGNORECASE
        )
    ]
    return len(listed) > 1 and 0 in listed


def _last_line(text: str, shown: Options) -> Claim | None:
    """A letter, with or without its text, alone on the last line."""
    *before, last = text.strip().split("\n")
    last = last.strip(" |.#>-→")
    if not before or not re.match(r"[(\[]?[A-J](?:[)\].:]|$)", last):
        return None
    if re.match(r"\W*[A-J](?:[.):]\s|\W*$)", before[-1]):  # the end of a list
        return None
    claim = shown.letter_at(last, strict=True)
    return Claim(claim.index, f"last line: {claim.rule}") if claim else None


def _by_text(text: str, shown: Options) -> Claim | None:
    """The text of one option on the first or last line, calling itself right, or at the end of "... is X."."""
    lines = [line for line in text.split("\n") if line.strip()]
    for line in (lines[0], lines[-1]) if lines else ():
        if len(exact := shown.exact(line)) == 1:
            return Claim(exact[0], "text on its own line", by_letter=False)
    sentences = re.split(r"(?<=[.!?。])\s+|\n", text.strip())
    if not NEGATION.search(sentences[0]) and (claim := shown.text_at(text)):
        return Claim(claim.index, "text first", by_letter=False)
    if claim := shown.text_at(text, closing=rf"\s+is\s+(?:the\s+)?(?:most\s+\w+\s+)?{RIGHT}"):
        return Claim(claim.index, "text called correct", by_letter=False)
    last = sentences[-1]
    if last.rstrip().endswith("?") or NEGATION.search(last):
        return None
    said = re.search(rf"(?:{LINK}|[是为])(?!.*{LINK})", last, re.IGNORECASE)
    claim = shown.text_at(last[said.end() :], closing=r"\s*[.!。]?\s*$") if said else None
    return Claim(claim.index, "text at the end", by_letter=False) if claim else None


def _without_next_example(text: str, shown: Options) -> str:
    """Only the first line, where it is an answer and a base model went on with a question that has other options."""
    first, _, rest = text.lstrip().partition("\n")
    answer = _whole(first.strip(), shown) or shown.letter_at(first, strict=True)
    if answer is None or answer.index is None:
        return text
    listed = re.findall(r"(?:^|\n)\W*([A-J])[.):]\s*([^\n]+)", rest)
    foreign = [letter for letter, line in listed if not shown.own_text(ascii_uppercase.index(letter), line)]
    starts = len(listed) >= 2 and listed[0][0] == "A"
    return first if starts and len(foreign) == len(listed) else text
