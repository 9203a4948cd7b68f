from __future__ import annotations

from pathlib import Path

import pytest

from residency.data.curation.batch import Batch
from residency.data.curation.ngram_model import train_model
from residency.data.steps.difficulty import Difficulty
from residency.data.steps.settings import DifficultySettings
from residency.errors import ResidencyError

PLAIN = [
    {"id": str(number), "text": "the liver makes bile and the heart pumps blood"} for number in range(50)
]
ROWS = [
    {"id": "hard", "text": "hepatocytes conjugate bilirubin with glucuronic acid"},
    {"id": "easy", "text": "the heart pumps blood and the liver makes bile"},
]


def test_hard_is_what_surprises_a_model_of_plain_text(tmp_path: Path) -> None:
    train_model(PLAIN).save(tmp_path / "model.npz")
    batch = Batch(ROWS)
    assert Difficulty(DifficultySettings(like="plain"), tmp_path / "model.npz")(batch) == [None, None]
    hard, easy = (row["difficulty"] for row in batch.rows)
    assert hard > easy + 1


def test_a_function_may_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_judge.py").write_text(
        "length = len\\ndef none(text):\\n    return None\\n".replace("\\n", chr(10))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    batch = Batch(ROWS)
    Difficulty(DifficultySettings(call="my_judge:length"))(batch)
    assert [row["difficulty"] for row in batch.rows] == [len(row["text"]) for row in ROWS]
    with pytest.raises(ResidencyError, match=r"my_judge:none: returned no number for row hard"):
        Difficulty(DifficultySettings(call="my_judge:none"))(Batch(ROWS))
