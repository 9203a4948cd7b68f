"""Medical error correction (MEDEC, MEDIQA-CORR 2024): is a sentence of the note wrong, which one, and what is right.

Source: Ben Abacha et al. 2024, arXiv 2412.19260. The reply is `CORRECT`, or the wrong sentence's number and the
corrected sentence. `facts` hold `error_sentence_id` (-1 for a correct note) and `corrected_sentence`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from residency.answers import final_text
from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, fact
from residency.eval.metrics.overlap import rouge_n, tokens

NO_ERROR = -1
CORRECT = re.compile(r"(?:(?:the|this)\s+(?:note|text)\s+is\s+)?correct", re.IGNORECASE)
NUMBERED = re.compile(r"(?:sentence\s+)?\[?(\d{1,4})\]?\s*[.:)\-–]?\s+(\S.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Correction:
    """What a reply says of a note."""

    sentence_id: int
    """Number of the wrong sentence; -1 where all are right."""
    sentence: str
    """The corrected sentence; empty where all are right."""


def read_correction(reply: str) -> Correction | None:
    """The first line that is `CORRECT` or a number and a sentence; None where no line is."""
    for line in (final_text(reply).value or "").splitlines():
        said = line.replace("**", "").strip().strip("\"'`").strip()
        if CORRECT.fullmatch(said.rstrip(".!")):
            return Correction(NO_ERROR, "")
        if found := NUMBERED.fullmatch(said):
            return Correction(int(found[1]), found[2])
    return None


def correction(reply: str, item: Item) -> Statistics:
    """One note: `flag` and `sentence` 0 or 1, `composite_rouge1` in [0, 1], and `both`, `both_rouge1` for the notes
    where reply and reference both correct a sentence.

    A task's composite is (notes that both call correct + sum of ROUGE-1 F1 where both correct) / notes; a correction on
    one side alone gives 0. The shared task averages ROUGE-1, BERTScore and BLEURT; this is its part that needs no
    model. A reply that is neither form is wrong in all three.
    """
    true_id, wanted = _reference(item)
    said = read_correction(reply)
    wrong = true_id != NO_ERROR
    if said is None:
        return {"flag": 0.0, "sentence": 0.0, "composite_rouge1": 0.0, "both": 0.0, "both_rouge1": 0.0}
    flagged = said.sentence_id != NO_ERROR
    both = wrong and flagged
    similar = rouge_n(tokens(said.sentence), tokens(wanted), 1) if both else 0.0
    return {
        "flag": float(flagged == wrong),
        "sentence": float(said.sentence_id == true_id),
        "composite_rouge1": similar if both else float(flagged == wrong),
        "both": float(both),
        "both_rouge1": similar,
    }


def _reference(item: Item) -> tuple[int, str]:
    sentence_id = fact(item, "error_sentence_id")
    wanted = fact(item, "corrected_sentence") if sentence_id != NO_ERROR else ""
    if not isinstance(sentence_id, int) or sentence_id < NO_ERROR or (sentence_id != NO_ERROR and not wanted):
        raise ResidencyError(
            f"item {item.get('id')!r}: facts.error_sentence_id {sentence_id!r} with the corrected sentence {wanted!r}",
            cure="Give -1 for a correct note, else the sentence's number and its correction",
        )
    return sentence_id, str(wanted)
