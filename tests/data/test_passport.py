"""Passports: what licences say, what is forbidden, and that nothing gets lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from residency.artifact import StageFile, read_manifest
from residency.data import pairs, passport
from residency.data.settings import CorpusSettings, PairsSettings


def entry(corpus: str, licence: str | None, **more: Any) -> passport.Entry:
    return passport.of_corpus(corpus, CorpusSettings(source="here", licence=licence, **more))


@pytest.mark.parametrize(
    ("licence", "consent"),
    [
        ("CC0-1.0", "open"), ("CC-BY-4.0", "open"), ("MIT", "open"), ("Apache-2.0", "open"), ("ODC-By-1.0", "open"),
        ("CC-BY-SA-3.0", "share-alike"), ("ODbL-1.0", "share-alike"), ("GPL-3.0-only", "share-alike"),
        ("CC-BY-NC-4.0", "non-commercial"), ("CC-BY-NC-SA-4.0", "non-commercial"),
        ("MIT AND CC-BY-NC-4.0", "non-commercial"), ("PhysioNet-Credentialed-1.5.0", "credentialed"),
        ("unknown", None), ("mixed", None), ("cc", None), (None, None),
    ],
)  # fmt: skip
def test_an_spdx_id_says_what_is_allowed(licence: str | None, consent: str | None) -> None:
    assert passport.consent_of(licence) == consent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "state the licence: an SPDX id such as CC-BY-4.0, or `unknown`"),
        ({"licence": " "}, "state the licence"),
        ({"licence": "mixed"}, "state what mixed allows: open, share-alike, non-commercial, credentialed"),
        ({"licence": "CC-BY-NC-4.0", "consent": "open"}, "CC-BY-NC-4.0 is non-commercial"),
        ({"licence": "MIT", "languages": ["English"]}, "languages"),
    ],
)
def test_a_source_states_its_licence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusSettings(source="notes.jsonl", **settings)


def test_a_source_may_be_stricter_than_its_licence_and_a_world_states_nothing() -> None:
    assert entry("notes", "MIT", consent="credentialed")["consent"] == "credentialed"
    made = passport.of_corpus("text", CorpusSettings(source="world:general"), 7)
    assert made == {
        "corpus": "text", "source": "world:general", "licence": "Apache-2.0", "consent": "open", "languages": ["en"],
        "phi": "none", "synthetic": "generated world", "documents": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made_of", "uses"),
    [
        (entry("a", "CC-BY-4.0"), ""),
        (entry("a", "CC-BY-NC-SA-4.0"), ""),
        (entry("a", "MIT", phi="scrubbed"), ""),
        (entry("a", "unknown"), "publish"),
        ({"corpus": "a", "source": "made before licences were asked for"}, "publish"),
        (entry("a", "MIT", phi="possible"), "publish judge text-logging"),
        (entry("a", "PhysioNet-Credentialed-1.5.0"), "publish judge text-logging"),
    ],
)
def test_what_is_forbidden(made_of: passport.Entry, uses: str) -> None:
    every: tuple[passport.Use, ...] = ("publish", "judge", "text-logging")
    mixture = [entry("fine", "CC0-1.0"), made_of]
    assert [use for use in every if passport.forbidden(mixture, use)] == uses.split()


def test_a_refusal_names_every_corpus_and_its_reason() -> None:
    made_of = [entry("a", "unknown"), entry("b", "unknown"), entry("c", "MIT", consent="credentialed")]
    assert passport.forbidden([*made_of, *made_of], "publish") == (
        "it is made of a, b, whose licence is unknown; c, whose consent is credentialed: it may not be published"
    )


@pytest.mark.parametrize(
    ("licences", "stated", "told"),
    [
        (["CC-BY-4.0", "MIT"], "Apache-2.0", None),
        (["CC-BY-4.0", "MIT"], None, None),
        (["CC-BY-SA-4.0"], "MIT", "must be passed on under it: MIT is another licence"),
        (["CC-BY-SA-3.0"], "CC-BY-SA-4.0", None),
        (["CC-BY-SA-4.0"], "CC-BY-SA-3.0", "CC-BY-SA-3.0 is another licence"),
        (["CC-BY-NC-4.0"], "CC-BY-4.0", r"c0 \(CC-BY-NC-4.0\) allows no commercial use: CC-BY-4.0 allows it"),
        (["CC-BY-NC-4.0"], "CC-BY-NC-SA-4.0", None),
        (["CC-BY-NC-SA-4.0", "CC-BY-4.0"], "CC-BY-NC-SA-4.0", None),
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], None, "allows no commercial use"),
        (["CC-BY-SA-4.0", "GPL-3.0-only"], None, "no licence is both"),
    ],
)  # fmt: skip
def test_licences_that_contradict(licences: list[str], stated: str | None, told: str | None) -> None:
    import re

    made_of = [entry(f"c{number}", licence) for number, licence in enumerate(licences)]
    found = passport.contradiction(made_of, stated)
    assert found is None if told is None else re.search(told, found or "")


@pytest.mark.parametrize(
    ("licences", "follows"),
    [
        (["MIT", "CC-BY-4.0"], None),
        (["MIT", "CC-BY-SA-3.0", "CC-BY-SA-4.0"], "CC-BY-SA-4.0"),
        (["CC-BY-NC-4.0", "MIT"], "CC-BY-NC-4.0"),
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], "CC-BY-NC-SA-4.0"),
    ],
)
def test_a_licence_follows_from_the_sources(licences: list[str], follows: str | None) -> None:
    assert passport.licence_of([entry("c", licence) for licence in licences]) == follows


def test_a_custom_non_commercial_source_makes_the_export_non_commercial() -> None:
    made_of = [entry("guidelines", "common-crawl", consent="non-commercial")]
    assert passport.licence_of(made_of) == "CC-BY-NC-4.0"
    assert passport.contradiction(made_of, None) is None
    assert passport.contradiction(made_of, "MIT")


def test_synthetic_text_inherits_the_strictest_terms() -> None:
    settings = CorpusSettings.model_validate({"source": "corpus:books", "synthesis": {"kind": "templates"}})
    books = entry("books", "CC-BY-4.0", phi="none", languages=["en"])
    notes = entry("notes", "CC-BY-NC-4.0", phi="possible", languages=["de"])
    made = passport.of_corpus("instructions", settings, made_from=[books, notes])
    assert made["licence"] == "CC-BY-4.0 AND CC-BY-NC-4.0" and made["consent"] == "non-commercial"
    assert made["languages"] == ["en", "de"] and made["phi"] == "possible"
    assert passport.forbidden([made], "judge") and passport.contradiction([made], "MIT")
    made = passport.of_corpus("instructions", settings, made_from=[books, entry("x", "unknown")])
    assert made["licence"] == "unknown" and made["phi"] is None


def test_pairs_carry_all_fields(attempt: Any, make_corpus: Any, base: Path) -> None:
    sides = {"prompt": "Which organ?", "chosen": "The liver.", "rejected": "The kidney."}
    corpus = make_corpus(
        "pairs", [sides], licence="CC-BY-SA-4.0", languages=["en"], phi="none", synthetic="by hand"
    )
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    settings = PairsSettings(max_length=64, chat_template=template).model_dump()
    made = pairs.run(attempt("preference-tokens", "pairs", settings, {"model": base, "corpus:pairs": corpus}))
    (kept,) = read_manifest(made).passport
    assert kept == {**read_manifest(corpus).passport[0], "share": 1.0}
    assert (kept["consent"], kept["languages"], kept["synthetic"]) == ("share-alike", ["en"], "by hand")


def test_a_model_adds_to_its_parents_passport(make_corpus: Any, tmp_path: Path) -> None:
    corpus = make_corpus("notes", [{"text": "one"}], licence="MIT")
    learnt = read_manifest(corpus).passport
    inside = {"name": "sft", "kind": "sft", "identity": "0", "settings": {}, "parents": {"model": corpus}}
    of_run = StageFile(**inside, run=corpus.parent)
    assert [made.get("stage") for made in passport.of_model(of_run, learnt)] == [None, "sft"]
    elsewhere = StageFile(**inside, run=tmp_path / "another")
    assert [made["stage"] for made in passport.of_model(elsewhere, learnt)] == ["base", "sft"]
    bare = StageFile(**{**inside, "parents": {"model": tmp_path}}, run=tmp_path)
    assert passport.of_parent(bare) == []
