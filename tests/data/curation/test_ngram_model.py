"""The n-gram model: probabilities by hand and by a plain dictionary, tables that fill up, files."""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import DISCOUNT, OPEN_VOCABULARY, NgramModel, train_model
from residency.data.curation.words import hash_words
from residency.errors import ResidencyError

TEXTS = [
    "the liver makes bile and the liver stores sugar",
    "the kidney filters blood and the heart pumps blood",
    "",
    "bile",
]


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"id": str(number), "text": text} for number, text in enumerate(texts)]


def by_dictionary(texts: list[str], scored: str) -> list[float]:
    """The same model as written in a textbook."""
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for text in texts:
        said = text.split()
        words.update(said)
        pairs.update(zip(["<s>", *said], said, strict=False))
    total = sum(words.values())
    found, before = [], "<s>"
    for word in scored.split():
        alone = (max(words[word] - DISCOUNT, 0) + DISCOUNT * len(words) / OPEN_VOCABULARY) / total
        followers = [count for (first, _), count in pairs.items() if first == before]
        left = DISCOUNT * len(followers) * alone
        both = (max(pairs[before, word] - DISCOUNT, 0) + left) / sum(followers) if followers else alone
        found.append(-log(both))
        before = word
    return found


def test_surprisal_is_that_of_the_textbook() -> None:
    scored = "the liver filters bile unknown words and the heart"
    surprisal = train_model(rows(*TEXTS)).surprisal(hash_words([scored]))
    assert surprisal == pytest.approx(by_dictionary(TEXTS, scored), rel=1e-5)


@pytest.mark.parametrize("before", ["the", "bile", "unknown"])
def test_probabilities_sum_to_one(before: str) -> None:
    model = train_model(rows(*TEXTS))
    types = sorted({word for text in TEXTS for word in text.split()})
    scored = hash_words([f"{before} {word}" for word in [*types, "neverseen"]])
    after = np.exp(-model.surprisal(scored).astype(np.float64))[1::2]
    assert after[:-1].sum() + (OPEN_VOCABULARY - len(types)) * after[-1] == pytest.approx(1, rel=1e-4)


def test_score_is_the_mean_of_each_document() -> None:
    model, batch = train_model(rows(*TEXTS)), Batch(rows("the liver", "", "blood"))
    surprisal = model.surprisal(batch.words)
    assert model.score(batch) == pytest.approx([surprisal[:2].mean(), 0, surprisal[2]])


def test_batches_do_not_matter() -> None:
    whole, pieces = train_model(rows(*TEXTS)), NgramModel()
    for text in TEXTS:
        pieces.add(hash_words([text]))
    batch = Batch(rows("the liver filters blood", "the heart and the sugar"))
    assert np.array_equal(whole.score(batch), pieces.score(batch))


def test_full_tables_forget_and_stay_sound() -> None:
    model = NgramModel(word_slots=16, pair_slots=16)
    generator = np.random.default_rng(0)
    for _ in range(5):
        model.add(hash_words([" ".join(f"w{number}" for number in generator.integers(0, 200, 500))]))
    assert model.words.counts[-1] == model.pairs.counts[-1] == model.followed[-1] == model.followers[-1] == 0
    assert np.count_nonzero(model.words.counts) <= 16
    assert model.followed.sum() <= model.pairs.counts.sum()
    surprisal = model.surprisal(hash_words([" ".join(f"w{number}" for number in range(200))]))
    assert np.isfinite(surprisal).all() and (surprisal > 0).all()


@pytest.mark.parametrize(
    ("like", "near", "far"),
    [
        (
            "Le foie produit la bile. Le rein filtre le sang.",
            "Le sang, le foie : élevé",
            "La cour a jugé l'affaire",
        ),
        ("肝脏产生胆汁。肾脏过滤血液。", "肾脏和肝脏", "法院审理案件"),
        ("Печень вырабатывает желчь. Почки фильтруют кровь.", "почки и печень", "суд рассмотрел дело"),
    ],
)
def test_other_languages(like: str, near: str, far: str) -> None:
    scores = train_model(rows(like)).score(Batch(rows(near, far)))
    assert scores[0] < scores[1]


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, batch = train_model(rows(*TEXTS)), Batch(rows("the liver filters blood", "unknown words"))
    model.save(tmp_path / "one.npz")
    train_model(rows(*TEXTS)).save(tmp_path / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert np.array_equal(NgramModel.load(tmp_path / "one.npz").score(batch), model.score(batch))


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no model")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("absent.npz", "text.npz", "other.npz"):
        with pytest.raises(ResidencyError, match=rf"{name}: not an n-gram model"):
            NgramModel.load(tmp_path / name)


def test_reference_without_words() -> None:
    with pytest.raises(ResidencyError, match="no words"):
        train_model(rows("", "..."))
