"""How much of a reply's wording is in the reference: ROUGE, BLEU, chrF, exact match, token F1; and how hard it reads.

Own ROUGE because `rouge-score` loads all of nltk (2 s) and drops every letter beyond a-z; on ASCII text the
numbers are its own (tested). Chinese and Japanese characters are tokens of their own.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from residency.eval.metrics.item import Floats, Item, Statistics, Sums, answers, f1, share

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKEN = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
ARTICLE = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
ORDERS = 4  # n-grams of BLEU


def tokens(text: str) -> list[str]:
    """Lower-case runs of letters and digits; a Chinese or Japanese character is a token. On ASCII text these are the
    tokens of `rouge-score` without stemmer."""
    return TOKEN.findall(text.lower())


def rouge(reply: str, item: Item) -> Statistics:
    """ROUGE-1, ROUGE-2 and ROUGE-L as F1, each the best over the references, in [0, 1].

    ROUGE-n counts common n-grams, ROUGE-L the longest common subsequence of the whole text.
    Source: Lin 2004, https://aclanthology.org/W04-1013; as `rouge_score.RougeScorer.score_multi` without stemmer.
    """
    said = tokens(reply)
    references = [tokens(text) for text in answers(item)]
    return {
        "rouge1": max(rouge_n(said, reference, 1) for reference in references),
        "rouge2": max(rouge_n(said, reference, 2) for reference in references),
        "rougeL": max(rouge_l(said, reference) for reference in references),
    }


def rouge_n(said: Sequence[str], reference: Sequence[str], order: int) -> float:
    """F1 of common n-grams of two token lists."""
    ours, theirs = _ngrams(said, order), _ngrams(reference, order)
    common = (ours & theirs).total()
    return f1(share(common, ours.total()), share(common, theirs.total()))


def rouge_l(said: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two token lists."""
    common = common_length(said, reference)
    return f1(share(common, len(said)), share(common, len(reference)))


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence; a bit for each token of `one`, so that a note takes a millisecond.

    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for token in other:
        matched = row & places.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(one) - row.bit_count()


def _ngrams(of: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(of[place : place + order]) for place in range(len(of) - order + 1))


def bleu_counts(reply: str, item: Item) -> Statistics:
    """n-grams of a reply found in its references, n-grams in all, and both lengths: what `bleu` needs, summed.

    Tokens are sacrebleu's: `13a`, or `zh` where a reference has Chinese or Japanese characters.
    """
    references = answers(item)
    tokenizer = "zh" if re.search(f"[{CJK}]", "".join(references)) else "13a"
    score = _sacrebleu(tokenizer).sentence_score(reply, references)
    counts = {f"correct{order + 1}": float(score.counts[order]) for order in range(ORDERS)}
    totals = {f"total{order + 1}": float(score.totals[order]) for order in range(ORDERS)}
    return {
        **counts,
        **totals,
        "reply_length": float(score.sys_len),
        "reference_length": float(score.ref_len),
    }


def bleu(sums: Sums) -> Floats:
    """Corpus BLEU in [0, 1]: geometric mean of the n-gram precisions, n = 1-4, times the brevity penalty.

    A precision of 0 becomes 1 / (2^k total) for the k-th such order (`smooth_method="exp"`).
    Source: Papineni et al. 2002; numbers are sacrebleu's (Post 2018, arXiv 1804.08771), divided by 100.
    """
    correct = np.stack([np.asarray(sums[f"correct{order + 1}"], dtype=float) for order in range(ORDERS)])
    total = np.stack([np.asarray(sums[f"total{order + 1}"], dtype=float) for order in range(ORDERS)])
    halvings = 2.0 ** np.cumsum(correct == 0, axis=0)
    precision = np.where(correct > 0, correct, 1 / halvings) / np.maximum(total, 1)
    said, wanted = np.asarray(sums["reply_length"]), np.asarray(sums["reference_length"])
    brevity = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(said, 1)))
    score = brevity * np.exp(np.log(precision).mean(axis=0))
    return np.where(correct.any(axis=0) & total.all(axis=0), score, 0.0)


def chrf(reply: str, item: Item) -> Statistics:
    """chrF2 of one reply in [0, 1], the best over its references: F-score (recall counts twice) of character
    n-grams, n = 1-6. A task's value is the mean over items, not the corpus chrF.

    Source: Popović 2015, https://aclanthology.org/W15-3049; sacrebleu's, divided by 100.
    """
    return {"chrf": _sacrebleu("chrf").sentence_score(reply, answers(item)).score / 100}


@cache
def _sacrebleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # here: 50 ms that --help need not wait for
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if tokenizer == "chrf" else BLEU(tokenize=tokenizer, effective_order=True)


def exact_and_f1(reply: str, item: Item) -> Statistics:
    """Exact match (0 or 1) and F1 of words after SQuAD's normalisation, each the best over the references.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250; both empty is a match, as in version 2.0.
    """

    said = normalise(reply)
    references = [normalise(text) for text in answers(item)]
    return {
        "exact": float(said in references),
        "f1": max(_word_f1(_words(said), _words(reference)) for reference in references),
    }


def _word_f1(said: Sequence[str], reference: Sequence[str]) -> float:
    if not said and not reference:
        return 1.0
    common = (Counter(said) & Counter(reference)).total()
    return f1(share(common, len(said)), share(common, len(reference)))


def normalise(text: str) -> str:
    """Lower case, no punctuation, no English articles, single spaces (SQuAD); other scripts' punctuation goes too."""
    plain = text.lower().translate(PUNCTUATION)
    if not plain.isascii():
        plain = "".join(char for char in plain if not unicodedata.category(char).startswith("P"))
    return " ".join(ARTICLE.sub(" ", plain).split())


def _words(normalised: str) -> list[str]:
    """Words; Chinese and Japanese characters are words of their own (as in MLQA)."""
    return re.sub(f"([{CJK}])", r" \1 ", normalised).split()


def reading_grade(reply: str, item: Item) -> Statistics:
    """Flesch-Kincaid grade of an English reply, in years of US schooling (not bounded; fewer is easier):
    `0.39 words / sentences + 11.8 syllables / words - 15.59`. A reply without English words is not graded.

    Syllables are groups of vowels, less a silent final e: on MedQuAD's answers and aci-bench's notes their sum is 1 %
    below that of the CMU dictionary, of the words that it has.

    Source: Kincaid et al. 1975, Navy Research Branch Report 8-75.
    """
    said = re.findall(r"[a-z]+(?:['’][a-z]+)*", reply.lower())
    if not said:
        return {"grade": 0.0, "graded": 0.0}
    sentences = max(1, len(re.findall(r"[.!?]+(?=\s|$)", reply.strip())))
    spoken = sum(syllables(word) for word in said)
    return {"grade": 0.39 * len(said) / sentences + 11.8 * spoken / len(said) - 15.59, "graded": 1.0}


def syllables(word: str) -> int:
    """Groups of vowels of a lower-case English word, at least 1."""
    spoken = re.sub(
        r"(?<=[^aeiouyl])e$|(?<=[aeiouy]l)e$|(?<=[^aeiouytd])e[d]$|(?<=[^aeiouyszxhcg])es$", "", word
    )
    return max(1, len(re.findall(r"[aeiouy]+", spoken)))
