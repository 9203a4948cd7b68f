"""The domain step: scores by two models, what is dropped, several languages."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import NgramModel, train_model
from residency.data.steps.domain import Domain
from residency.data.steps.settings import DomainSettings

MEDICINE = [
    "The liver makes bile. The kidney filters blood. The patient has a fever and pain.",
    "Le foie produit la bile et le rein filtre le sang du patient.",
    "肝脏产生胆汁,肾脏过滤血液。病人发烧。",
]
LAW = [
    "The court heard the case. The judge wrote an opinion and the plaintiff has a claim.",
    "La cour a jugé l'affaire et le juge écrit un avis sur la demande.",
    "法院审理案件,法官写判决书。原告上诉。",
]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "like.npz", tmp_path / "unlike.npz"
    for path, texts in zip(paths, (MEDICINE, LAW), strict=True):
        train_model({"id": text[:3], "text": text} for text in texts).save(path)
    return paths


def batch(*texts: str) -> Batch:
    return Batch([{"id": str(number), "text": text} for number, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("medicine", "law"),
    [
        ("Blood in the liver.", "A judge in the court."),
        ("Le sang du foie", "Le juge de la cour"),
        ("肾脏和血液", "法官和原告"),
    ],
)
def test_keeps_what_sounds_like_the_domain(models: tuple[Path, Path], medicine: str, law: str) -> None:
    step, given = Domain(DomainSettings(like="medicine", unlike="law"), *models), batch(medicine, law)
    assert step(given) == [None, "not_domain"]
    assert given.rows[0]["domain_score"] > 0 > given.rows[1]["domain_score"]


def test_score_is_the_difference_of_the_cross_entropies(models: tuple[Path, Path]) -> None:
    given = batch("The patient heard the case of the liver")
    Domain(DomainSettings(like="medicine", unlike="law"), *models)(given)
    like, unlike = (NgramModel.load(path).score(given)[0] for path in models)
    assert given.rows[0]["domain_score"] == round(unlike - like, 3)


def test_minimum(models: tuple[Path, Path]) -> None:
    texts = "Blood in the liver.", "The patient heard the case."
    told = batch(*texts)
    Domain(DomainSettings(like="medicine", unlike="law"), *models)(told)
    between = (told.rows[0]["domain_score"] + told.rows[1]["domain_score"]) / 2
    step = Domain(DomainSettings(like="medicine", unlike="law", minimum=between), *models)
    assert step(batch(*texts)) == [None, "not_domain"]


def test_text_without_words_says_nothing(models: tuple[Path, Path]) -> None:
    given = batch("...")
    assert Domain(DomainSettings(like="medicine", unlike="law"), *models)(given) == [None]
    assert given.rows[0]["domain_score"] == 0


def test_travels_to_other_processes_without_its_models(models: tuple[Path, Path]) -> None:
    step = Domain(DomainSettings(like="medicine", unlike="law"), *models)
    step(batch("Blood"))
    sent = pickle.dumps(step)
    assert len(sent) < 2000
    assert pickle.loads(sent)(batch("Blood in the liver.")) == [None]
