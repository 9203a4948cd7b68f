"""Replies that are lists of names, and BioASQ's factoid and list questions.

Source: Balikas et al. 2013, BioASQ evaluation framework specifications; http://participants-area.bioasq.org.
Names are compared in SQuAD's normalisation; synonyms count as the name. BioASQ's yes/no questions are scored by
`residency.eval.metrics.classification` with the classes yes and no.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from residency.answers import final_text, items
from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, answers, f1, fact, share
from residency.eval.metrics.overlap import normalise

RANKED = 5  # names of a factoid answer that count


def listed(reply: str) -> list[str]:
    """Names that a reply lists, in its order; none where it is no list (see `residency.answers`)."""
    return items(reply).value or []


def distinct(names: Iterable[str]) -> list[str]:
    """Normalised names, each once, in their order; empty ones are left out."""
    return list(dict.fromkeys(filter(None, map(normalise, names))))


def factoid(reply: str, item: Item) -> Statistics:
    """A factoid question: `strict` 1 if the first name is right, `lenient` 1 if one of the first five is,
    `reciprocal_rank` 1 / rank of the first right one among five, else 0. The item's answers are synonyms."""
    right = set(distinct(answers(item)))
    whole = normalise(final_text(reply).value or "")
    # a name may hold a comma: such a reply is one name
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
