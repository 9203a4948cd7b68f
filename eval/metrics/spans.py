"""Named entities in a reply, as a list of mentions or as the sentence with tags: hits, predicted, gold.

`facts.text` is the sentence, `facts.spans` its entities as [start, end, type] in characters. A task's value is
micro-F1, `2 hits / (predicted + gold)`, over the sums. Three ways to match, as in SemEval 2013 task 9:
strict (same borders and type), relaxed (some overlap, same type, one to one), token (words within entities of a type).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, fact
from residency.eval.metrics.lists import listed
from residency.eval.metrics.overlap import CJK, tokens

WORD = re.compile(f"[{CJK}]|[^\\W_{CJK}]+|[^\\s\\w]|_")
TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)>")


@dataclass(frozen=True)
class Mention:
    """An entity: its words and its type."""

    words: frozenset[int] | tuple[str, ...]
    """Places of its words in the sentence (negative for words not in it), or in a list the words themselves."""
    type: str


def listed_mentions(reply: str, item: Item) -> Statistics:
    """Statistics of a reply that lists mentions (see `lists.listed`), each distinct one once, wherever it stands.

    With several types (`facts.types`, or those of the item's entities) an entry says its own: `Disease: asthma` or
    `asthma (Disease)`; an entry without one matches no entity.
    """
    text, spans = _spans(item)
    types = sorted({type for _, _, type in spans} | {str(t).lower() for t in item["facts"].get("types", ())})
    gold = {Mention(tuple(tokens(text[start:end])), type) for start, end, type in spans}
    said = {_typed(entry, types) for entry in listed(reply)}
    return _statistics(sorted(said, key=_order), sorted(gold, key=_order))


def tagged_mentions(reply: str, item: Item) -> Statistics:
    """Statistics of a reply that repeats the sentence with tags, `<disease>asthma</disease>`.

    The reply's words are aligned with the sentence's, so that a changed word costs only the entity it is in. A tagged
    mention that is not in the sentence counts as predicted and matches nothing.
    """
    text, spans = _spans(item)
    places = [(found.start(), found.end()) for found in WORD.finditer(text)]
    gold = {
        Mention(frozenset(n for n, (left, right) in enumerate(places) if left < end and right > start), type)
        for start, end, type in spans
    }
    said = _tagged(reply, [text[left:right].lower() for left, right in places])
    return _statistics(list(dict.fromkeys(said)), sorted(gold, key=_order))


def _statistics(said: Sequence[Mention], gold: Sequence[Mention]) -> Statistics:
    exact = [mention for mention in said if mention in gold]
    left = [mention for mention in gold if mention not in exact]
    relaxed = len(exact)
    for mention in said:
        match = next((g for g in left if g.type == mention.type and set(g.words) & set(mention.words)), None)
        if mention not in exact and match is not None:
            left.remove(match)
            relaxed += 1
    said_words, gold_words = (
        Counter((mention.type, word) for mention in each for word in mention.words) for each in (said, gold)
    )
    return {
        "strict": float(len(exact)),
        "relaxed": float(relaxed),
        "predicted": float(len(said)),
        "gold": float(len(gold)),
        "token": float((said_words & gold_words).total()),
        "token_predicted": float(said_words.total()),
        "token_gold": float(gold_words.total()),
    }


def _order(mention: Mention) -> tuple[list[str], str]:
    return sorted(f"{word:>6}" for word in mention.words), mention.type


def _spans(item: Item) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans = str(fact(item, "text")), fact(item, "spans")
    for span in spans:
        if len(span) != 3 or not 0 <= span[0] < span[1] <= len(text):
            raise ResidencyError(
                f"item {item.get('id')!r}: span {span!r} in a text of {len(text)} characters",
                cure="Give [start, end, type] in characters, the end after the last one",
            )
    return text, [(start, end, str(type).lower()) for start, end, type in spans]


def _typed(entry: str, types: Sequence[str]) -> Mention:
    if len(types) < 2:
        return Mention(tuple(tokens(entry)), types[0] if types else "")
    for type in types:
        name = re.escape(type)
        before = re.fullmatch(rf"{name}\s*[:：|-]\s*(.+)", entry, re.IGNORECASE)
        after = re.fullmatch(rf"(.+?)\s*[(\[|:：]\s*{name}\s*[)\]]?", entry, re.IGNORECASE)
        if found := before or after:
            return Mention(tuple(tokens(found[1])), type)
    return Mention(tuple(tokens(entry)), "")


def _tagged(reply: str, sentence: Sequence[str]) -> list[Mention]:
    said: list[str] = []
    open_tags: list[tuple[str, int]] = []
    ranges: list[tuple[int, int, str]] = []
    at = 0
    for tag in [*TAG.finditer(reply), None]:
        said += [word.lower() for word in WORD.findall(reply[at : tag.start() if tag else len(reply)])]
        if tag is None:
            break
        at, name = tag.end(), tag[2].lower()
        if not tag[1]:
            open_tags.append((name, len(said)))
        elif any(name == opened for opened, _ in open_tags):
            place = max(n for n, (opened, _) in enumerate(open_tags) if opened == name)
            ranges.append((open_tags.pop(place)[1], len(said), name))
    place_of = {
        block.a + n: block.b + n
        for block in SequenceMatcher(None, said, sentence, autojunk=False).get_matching_blocks()
        for n in range(block.size)
    }
    return [
        Mention(frozenset(place_of.get(n, -n - 1) for n in range(start, end)), type)
        for start, end, type in ranges
    ]
