from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.words import hash_words
from residency.data.steps.boilerplate import Boilerplate
from residency.data.steps.duplicates import Duplicates
from residency.data.steps.language import Language
from residency.data.steps.normalise import Normalise
from residency.data.steps.phi import Phi
from residency.data.steps.quality import Quality, c4, fineweb, gopher
from residency.data.steps.repetition import Repetition, repetition
from residency.data.steps.segmenting import segmenter
from residency.data.steps.settings import (
    BoilerplateSettings,
    DuplicatesSettings,
    LanguageSettings,
    NormaliseSettings,
    PhiSettings,
    QualitySettings,
    RepetitionSettings,
)
from residency.errors import ResidencyError
from tests.data.steps.languages import PAGES

PROSE = PAGES["en"]
ONE_LINE = PROSE.replace("\n", " ")


@pytest.mark.parametrize("language", PAGES)
def test_medical_prose_survives_every_step(language: str) -> None:
    batch = Batch([{"id": "page", "text": PAGES[language]}])
    before = hash_words(batch.texts).hashes.tolist()
    steps: list[Any] = [
        Normalise(NormaliseSettings()),
        Language(LanguageSettings(keep=list(PAGES))),
        Boilerplate(BoilerplateSettings()),
        Quality(QualitySettings(rules=["gopher", "fineweb", "c4"], language="auto")),
        Quality(QualitySettings(rules=["gopher"], language=language)),
        Repetition(RepetitionSettings()),
        Phi(PhiSettings()),
    ]
    for step in steps:
        assert step(batch) == [None], type(step).__name__
    assert batch.rows[0]["language"] == language
    assert hash_words(batch.texts).hashes.tolist() == before
    assert Duplicates(DuplicatesSettings()).observe(batch)["signature"].shape == (1, 112)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short.", "gopher_short_doc"),
        ("", "gopher_short_doc"),
        ("a b " * 100, "gopher_below_avg_threshold"),
        ("hyperparathyroidism pseudohypoparathyroidism " * 40, "gopher_above_avg_threshold"),
        (PROSE + " #" * 40, "gopher_too_many_hashes"),
        (PROSE + " word..." * 40, "gopher_too_many_ellipsis"),
        ("\n".join(f"- {line}" for line in ONE_LINE.split(". ")), "gopher_too_many_bullets"),
        ("\n".join(f"{line}…" for line in PROSE.split(". ")[:9]), "gopher_too_many_end_ellipsis"),
        (PROSE + " 1,2 3,4" * 60, "gopher_below_alpha_threshold"),
        ("Iron tablets every second day before breakfast. " * 12, "gopher_enough_stop_words"),
        (PROSE, None),
    ],
)
def test_gopher_names_the_rule(text: str, reason: str | None) -> None:
    assert gopher(text, "en", 50) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n \n", "empty"),
        ("iron\n" * 20, "line_punct_ratio"),
        ("Iron.\n" * 2 + "Zinc.\n", "short_line_ratio"),
        (f"{PROSE}\n\n{PROSE}", "char_dup_ratio"),
        (PROSE.replace(". ", ".\n").replace(", ", ",\n") + "\n" * 80 + "End.", "list_ratio"),
        (PROSE, None),
    ],
)
def test_fineweb_names_the_rule(text: str, reason: str | None) -> None:
    assert fineweb(text, "en") == reason


def test_c4_removes_lines_and_names_the_rule() -> None:
    assert c4(f"Menu\n{PROSE}\nWe use cookies here.", "en") == (None, PROSE.replace("\n\n", "\n"))
    assert c4("One. Two. Three words here.", "en")[0] == "c4_too_few_sentences"
    assert c4("function() { return 1; } and more words.", "en")[0] == "c4_curly_bracket"
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": f"Menu\n{PROSE}"},
        {"id": "b", "messages": [{"role": "user", "content": f"Menu\n{PROSE}"}]},
    ]
    batch = Batch(rows)
    assert Quality(QualitySettings(rules=["c4"]))(batch) == [None, None]
    assert [text.startswith("Menu") for text in batch.texts] == [False, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\n\n".join(["One paragraph."] * 5), "dup_para_frac"),
        ("\n".join(["One line."] * 5), "dup_line_frac"),
        ("go there " * 50, "top_2_gram"),
        (PROSE, None),
    ],
)
def test_repetition_names_the_rule(text: str, reason: str | None) -> None:
    assert repetition(text, "en") == reason


