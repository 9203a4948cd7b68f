"""Does a document sound more like one corpus than like another?

How: the difference of the cross-entropies of two language models, in nats a word (Moore & Lewis 2010, "Intelligent
selection of language model training data"; with hashed n-grams and importance weights it is DSIR, arXiv:2302.03169).
The models are `residency.data.curation.ngram_model`'s bigrams, one for each corpus."""

from __future__ import annotations

from pathlib import Path

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import open_model
from residency.data.steps.settings import DomainSettings


class Domain:
    """The step; see the module.

    Args:
        like_model, unlike_model: files of the two models.
    """

    def __init__(self, settings: DomainSettings, like_model: Path, unlike_model: Path) -> None:
        self.settings = settings
        self.like_model, self.unlike_model = like_model, unlike_model

    def __call__(self, batch: Batch) -> list[str | None]:
        """Writes each row's `domain_score`, the mean log-odds in nats a word; `not_domain` below the minimum."""
        like, unlike = open_model(self.like_model), open_model(self.unlike_model)
        scores = (unlike.score(batch) - like.score(batch)).tolist()
        batch.rows = [
            {**row, "domain_score": round(score, 3)} for row, score in zip(batch.rows, scores, strict=True)
        ]
        return [None if score >= self.settings.minimum else "not_domain" for score in scores]
