"""Tests of telling languages apart."""

from __future__ import annotations

import pickle

import pytest

from residency.data.curation.batch import Batch
from residency.data.steps.language import Language, detect, known_languages
from residency.data.steps.settings import LanguageSettings
from residency.errors import ResidencyError

TEXTS = {
    "en": "Hypertension is a long-lasting disease in which the pressure in the arteries is too high.",
    "fr": "L'hypertension est une maladie chronique dans laquelle la pression des artères est trop élevée.",
    "es": "La hipertensión es una enfermedad crónica en la que la presión de las arterias es demasiado alta.",
    "it": "L'ipertensione è una malattia cronica in cui la pressione nelle arterie è troppo elevata.",
    "zh": "高血压是一种慢性疾病，患者的动脉血压长期高于正常水平。",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_tells_languages(language: str, text: str) -> None:
    assert detect(text)[0] == language


def test_keeps_and_notes_the_language() -> None:
    batch = Batch([{"id": language, "text": text} for language, text in TEXTS.items()])
    step = pickle.loads(pickle.dumps(Language(LanguageSettings(keep=["en", "zh"]))))
    assert step(batch) == [None, "language_fr", "language_es", "language_it", None]
    assert [row["language"] for row in batch.rows] == list(TEXTS)


def test_low_scores_are_unsure() -> None:
    batch = Batch([{"id": "1", "text": "ok"}])
    assert Language(LanguageSettings(keep=["en"], minimum_score=1.0))(batch) == ["language_unsure"]


def test_capitals_numbers_and_long_texts() -> None:
    assert detect(TEXTS["en"].upper())[0] == "en"
    assert detect("12 / 80") == ("unknown", 0.0)
    assert detect("120 80 7.4 " * 90 + "\n" + (TEXTS["fr"] + "\n") * 100)[0] == "fr"


def test_an_unknown_code_is_the_users_mistake() -> None:
    assert len(known_languages()) == 176
    with pytest.raises(ResidencyError, match=r"keep\[1\] = eng: .* nearest: en"):
        Language(LanguageSettings(keep=["fr", "eng"]))
