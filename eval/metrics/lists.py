"""Replies that are lists of names, and BioASQ's factoid and list questions.

Source: Balikas et al. 2013, BioASQ evaluation framework specifications; http://participants-area.bioasq.org.
Names are compared in SQuAD's normalisation; synonyms count as the name. BioASQ's yes/no questions are scored by
`residency.eval.metrics.classification` with the classes yes and no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, answers, f1, fact, share
from residency.eval.metrics.overlap import normalise

BULLET = re.compile(r"^\s*(?:[-*•·–]|\(?\d{1,3}[.):、]|\(?[a-z][.)])\s*(?=\S)", re.IGNORECASE)
LEAD = re.compile(r"^\s*(?:the\s+)?(?:final\s+)?answers?\s*(?:is|are)?\s*[:：]\s*", re.IGNORECASE)
NOTHING = {"", "none", "no", "na", "nil", "nothing", "none found", "no entities", "无", "没有"}
RANKED = 5  # names of a factoid answer that count


def listed(reply: str) -> list[str]:
    """Names that a reply lists, in its order: a JSON list, one on each line (bullets and numbers go), or one line
    parted by semicolons, else by commas. "None" is an empty list."""
    found = _json_list(reply)
    if found is None:
        lines = [LEAD.sub("", line.replace("**", "")) for line in reply.splitlines()]
        lines = [line for line in lines if line.strip() and not line.rstrip().endswith((":", "："))]
        found = [part for line in lines for part in re.split(r"[;；]", BULLET.sub("", line))]
        if len(found) == 1:
            found = re.split(r"[,，、]", found[0])
    names = [name.strip().strip("\"'`").rstrip(".。,").strip() for name in found]
    names = [name for name in names if name]
    return [] if len(names) == 1 and normalise(names[0]) in NOTHING else names


def _json_list(reply: str) -> list[str] | None:
    start, end = reply.find("["), reply.rfind("]")
    try:
        found = json.loads(reply[start : end + 1]) if 0 <= start < end else None
    except json.JSONDecodeError:
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


def distinct(names: Iterable[str]) -> list[str]:
    """Normalised names, each once, in their order; empty ones are left out."""
    return list(dict.fromkeys(filter(None, map(normalise, names))))


def factoid(reply: str, item: Item) -> Statistics:
    """A factoid question: `strict` 1 if the first name is right, `lenient` 1 if one of the first five is,
    `reciprocal_rank` 1 / rank of the first right one among five, else 0. The item's answers are synonyms."""
    right = set(distinct(answers(item)))
    whole = normalise(LEAD.sub("", BULLET.sub("", reply)))
    said = [whole] if whole in right else distinct(listed(reply))[:RANKED]
    rank = next((place for place, name in enumerate(said, start=1) if name in right), None)
    return {
        "strict": float(rank == 1),
        "lenient": float(rank is not None),
        "reciprocal_rank": 1 / rank if rank else 0.0,
    }


def entity_list(reply: str, item: Item) -> Statistics:
    """A list question: precision, recall and their F1 of the entities named, in [0, 1]; a task's value is the mean.

    `facts.entities` is a list of entities, each a list of synonyms (or one text). Synonyms of one entity count once.
    """
    entities = [
        {normalise(name) for name in ([entity] if isinstance(entity, str) else entity)}
        for entity in fact(item, "entities")
    ]
    if not entities:
        raise ResidencyError(f"item {item.get('id')!r}: facts.entities is empty", cure="Leave the item out")
    said = distinct(listed(reply))
    hit = sum(any(name in entity for name in said) for entity in entities)
    wrong = sum(not any(name in entity for entity in entities) for name in said)
    return precision_recall(hit, hit + wrong, len(entities))


def precision_recall(hits: int, said: int, gold: int) -> Statistics:
    """`precision`, `recall` and `f1` of one item, 0 where nothing was said."""
    precision, recall = share(hits, said), share(hits, gold)
    return {"precision": precision, "recall": recall, "f1": f1(precision, recall)}


def agreement(found: Sequence[str | None]) -> float:
    """Share of pairs of several replies' answers that are the same; an answer that was not found agrees with none."""
    pairs = [(one, other) for place, one in enumerate(found) for other in found[place + 1 :]]
    assert pairs, "one reply agrees with nothing"
    return sum(one is not None and one == other for one, other in pairs) / len(pairs)
