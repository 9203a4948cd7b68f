from __future__ import annotations

from pathlib import Path

import pytest

from residency.data.curation.batch import Batch
from residency.data.steps.function import Function
from residency.data.steps.settings import FunctionSettings
from residency.errors import ResidencyError

FILTERS = """
def unsafe(text):
    return "unsafe_advice" if "double the dose" in text else None

def wrong(text):
    return True

def broken(text):
    return 1 / 0
"""
ROWS = [{"id": "a", "text": "Rest."}, {"id": "b", "text": "You may double the dose."}]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_filters.py").write_text(FILTERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_users_function_judges() -> None:
    assert Function(FunctionSettings(call="my_filters:unsafe"))(Batch(ROWS)) == [None, "unsafe_advice"]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("my_filters:absent", "call = my_filters:absent: .*no attribute"),
        ("nowhere:f", "call = nowhere:f: No module"),
        ("my_filters", "call = my_filters: "),
        ("my_filters:wrong", "returned a bool that is no reason for row a"),
        ("my_filters:broken", "ZeroDivisionError at row a"),
    ],
)
def test_what_is_wrong_with_it(call: str, complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        Function(FunctionSettings(call=call))(Batch(ROWS))
