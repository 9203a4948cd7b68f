"""A raw reply made ready to be read: thinking and what follows the answer removed, refusals recognised.

`fold` keeps every character at its place, so that what a pattern finds in the folded text stands at the same
offsets in the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

THINKING = re.compile(r"<(think|thinking)>.*?</\1>", re.DOTALL)
END_OF_TURN = re.compile(r"<\|(?:im_end|eot_id|endoftext|end|return|end_of_text)\|>|</s>|<eos>|<end_of_turn>")
# Where a base model goes on to the next example of its prompt, or plays the user's part.
NEXT_TURN = (
    r"(?:^|\n)[ \t#*]*(?:(?:Next )?[Qq]uestion|QUESTION|Q|User|Human|Instruction|Pregunta|Frage|问题)"
    r"[ \t]*\d*[*]*[:：]"
)
NEXT_HEADING = r"(?:^|\n)[ \t]*(?:#+[ \t]*(?:Question|Instruction)s?\b|(?:Exercise|Problem|Example)[ \t]\d)"
NEXT_IN_TEXT = re.compile(f"{NEXT_TURN}|{NEXT_HEADING}")
NEXT = re.compile(rf"{NEXT_TURN}|{NEXT_HEADING}|\n[ \t]*(?:Context|CONTEXT|Abstract|Passage|Input)[ \t]*:")

REFUSAL = re.compile(
    r"""
    \b(?:i|we)(?:\s+am|'m)?\s+(?:really\s+)?(?:sorry|unable\s+to|not\s+able\s+to|not\s+(?:sure|qualified))\b
    | \bsorry,\s+(?:but\s+)?i\b
    | \bi\s+(?:can't|cannot|can\s+not|won't|will\s+not|don't|do\s+not|must\s+decline|decline|could\s+not|couldn't)\s+
      (?:(?:to|really|in\s+good\s+conscience)\s+)*
      (?:provide|give|offer|help|assist|answer|diagnose|choose|say|tell|determine|know|advise|decide|recommend|comply)
    | \bi\s+must\s+decline\b
    | \bplease\s+(?:consult|see|contact|seek|talk\s+to)\b | (?:^|[.!]\s+)consult\s+(?:your|an?|with)\b
    | \bno\s+(?:puedo|lo\s+se)\b | \blo\s+siento\b
    | \b(?:ich\s+)?kann\s+(?:ich\s+)?(?:(?:ihnen|dir|dazu|leider)\s+)*(?:keine?n?|diese|nichts?)\b
    | \btut\s+mir\s+leid\b | \bweiß\s+ich\s+nicht\b | \bich\s+weiß\s+(?:es\s+)?nicht\b
    | \bje\s+ne\s+(?:peux|sais)\s+pas\b | \bje\s+suis\s+desole
    | 我?(?:无法|不能|不可以)(?:回答|提供|给出|诊断) | 我不知道 | 抱歉 | 对不起
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """The part of a reply in which an answer may stand."""

    text: str
    unfinished: bool
    """The reply ended, or hit its limit, before it had said what it had to say."""
    rule: str = ""
    """Why there is no text, where thinking never ended."""


def read(reply: str, *, truncated: bool, running_text: bool = False) -> Reply:
    """The reply without thinking, end-of-turn marks and whatever a model writes after its turn.

    Args:
        truncated: whether the reply hit the length limit. It does not matter where a next question was cut off.
        running_text: the reply may have headings such as "Context:", so that they do not end it.
    """
    text = THINKING.sub("", reply)
    text = re.split(r"<\|channel\|>final<\|message\|>|</think(?:ing)?>", text)[-1]
    if re.search(r"<think(?:ing)?>", text):
        return Reply("", True, "thinking never ended")
    text = re.sub(r"<\|[a-z_]+\|>(?=\S)", "", text) if text.startswith("<|") else text
    if ended := END_OF_TURN.search(text):
        text, truncated = text[: ended.start()], False
    if following := (NEXT_IN_TEXT if running_text else NEXT).search(text):
        text, truncated = text[: following.start()], False
    return Reply(text.strip(), truncated)


def fold(text: str) -> str:
    """Letters without their accents and straight quotes; NFC text keeps its length."""
    return "".join(_base(character) for character in unicodedata.normalize("NFC", text)).translate(STRAIGHT)


def plain(text: str, *, accents: bool = False) -> str:
    """Full-width forms narrowed, the marks of Markdown and TeX removed, accents too unless they are to be kept."""
    text = unicodedata.normalize("NFKC", text).translate(STRAIGHT).replace("−", "-").replace("⁄", "/")
    text = re.sub(r"\\[()\[\]]|\$|\*+|`+|(?<!\w)_+|_+(?!\w)", "", text if accents else fold(text))
    return re.sub(r"\\(?:text|textbf|mathbf|mathrm)\s*\{([^{}]*)\}", r"\1", text)


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`, its braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[begin:place]
    return None


KEYED = re.compile(
    r"""["'](?:final[_ ]?answer|answer(?:[_ ](?:choice|letter))?|choice|option|respuesta|antwort|reponse|答案)["']
    \s*:\s*
    (?:"([^"]*)"|'([^']*)'|(\[[^\]]*\]|[^\s,}]+))""",
    re.VERBOSE | re.IGNORECASE,
)
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def contained(text: str) -> tuple[str, str] | None:
    """The last answer in a form made for machines, and the form's name: `\\boxed{}`, `<answer>`, a JSON key."""
    if (inside := boxed(text)) is not None:
        return inside, "boxed"
    if tags := TAGGED.findall(text):
        return tags[-1], "answer tag"
    if keys := KEYED.findall(text):
        return next((part for part in keys[-1] if part), ""), "JSON"
    return None


STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " "})


def _base(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    return (
        parts[0] if len(parts) > 1 and all(unicodedata.combining(part) for part in parts[1:]) else character
    )
