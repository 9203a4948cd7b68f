"""Keeps the best documents of a corpus, up to a share of its words.

The stability-gap paper (arXiv:2406.14833) ranks by perplexity under a KenLM model of good text; `rounds: 0` does that.
Perplexity also counts how plain a text is, so simple prose of any subject passes for good. The ranking therefore begins
with the model's surprisal less that of the corpus' own word frequencies (Moore & Lewis 2010), and is refined: the words
of the kept and of the dropped documents are counted, every document is judged anew by the log-odds of its words between
the two, and so on until nothing changes. That is a naive Bayes classifier which learns from its own answers (Nigam et
al. 2000, "Text classification from labeled and unlabeled documents using EM"), with the hard assignment of
classification EM (Celeux & Govaert 1992) and the share to keep in place of the classes' frequencies.

Measured (`tests/bench/data_rank.py`): of a mix with a fifth of medical text, a textbook of microbiology as the good
text, perplexity alone filled the kept fifth with 81 % medical text, Moore & Lewis' difference against the mix itself
with 70 % (bigrams) to 82 % (words), and the refined ranking with 97 % of a possible 98 %. The method was chosen on
that mix, its start on mixes with PubMedQA and MedQA. On exam questions that neither was chosen on, 97 to 99 % or more,
where perplexity had 7 to 21 %.

It learns what it is shown: where the first ranking holds little of what is sought, it can end on other text altogether.
Doctors' dialogues, with a textbook as the good text, came out at 0 % (perplexity 10 to 35 %). Good text of the same
register is needed; look at what was dropped.

The counts are of words in 65,536 hashed buckets, as in DSIR (arXiv:2302.03169): two bytes a word on disk, of which one
part is in memory at a time."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import open_model, sums_of
from residency.data.curation.observed import Array, Observed
from residency.data.curation.words import UNSPACED, Ints
from residency.data.steps.settings import RankSettings
from residency.errors import Exit, ResidencyError

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]
BUCKETS = 1 << 16
# Among documents of 5 to 400 words perplexity alone kept ten points more medical documents with 20 than with 0, at
# no loss by words; with 50 and 100 it lost some.
SHRINKAGE_WORDS = 20
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
TOKEN = re.compile(rf"{UNSPACED}|(?:(?!{UNSPACED})\w)+|[^\w\s]")


class Rank:
    """The step, a `residency.data.curation.observed.GlobalStep`; see the module.

    Args:
        model: file of the model of the corpus `like` (`residency.data.curation.ngram_model`); None with a KenLM file.

    Raises:
        ResidencyError: no such KenLM file, or the package `kenlm` is not installed.
    """

    def __init__(self, settings: RankSettings, model: Path | None = None) -> None:
        assert (model is None) == (settings.like is None), settings
        self.settings, self.model = settings, model
        self.kenlm = KenlmModel(Path(settings.kenlm)) if settings.kenlm else None

    def observe(self, batch: Batch) -> dict[str, Array]:
        """`surprisal` `[rows]` in nats a word, `words` `[rows]`, and `buckets` `[words]` of all words, end to end."""
        model = self.kenlm or open_model(self.model)
        told: dict[str, Array] = {"surprisal": model.score(batch), "words": batch.words.counts}
        if self.settings.rounds:
            told["buckets"] = (batch.words.hashes >> np.uint64(48)).astype(np.uint16)
        return told

    def decide(self, observed: Observed) -> Kept:
        """`[documents]` whether each one stays."""
        if not len(observed):
            return np.zeros(0, dtype=bool)
        words, scores = observed["words"], observed["surprisal"]
        if self.settings.rounds:
            scores = scores - _word_surprisal(observed, words)
        kept = self._best(shrunk(scores, words), words)
        for _ in range(self.settings.rounds):
            if kept.all():
                break
            again = self._best(-_log_odds(observed, kept, words), words)
            if np.array_equal(kept, again):
                break
            kept = again
        return kept

    def apply(self, batch: Batch, decision: Kept) -> list[str | None]:
        """`rank` for what is not among the best."""
        return [None if stays else "rank" for stays in decision[batch.numbers].tolist()]

    def _best(self, scores: Floats, words: Ints) -> Kept:
        """The documents with the lowest scores until the words suffice; of equal ones the first."""
        total = int(words.sum())
        wanted = self.settings.keep_words or (self.settings.keep or 0) * total
        if wanted >= total:
            return np.ones(len(words), dtype=bool)
        order = np.argsort(scores, kind="stable")
        kept = np.zeros(len(words), dtype=bool)
        kept[order] = np.cumsum(words[order]) - words[order] < wanted
        return kept


def shrunk(surprisal: Floats, words: Ints) -> Floats:
    """Mean surprisals drawn to that of the corpus as if each document had `SHRINKAGE_WORDS` more words of its mean.

    Few words say little: without it the lowest and the highest perplexities are those of the shortest documents.
    """
    mean = float((surprisal * words).sum() / max(int(words.sum()), 1))
    return np.asarray((surprisal * words + SHRINKAGE_WORDS * mean) / (words + SHRINKAGE_WORDS))


def _log_odds(observed: Observed, kept: Kept, words: Ints) -> Floats:
    """`[documents]` mean log-odds in nats a word of being kept, by the words of those that are and are not."""
    counts = np.zeros((2, BUCKETS))
    for buckets, here in _parts(observed):
        of_kept = np.repeat(kept[here], words[here])
        counts[1] += np.bincount(buckets[of_kept], minlength=BUCKETS)
        counts[0] += np.bincount(buckets[~of_kept], minlength=BUCKETS)
    # Each bucket is seen once more, in the shares of all words: what is seen nowhere speaks for neither side. (With
    # one more on each side, as Laplace has it, rare words would speak for the smaller one and lead it astray.)
    shares = counts.sum(axis=1, keepdims=True) / counts.sum()
    odds = np.subtract(*np.log((counts + shares) / shares)[::-1])
    return _means(observed, odds, words)


def _word_surprisal(observed: Observed, words: Ints) -> Floats:
    """`[documents]` mean surprisal in nats a word by how frequent each word is in the corpus itself."""
    counts = np.zeros(BUCKETS)
    for buckets, _ in _parts(observed):
        counts += np.bincount(buckets, minlength=BUCKETS)
    return _means(observed, np.log(max(counts.sum(), 1)) - np.log(np.maximum(counts, 1)), words)


def _means(observed: Observed, values: Floats, words: Ints) -> Floats:
    """`[documents]` mean over its words of a value by bucket; 0 for a document without words."""
    means = np.empty(len(words))
    for buckets, here in _parts(observed):
        offsets = np.concatenate([[0], np.cumsum(words[here])])
        means[here] = sums_of(values[buckets], offsets) / np.maximum(words[here], 1)
    return means


def _parts(observed: Observed) -> Iterator[tuple[NDArray[np.uint16], slice]]:
    """Of each part the buckets of its words, and which documents it holds."""
    for directory, (first, end) in zip(observed.directories, pairwise(observed.starts.tolist()), strict=True):
        yield np.load(directory / "buckets.npy"), slice(first, end)


class KenlmModel:
    """A KenLM file (https://kheafield.com/code/kenlm) as a language model.

    A text is cut into sentences at line ends and behind `.`, `!` and `?`, a sentence into words and signs; characters
    of scripts without spaces are words. How the file's own corpus was prepared cannot be asked, so its vocabulary
    tells: a word is scored as it stands where the file knows it so, else in lower case; signs are scored where the
    file knows the full stop, else left out.

    Raises:
        ResidencyError: no such file, no model in it, or the package `kenlm` is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ResidencyError(f"kenlm = {path}: no such file")
        if importlib.util.find_spec("kenlm") is None:
            raise ResidencyError(
                f"kenlm = {path}: the package kenlm is not installed",
                cure="pip install kenlm, or give like (a corpus) instead",
                code=Exit.ENVIRONMENT,
            )

    def score(self, batch: Batch) -> Floats:
        """`[rows]` mean negative log-likelihood in nats a word, sentence ends counted; 0 for a row without words."""
        return np.array([self._score(text) for text in batch.texts])

    def _score(self, text: str) -> float:
        sentences = [tokens for sentence in SENTENCE_END.split(text) if (tokens := self._tokens(sentence))]
        if not sentences:
            return 0.0
        nats: float = -math.log(10) * sum(self._model.score(" ".join(tokens)) for tokens in sentences)
        return nats / sum(len(tokens) + 1 for tokens in sentences)

    def _tokens(self, sentence: str) -> list[str]:
        tokens = [token for token in TOKEN.findall(sentence) if self._signs or token[0].isalnum()]
        return [token if token in self._model else token.lower() for token in tokens]

    @cached_property
    def _signs(self) -> bool:
        return "." in self._model

    @cached_property
    def _model(self) -> Any:
        import kenlm

        quiet = kenlm.Config()
        quiet.show_progress, quiet.arpa_complain = False, kenlm.ARPALoadComplain.NONE
        try:
            return kenlm.Model(str(self.path), quiet)
        except OSError as error:
            raise ResidencyError(f"kenlm = {self.path}: {str(error).strip().splitlines()[-1]}") from error

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}  # each process opens the file itself
