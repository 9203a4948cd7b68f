"""Differential diagnosis (DDXPlus): is the patient's disease named, and which of the reference's diagnoses are.

Source: Fansi Tchango et al. 2022, arXiv 2205.09148, and the metrics of its code (`code/basd/metrics.py`). The reply
lists diagnoses, likeliest first; `facts` hold `pathology` and `differential` (the reference's diagnoses above 1 %).
"""

from __future__ import annotations

from residency.answers import final_text
from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, fact
from residency.eval.metrics.lists import distinct, listed, precision_recall
from residency.eval.metrics.overlap import normalise


def differential(reply: str, item: Item) -> Statistics:
    """One patient: `first` (GTPA@1) 1 if the disease is the first diagnosis, `anywhere` (GTPA) if it is listed;
    `precision`, `recall`, `f1` (DDP, DDR, DDF1) of the diagnoses listed. A task's values are means over patients."""
    pathology, wanted = normalise(str(fact(item, "pathology"))), set(distinct(fact(item, "differential")))
    if not wanted or not pathology:
        raise ResidencyError(
            f"item {item.get('id')!r}: facts.pathology or facts.differential is empty",
            cure="Leave the item out",
        )
    whole = normalise(final_text(reply).value or "")
    # a diagnosis may hold a comma: such a reply is one diagnosis
    said = [whole] if whole in wanted | {pathology} else distinct(listed(reply))
    return {
        "first": float(said[:1] == [pathology]),
        "anywhere": float(pathology in said),
        **precision_recall(len(wanted & set(said)), len(said), len(wanted)),
    }
