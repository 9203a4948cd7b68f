from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from residency.train.saving import note_ends


@pytest.mark.parametrize(
    ("written", "config", "ends"),
    [
        ({"eos_token_id": 2, "top_p": 0.9}, {}, [2, 7]),
        ({"eos_token_id": [2, 7]}, {}, [2, 7]),
        (None, {"eos_token_id": 3}, [3, 7]),
        ({"top_p": 0.9}, {}, [7]),
    ],
)
def test_the_learnt_stop_token_ends_generation(
    tmp_path: Path, written: dict[str, Any] | None, config: dict[str, Any], ends: list[int]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = tmp_path / "generation_config.json"
    if written is not None:
        path.write_text(json.dumps(written))
    note_ends(tmp_path, [7])
    assert json.loads(path.read_text()) == (written or {}) | {"eos_token_id": ends}


def test_an_adapter_has_no_generation_settings_of_its_own(tmp_path: Path) -> None:
    note_ends(tmp_path, [7])
    assert not list(tmp_path.iterdir())
