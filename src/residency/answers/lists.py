"""The list of things that a free reply gives: JSON, bullets, numbers, or one line with commas.

A list in words is split at "and" only behind a comma ("a, b, and c"): "head and neck cancer" is one thing.
"""

from __future__ import annotations

import ast
import json
import re

from residency.answers.reply import REFUSAL, fold, read
from residency.answers.result import Extracted

NOTHING = re.compile(
    r"\W*(?:none|n/?a|nothing|nil|(?:there (?:are|is|were|was) )?no \w+(?: \w+)?"
    r"(?: (?:found|mentioned|present|listed|identified)"
    r"(?: in .{0,40})?)|ningun[oa]?|keine?|aucune?|无|没有)\W*",
    re.IGNORECASE,
)
BULLET = re.compile(r"^[ \t]*(?:[-*•‣–]|\(?\d{1,2}[.)])[ \t]+(.+)$", re.MULTILINE)
BETWEEN = re.compile(r"\s*(?:[;|、，]|,(?!\d)|(?<!\d),)\s*(?:and\s+|or\s+)?(?![^()]*\))")
SENTENCE = re.compile(r"[A-Z].*\s(?:is|are|was|were|has|have|had)\s.*\.\s*$", re.DOTALL)
FIELDS = ("text", "entity", "name", "mention", "term")
LONGEST_WORDS = 12  # of one item; longer parts are prose


def items(reply: str, *, truncated: bool = False) -> Extracted[list[str]]:
    """What a reply lists, in its order, repetitions kept; an empty list where it says that there is nothing."""
    heard = read(reply, truncated=truncated)
    if heard.rule:
        return Extracted("truncated", None, heard.rule)
    text = re.sub(r"^```\w*\n|\n?```$", "", heard.text).strip()
    if start := re.search(r"[\[{]\s*(?:[\"'{\[\]}]|$)", text):
        return _from_json(text[start.start() :], heard.unfinished)
    text = re.sub(r"^\W*(?:final\s+)?answer\W*:\W*", "", text, flags=re.IGNORECASE)
    if NOTHING.fullmatch(fold(text)):
        return Extracted("answered", [], "nothing")
    if REFUSAL.search(fold(text)):
        return Extracted("refused", None, "refusal")
    if heard.unfinished:
        return Extracted("truncated", None, "cut off")
    if bullets := BULLET.findall(text):
        return _things(bullets, "bullets")
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        return _things(lines[1:] if lines[0].rstrip().endswith(":") else lines, "lines")
    if SENTENCE.match(text):
        return Extracted("invalid", None, "prose")
    return _things(BETWEEN.split(re.sub(r"^[\w ]{1,40}[:：]\s*", "", text)), "one line")


def _from_json(text: str, unfinished: bool) -> Extracted[list[str]]:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        try:  # Python's quotes
            value = ast.literal_eval(text[: max(text.rfind("]"), text.rfind("}")) + 1])
        except (ValueError, SyntaxError):
            return Extracted("truncated" if unfinished else "invalid", None, "broken JSON")
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list):
        return Extracted("invalid", None, "JSON without one list")
    found = [_field(each) for each in value]
    if not all(isinstance(each, str) for each in found):
        return Extracted("invalid", None, "JSON list of other things than text")
    return Extracted("answered", [str(each).strip() for each in found], "JSON")


def _field(value: object) -> object:
    """The text of an entity given as an object."""
    return (
        next((value[field] for field in FIELDS if field in value), value)
        if isinstance(value, dict)
        else value
    )


def _things(parts: list[str], rule: str) -> Extracted[list[str]]:
    things = [re.sub(r"^[\s\"'`*_“”]+|[\s\"'`*_“”.;,。]+$", "", part) for part in parts]
    things = [thing for thing in things if re.search(r"\w", thing)]
    if len(things) == 1 and NOTHING.fullmatch(fold(things[0])):
        return Extracted("answered", [], "nothing")
    if not things or any(len(thing.split()) > LONGEST_WORDS for thing in things):
        return Extracted("invalid", None, "no list")
    return Extracted("answered", things, rule)
