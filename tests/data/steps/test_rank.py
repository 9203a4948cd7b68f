"""The rank step: how much is kept, ties, short documents, what refinement mends, parts, KenLM files."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import train_model
from residency.data.curation.observed import GlobalStep, Observed, save
from residency.data.steps.rank import KenlmModel, Rank, shrunk
from residency.data.steps.settings import RankSettings
from residency.errors import Exit, ResidencyError

ARPA = """\\data\\
ngram 1=7
ngram 2=1

\\1-grams:
-3.0\t<unk>
-99\t<s>
-1.0\t</s>
-0.5\tthe
-1.5\tliver
-2.0\tLiver
-1.25\t.

\\2-grams:
-0.25\tthe liver

\\end\\
"""


def batch(*texts: str) -> Batch:
    return Batch([{"id": str(number), "text": text} for number, text in enumerate(texts)])


def rank(tmp_path: Path, like: str, **settings: Any) -> Rank:
    path = tmp_path / "model.npz"
    train_model([{"id": "1", "text": like}]).save(path)
    return Rank(RankSettings(like="reference", **settings), path)


def kept(tmp_path: Path, step: Rank, *parts: list[str]) -> list[int]:
    """Numbers of the documents that stay, by way of the files that the engine writes."""
    directories = [tmp_path / f"{number}.seen" for number in range(len(parts))]
    for directory, texts in zip(directories, parts, strict=True):
        save(directory, [step.observe(batch(text)) for text in texts])
    decision = step.decide(Observed(directories, [len(texts) for texts in parts]))
    everything = batch(*[text for texts in parts for text in texts])
    reasons = step.apply(everything, decision)
    assert {reason for reason in reasons if reason} <= {"rank"}
    return [number for number, reason in enumerate(reasons) if reason is None]


def test_is_a_global_step(tmp_path: Path) -> None:
    assert isinstance(rank(tmp_path, "bile", keep=0.5), GlobalStep)


def test_keeps_the_likeliest_up_to_the_share_of_words(tmp_path: Path) -> None:
    texts = ["stones and trees", "the liver makes bile", "houses on hills", "the liver makes gall"]
    step = rank(tmp_path, "the liver makes bile", keep=0.25, rounds=0)
    assert kept(tmp_path, step, texts) == [1]
    assert kept(tmp_path, rank(tmp_path, "the liver makes bile", keep=0.5, rounds=0), texts) == [1, 3]


def test_keeps_so_many_words(tmp_path: Path) -> None:
    texts = ["stones and trees", "the liver makes bile", "houses on hills", "the liver makes gall"]
    assert kept(tmp_path, rank(tmp_path, texts[1], keep_words=4, rounds=0), texts) == [1]
    assert kept(tmp_path, rank(tmp_path, texts[1], keep_words=5, rounds=0), texts) == [1, 3]
    assert kept(tmp_path, rank(tmp_path, texts[1], keep_words=10**6), texts) == [0, 1, 2, 3]


def test_the_first_of_equals_stay(tmp_path: Path) -> None:
    assert kept(tmp_path, rank(tmp_path, "bile", keep=0.5), ["bile acid"] * 4) == [0, 1]


def test_nothing_to_choose_from(tmp_path: Path) -> None:
    assert kept(tmp_path, rank(tmp_path, "bile", keep=1.0), ["bile", "stones", ""]) == [0, 1, 2]
    assert kept(tmp_path, rank(tmp_path, "bile", keep=0.5), ["", "..."]) == [0, 1]
    assert rank(tmp_path, "bile", keep=0.5).decide(Observed([], [])).tolist() == []


def test_parts_do_not_matter(tmp_path: Path) -> None:
    texts = ["stones and trees", "the liver makes bile", "", "houses on hills", "the liver makes gall"]
    step = rank(tmp_path, "the liver makes bile", keep=0.5)
    assert (
        kept(tmp_path, step, texts)
        == kept(tmp_path, step, texts[:2], texts[2:3], texts[3:])
        == kept(tmp_path, step, texts[:4], texts[4:])
    )


def test_short_documents_are_drawn_to_the_mean() -> None:
    scores = shrunk(np.array([2.0, 4.0, 10.0]), np.array([1, 100, 100]))
    mean = (2 + 400 + 1000) / 201
    assert scores[0] == pytest.approx((2 + 20 * mean) / 21)
    assert np.argsort(scores).tolist() == [1, 0, 2]


def test_refinement_finds_the_domain_where_perplexity_finds_plain_text(tmp_path: Path) -> None:
    """The reference shares function words with plain prose, and only a few of the domain's words with the domain."""
    generator = np.random.default_rng(0)
    plain = ["the", "of", "and", "to", "in", "is", "that", "it"]
    domain = [f"organ{number}" for number in range(40)]
    other = [f"thing{number}" for number in range(40)]

    def text(words: list[str], share: float) -> str:
        return " ".join(
            str(generator.choice(words if generator.random() < share else plain)) for _ in range(60)
        )

    good = [text(domain, 0.5) for _ in range(50)]
    bad = [text(other, 0.3 if number % 8 == 0 else 0.6) for number in range(200)]
    like = " ".join(text(domain[:8], 0.3) for _ in range(20))
    found = {
        rounds: kept(tmp_path, rank(tmp_path, like, keep=0.2, rounds=rounds), good + bad) for rounds in (0, 8)
    }
    assert sum(number < 50 for number in found[0]) <= 40, "perplexity takes plain text"
    assert found[8] == list(range(50))


