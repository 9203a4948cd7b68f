"""Where a reply says that its answer comes next: "the answer is", "Antwort:", "答案是".

The patterns see text without accents (`reply.fold`). Five languages: English, Chinese, Spanish, German, French.
A *strong* cue speaks of the answer itself; a weak one ("it is", "the most likely diagnosis is") may speak of
something else, so that its word counts less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

NOT = r"(?:isn't|is\s+not|can't\s+be|cannot\s+be|n'est\s+pas|no\s+es|ist\s+nicht|不是|不为)"
IS = (
    rf"(?P<verb>{NOT}|is|(?:(?:would|should|must|might|could|may|will|has\s+to)\s+|(?:appears|seems)\s+to\s+)be|es|seria|ist|lautet|ware|est|serait|是|为)"
    r"(?![A-Za-z])"
)
NOUN = r"(?<![A-Za-z])(?:answer|respuesta|antwort|reponse|losung)(?![A-Za-z])"
CAPTION = r"(?:answer|ans|solution|response|respuesta|antwort|reponse|losung|option|choice|pick|alternativa)"
GOOD = r"(?:correct[ae]?|right|best|appropriate|likely|probable|suitable|mejor|richtige?|korrekte?|beste|bonne|正确)"
STRONG = [
    rf"(?<![A-Za-z]){CAPTION}(?:\s+(?:correct[ao]|finale?))?\s?(?:is|es|ist|est)?\s*(?:[:=]-?>?|-?>|→|-(?=\s))\s*"
    r"(?:the\s+final\s+answer\s+is)?",
    r"(?<![A-Za-z])ans[.\s]",
    r"\[(?:final\s+)?answer\]",
    rf"{NOUN}(?:'s(?![A-Za-z])|[^.:?!\n]{{0,60}}?(?<![A-Za-z]){IS})\s*:?",
    r"(?:^|\n)\W*(?:final\s+|correct\s+|the\s+)*(?:answer|respuesta|antwort|reponse)[ \t]*\n",
    r"答案[】\]]?(?:应该|应当|应)?(?P<negative>不)?(?:是|为|选)?\s*:?",
    r"(?<!不)(?<!可)(?:应|故|本题|我)?选(?:择)?(?!项)",
]
WEAK = [
    rf"(?<![A-Za-z]){GOOD}(?![A-Za-z])[^.:?!\n]{{0,60}}?(?:(?<![A-Za-z])|(?<=[^A-Za-z])){IS}(?:\s+to(?!\w))?\s*:?",
    rf"(?<![A-Za-z])(?:next\s+(?:best\s+)?step|\w+\s+of\s+choice)[^.:?!\n]{{0,40}}?(?<![A-Za-z]){IS}(?:\s+to(?!\w))?",
    r"(?<![A-Za-z])(?:I(?:'d|'ll|'m|\s+would|\s+will)?|let's)\s+(?:choose|pick|select|go(?:ing)?\s+(?:with|for)|opt\s+for"
    r"|lean\s+towards?|answer|say|guess|think|believe)(?![A-Za-z])(?:\s+that)?(?:\s+it(?:'s|\s+is))?",
    rf"(?<![A-Za-z]){GOOD}\s+(?:answer|option|choice|antwort|reponse)(?=\s)",
    r"(?:^|[.,:\n]\s*)(?:choose|pick|select)(?![A-Za-z])",
    r"(?<![A-Za-z])(?:elijo|escojo|selecciono|creo\s+que\s+es|ich\s+(?:wahle|nehme|wurde)|je\s+choisis)(?![A-Za-z])",
    r"(?<![A-Za-z])(?:it(?:'s|\s+is|\s+must\s+be|\s+has\s+to\s+be|\s+should\s+be)|es\s+ist|il\s+s'agit\s+de|c'est"
    r"|(?<!no\s)es\s+la)(?![A-Za-z])",
    r"(?<![A-Za-z])(?:therefore|thus|hence|so|by\s+elimination|leaves(?:\s+us\s+with)?|somit|daher|donc)[,:]?(?=\s)",
]
CUES = [(True, re.compile(each, re.IGNORECASE)) for each in STRONG] + [
    (False, re.compile(each, re.IGNORECASE)) for each in WEAK
]
WRONG = re.compile(r"(?:incorrect|wrong|false|falsch|fausse|incorrect[ao])\s+$", re.IGNORECASE)
CONDITION = re.compile(r"(?<![A-Za-z])(?:if|otherwise|unless|si|wenn|如果)(?![A-Za-z])", re.IGNORECASE)
RETRACTION = re.compile(
    r"\b(?:no|wait|hmm|actually|sorry)\b[,.: -]+(?:(?:no|wait|that|this|it|i)\b[,.: ]*)*"
    r"(?:'s|is|was|am)?\s*(?:not\s+(?:right|correct)|wrong|incorrect|mistaken|a\s+mistake)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cue:
    """One place where the text announces its answer."""

    end: int
    """Offset at which the answer should stand."""
    strong: bool
    negative: bool
    """What follows is said not to be the answer."""


def cues(text: str) -> Iterator[Cue]:
    """Every cue of a folded text, in no order; at one place there may be several."""
    for strong, pattern in CUES:
        for match in pattern.finditer(text):
            found = match.groupdict()
            verb = found.get("verb") or ""
            sentence = re.split(r"[.?!。\n]", text[: match.end()])[-1]
            if WRONG.search(text[: match.start()]) or (
                "would" in verb.lower() and CONDITION.search(sentence)
            ):
                continue
            before = text[: match.start("verb")] if verb else ""
            negative = bool(
                re.fullmatch(NOT, verb, re.IGNORECASE)
                or found.get("negative")
                or re.search(r"(?:\b(?:no|ne)\s+|n'|不)$", before, re.IGNORECASE)
            )
            yield Cue(match.end(), strong, negative)


def retracted(text: str) -> bool:
    """Whether what follows an answer takes it back: "Wait, that is wrong"."""
    return RETRACTION.search(text) is not None
