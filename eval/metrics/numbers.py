"""Replies whose answer is one number (GSM8K, SVAMP, doses and scores)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from residency.answers import number
from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, answers


def exact_number(reply: str, item: Item) -> Statistics:
    """1 if the reply's final number equals one of the answers, else 0; `4` equals `4.0`, and `1,000` is 1000.

    Of a reference with its reasoning what follows `####` counts (GSM8K).
    """
    right = {_value(text, item) for text in answers(item)}
    found = number(reply).value
    return {"exact": float(found is not None and _value(str(found), item) in right)}


def _value(text: str, item: Item) -> Decimal:
    try:
        return Decimal(text.rpartition("####")[2].replace(",", "").strip())
    except InvalidOperation:
        raise ResidencyError(
            f"item {item.get('id')!r}: the answer {text!r} is no number",
            cure="Mend it, or take another metric",
        ) from None