def test_perplexity_alone_leaves_no_words_on_disk(tmp_path: Path) -> None:
    assert set(rank(tmp_path, "bile", keep=0.5, rounds=0).observe(batch("bile"))) == {"surprisal", "words"}
    told = rank(tmp_path, "bile", keep=0.5).observe(batch("bile acid", "", "胆汁"))
    assert told["words"].tolist() == [2, 0, 2] and len(told["buckets"]) == 4


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    pytest.importorskip("kenlm")
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA)
    return path


def test_kenlm_scores_sentences(arpa: Path) -> None:
    """Log10 by hand: `Liver .` as it stands, `THE` in lower case, a sentence end each, six tokens in all."""
    scores = KenlmModel(arpa).score(batch("Liver. THE liver", "", "gall"))
    first = (2.0 + 1.25 + 1.0) + (0.5 + 0.25 + 1.0)
    assert scores == pytest.approx(np.log(10) * np.array([first / 6, 0, (3.0 + 1.0) / 2]), rel=1e-6)


def test_kenlm_without_signs(arpa: Path) -> None:
    arpa.write_text(ARPA.replace("-1.25\t.\n", "").replace("1=7", "1=6"))
    scores = KenlmModel(arpa).score(batch("The, liver!\n\nthe"))
    assert scores == pytest.approx([np.log(10) * (0.5 + 0.25 + 1.0 + 0.5 + 1.0) / 5], rel=1e-6)


def test_ranks_by_kenlm(arpa: Path, tmp_path: Path) -> None:
    step = pickle.loads(pickle.dumps(Rank(RankSettings(kenlm=str(arpa), keep=0.5))))
    assert kept(tmp_path, step, ["stones and trees", "the liver the"]) == [1]


def test_faults_of_kenlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.arpa"
    with pytest.raises(ResidencyError, match=r"model\.arpa: no such file"):
        Rank(RankSettings(kenlm=str(path), keep=0.5))
    path.write_text("no model")
    if importlib.util.find_spec("kenlm"):
        with pytest.raises(ResidencyError, match="kenlm = "):
            KenlmModel(path).score(batch("bile"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResidencyError, match="pip install kenlm") as caught:
        Rank(RankSettings(kenlm=str(path), keep=0.5))
    assert caught.value.code == Exit.ENVIRONMENT
