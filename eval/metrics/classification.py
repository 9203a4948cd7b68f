"""Replies that name a class: accuracy, macro-F1 and Matthews correlation from counts that add up over items.

Covers BioASQ's yes/no (macro over the classes yes and no), PubMedQA's yes/no/maybe, NLI and document classes, with one
class or several for an item. A reply that names no class counts as wrong and as said of none.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from residency.answers import yes_no_maybe
from residency.errors import ResidencyError
from residency.eval.metrics.item import Floats, Item, Statistics, Sums, answers, fact, quotient
from residency.eval.metrics.lists import distinct, listed
from residency.eval.metrics.overlap import normalise


def one_class(reply: str, item: Item) -> Statistics:
    """Counts `tp:`, `fp:`, `fn:` of every class and `right` (0 or 1). The first answer is the class; `facts.classes`
    are all of them. How a reply says its class: `residency.answers.yes_no_maybe`."""
    classes = _classes(item)
    said = yes_no_maybe(reply, list(classes.values())).value
    return _counts({normalise(answers(item)[0])}, {normalise(said)} if said else set(), classes)


def several_classes(reply: str, item: Item) -> Statistics:
    """As `one_class` for items with several classes: the reply lists them; `right` if exactly all are named. What it
    lists besides is of no class."""
    classes = _classes(item)
    return _counts(
        {normalise(name) for name in answers(item)}, set(distinct(listed(reply))) & set(classes), classes
    )


def _classes(item: Item) -> dict[str, str]:
    """The classes as they are spelled, by their normalised names."""
    spelled = [str(name) for name in fact(item, "classes")]
    classes = {normalise(name): name for name in spelled}
    wrong = {normalise(name) for name in answers(item)} - set(classes)
    if wrong or len(classes) < 2 or len(classes) < len(spelled):
        raise ResidencyError(
            f"item {item.get('id')!r}: facts.classes {spelled} with the answers {item['answers']}",
            cure="List two or more different classes, the answer's among them",
        )
    return classes


def _counts(gold: set[str], said: set[str], classes: Iterable[str]) -> Statistics:
    counts: Statistics = {"right": float(gold == said)}
    for name in classes:
        counts[f"tp:{name}"] = float(name in gold and name in said)
        counts[f"fp:{name}"] = float(name not in gold and name in said)
        counts[f"fn:{name}"] = float(name in gold and name not in said)
    return counts


def _by_class(sums: Sums) -> tuple[Floats, Floats, Floats]:
    names = [key.removeprefix("tp:") for key in sums if key.startswith("tp:")]
    tp, fp, fn = (
        np.stack([np.asarray(sums[f"{kind}:{name}"], dtype=float) for name in names])
        for kind in ("tp", "fp", "fn")
    )
    return tp, fp, fn


def macro_f1(sums: Sums) -> Floats:
    """Mean over classes of `2 tp / (2 tp + fp + fn)`, in [0, 1]; a class neither said nor true is left out, as
    scikit-learn's `f1_score(average="macro")` does."""
    tp, fp, fn = _by_class(sums)
    seen = 2 * tp + fp + fn
    return quotient(quotient(2 * tp, seen).sum(axis=0), (seen > 0).sum(axis=0))


def matthews(sums: Sums) -> Floats:
    """Matthews correlation of items with one class, in [-1, 1]; 0 where only one class is said or true. Replies that
    name no class are a predicted class of their own.

    Formula: (c s - sum p t) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)), c right, s items, p said and t true of each
    class. Source: Gorodkin 2004; as scikit-learn's `matthews_corrcoef`.
    """
    tp, fp, fn = _by_class(sums)
    said, true, items = tp + fp, tp + fn, np.asarray(sums["items"], dtype=float)
    none = items - said.sum(axis=0)
    above = tp.sum(axis=0) * items - (said * true).sum(axis=0)
    spread_said = items**2 - (said**2).sum(axis=0) - none**2
    spread_true = items**2 - (true**2).sum(axis=0)
    return quotient(above, np.sqrt(spread_said * spread_true))