def test_verdicts_are_datatroves(mirror: Path) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    with (mirror / "lavita/MedQuAD/train.jsonl").open() as file:
        texts = [json.loads(line)["answer"] for line in file][::60]
    sides: list[tuple[Any, Any]] = [
        (lambda text: gopher(text, "en", 50), GopherQualityFilter()),
        (lambda text: fineweb(text, "en"), FineWebQualityFilter()),
        (lambda text: repetition(text, "en"), GopherRepetitionFilter()),
    ]
    for ours, theirs in sides:
        said = [theirs.filter(Document(text=text, id="")) for text in texts]
        assert [ours(text) for text in texts] == [None if one is True else one[1] for one in said]


def test_words_are_spacys_however_they_are_asked_for() -> None:
    from datatrove.utils.text import split_into_words

    text = 'Don\'t e.g. "quote" (see U.S. 3.5mg/dl), p<0.05; www.x.org/a?b=1 :-) a\u00a0b…\n— 10µg'
    known = segmenter("en")
    for _ in range(2):
        found = [token for stretch in known.stretches(text) for token in stretch.tokens]
        assert found == split_into_words(text)
    assert not segmenter("zh").keys()
    assert sum(stretch.words for stretch in segmenter("zh").stretches("患者发烧 三天")) == 6
    assert not segmenter("zh").keys()


def test_a_language_that_does_not_exist() -> None:
    with pytest.raises(ResidencyError, match="step quality: no language 'english'"):
        Quality(QualitySettings(language="english"))


@pytest.mark.parametrize(
    "line",
    [
        "Home | About | Contact",
        "Home > Health > Anaemia",
        "Share this on Facebook",
        "Copyright © 2021 Some Publisher. All rights reserved.",
        "This site uses cookies.",
        "Privacy Policy | Terms of Use",
        "https://www.example.org/page",
        "Last updated: 3 March 2020",
        "Page 3 of 12",
        "12. Smith J, Jones K. Iron in adults. Lancet 2015; 385 (2): 1832-1843.",
        "[3] Smith J. Ferritin and inflammation. Blood 2019;133(1):40–50.",
    ],
)
def test_page_furniture_goes(line: str) -> None:
    step = Boilerplate(BoilerplateSettings())
    assert step.without(f"{PROSE}\n{line}\nIron is a metal.") == f"{PROSE}\nIron is a metal."


@pytest.mark.parametrize(
    "line",
    [
        "Home care begins when the fever has gone.",
        "glucose > lactate > pyruvate",
        "Share decisions with the patient and the family.",
        "Next, the ferritin is measured.",
        "The study of 2015 compared 1832-1843 patients.",
        "1. Take the tablets on an empty stomach.",
        "2. Since the guideline of 2015, adults get 10-20 mg daily.",
        "Patients who accept all cookies ate more.",
        "",
    ],
)
def test_prose_stays(line: str) -> None:
    text = f"{PROSE}\n{line}\nIron is a metal."
    assert Boilerplate(BoilerplateSettings()).without(text) == text


def test_patterns_of_ones_own_and_rows_of_nothing_else() -> None:
    step = Boilerplate(BoilerplateSettings(patterns=["Ref:.*"]))
    batch = Batch([{"id": "a", "text": "Ref: 12"}, {"id": "b", "text": "Iron.\nRef: 13"}])
    assert step(batch) == ["boilerplate", None]
    assert batch.texts[1] == "Iron."
    item = Batch([{"id": "q", "prompt": "Where?", "options": ["Home", "Hospital"]}])
    assert step(item) == [None]
    assert item.rows[0]["options"] == ["Home", "Hospital"]
    with pytest.raises(ResidencyError, match=r"step boilerplate: pattern '\(': "):
        Boilerplate(BoilerplateSettings(patterns=["("]))
