"""Tests of repairing text."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from residency.data.curation.batch import Batch
from residency.data.steps.normalise import Normalise
from residency.data.steps.settings import NormaliseSettings

CLEAN = Normalise(NormaliseSettings())


@pytest.mark.parametrize(
    ("spoilt", "meant"),
    [
        ("naÃ¯ve cafÃ©", "naïve café"),
        ("p &lt; 0.05 and n < 3", "p < 0.05 and n < 3"),
        ("a\ud800b \ud83d\ude00", "ab \U0001f600"),
        ("h\x00e\x07llo\x0cnext page", "hello\nnext page"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("one  \n\n\n\n\ntwo\t\n", "one\n\n\ntwo"),
        ("hyper\u00adtension, a\u200bb, \ufeffc", "hypertension, ab, c"),
        ("\u202babc\u202c", "abc"),
        ("e\u0301", "é"),
    ],
)
def test_repairs(spoilt: str, meant: str) -> None:
    assert CLEAN.clean(spoilt) == meant
    assert CLEAN.clean(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "“Curly” quotes, a ﬁbre, 5 mm²",
        "血压，脉搏；ＭＲＩ（磁共振）",
        "می\u200cخواهم",
        "क्\u200dष",
        "שָׁלוֹם \u200f5 mg",
        "ภาษา\u200bไทย",
        "name\tdose\n  indented",
    ],
)
def test_leaves_alone(text: str) -> None:
    assert CLEAN.clean(text) == text


def test_nfkc_folds_what_nfc_keeps() -> None:
    assert Normalise(NormaliseSettings(form="NFKC")).clean("ﬁbre ＭＲＩ") == "fibre MRI"


def test_drops_what_is_empty() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "text": "\0 \n"},
        {"id": "2", "text": "Bile."},
        {
            "id": "3",
            "messages": [{"role": "user", "content": "\0"}, {"role": "assistant", "content": "Yes."}],
        },
    ]
    batch = Batch(rows)
    assert pickle.loads(pickle.dumps(CLEAN))(batch) == ["empty", None, "empty"]
    assert batch.texts[1] == "Bile."
