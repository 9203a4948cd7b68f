"""The training benchmark runs at a minimal size, and its arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from tests.bench import table
from tests.bench.figures import Result, flops_per_token, subject_figures
from tests.bench.turns import Timing

SMALL = "--layers 1 --width 32 --vocabulary 600 --max-length 128 --rows 2 --steps 1 --pairs 1"


def test_flops_count_the_head_once_and_no_embedding() -> None:
    config = LlamaConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    weights = 2 * (4 * 8 * 8 + 3 * 8 * 16) + 100 * 8
    own, common = flops_per_token(LlamaForCausalLM(config), np.array([3, 1]), 10)
    assert own == 6 * weights + 6 * 2 * 8 * (9 + 1) / 4
    assert common == 6 * weights + 12 * 2 * 8 * 10


def test_ratios_are_those_of_the_medians() -> None:
    model = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                                         num_attention_heads=1))  # fmt: skip

    def result(seconds: list[float], kept: float) -> Result:
        return Result([Timing(second, 10, 20, 0) for second in seconds], kept, np.array([4]), 1.0, model)

    results = {
        "ours": result([1.0, 1.0, 9.0], 1.0),
        "trl_packed": result([2.0, 1.0, 2.0], 0.5),
        "trl_padded": result([4.0, 4.0, 4.0], 0.5),
    }
    figures = {figure.name: figure for figure in subject_figures("cpt", results, 1e9, 8)}
    assert figures["cpt_step_token_ratio_to_trl_packed"].value == pytest.approx(2)
    assert figures["cpt_corpus_token_ratio_to_trl_packed"].value == pytest.approx(4)
    assert figures["cpt_step_token_ratio_to_trl_padded"].value == pytest.approx(4)
    assert str(figures["cpt_step_token_ratio_to_trl_packed"]).endswith(" 2 goal >=0.97")


def test_the_script_measures_prints_and_records(repository: Path, tmp_path: Path) -> None:
    record, page = tmp_path / "benchmarks.jsonl", tmp_path / "benchmarks.md"
    command = [sys.executable, "tests/bench/train.py", *SMALL.split(), "--record", str(record)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = [line.split() for line in done.stdout.splitlines() if line.startswith("figure ")]
    line = json.loads(record.read_text())
    assert [words[1] for words in printed] == [figure["name"] for figure in line["figures"]]
    values = {figure["name"]: figure["value"] for figure in line["figures"]}
    assert values["cpt_ours_corpus_kept"] == values["sft_ours_corpus_kept"] == 1
    assert 0 < values["cpt_trl_packed_corpus_kept"] < 1
    assert values["cpt_ours_loss"] == pytest.approx(values["cpt_trl_packed_loss"], abs=0.5)
    table.main(record, page)
    assert "| cpt_step_token_ratio_to_trl_packed |" in page.read_text()
