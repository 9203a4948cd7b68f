"""Sensitivity dropout: what is measured, what is dropped, and that a resumed run drops the same."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from residency.errors import ResidencyError
from residency.train.eigenscore import (
    ALPHA,
    efficient_eigenscore,
    eigenscore,
    sentence_embedding,
)
from residency.train.settings.text import SensitivitySettings
from tests.train.test_guard import Cases

if TYPE_CHECKING:
    from tests.train.conftest import World

SEND = {"every": 2, "looks": 2, "texts": 3, "samples": 3, "new_tokens": 4, "share": 0.25}
CPT = {"tokens": 2600, "save_every": 3}


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_sentence_embedding_is_half_the_mean_and_half_the_last_token() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [8.0]], [[1.0], [3.0], [8.0]]])
    mask = torch.tensor([[True, True, True], [False, True, False]])
    assert sentence_embedding(hidden, mask).tolist() == [[(4 + 8) / 2], [3.0]]


@pytest.mark.parametrize("replies", [2, 5, 10, 20])
@pytest.mark.parametrize("rank", [1, 2, 32])
def test_efficient_eigenscore_equals_the_exact_one_for_few_replies(replies: int, rank: int) -> None:
    embeddings = random(replies, rank) @ random(rank, 32)
    assert efficient_eigenscore(embeddings) == pytest.approx(eigenscore(embeddings), abs=3e-3)


def test_efficient_eigenscore_of_many_replies_is_an_estimate() -> None:
    embeddings = random(200, 32)
    assert efficient_eigenscore(embeddings) == pytest.approx(eigenscore(embeddings), rel=0.02)


def test_eigenscore_rises_with_disagreement() -> None:
    one = random(1, 32).expand(8, 32)
    scores = [eigenscore(one + spread * random(8, 32)) for spread in (0.0, 0.1, 1.0)]
    assert scores == sorted(scores)
    # of equal replies one eigenvalue is the trace, the others are 0
    assert scores[0] == pytest.approx((math.log(31 / 32 + ALPHA) + 7 * math.log(ALPHA)) / 8, abs=1e-3)


def test_variability_is_variance_times_net_change() -> None:
    from residency.train.sensitivity import variability

    looks = torch.tensor([[[0.0, 5.0]], [[1.0, 5.0]], [[3.0, 5.0]]])  # [looks, texts, width]
    assert variability(looks).tolist() == [1.0 * 3.0, 0.0]


def test_dimensions_are_0_behind_the_last_layer_but_one_in_training_only() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from residency.train.sensitivity import Sensitivity, penultimate

    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    assert penultimate(model) is model.model.layers[1]
    sensitivity = Sensitivity.__new__(Sensitivity)
    sensitivity.embeddings, sensitivity._hidden, sensitivity._keep = [torch.zeros(1, 8)], None, None
    sensitivity.attach(model)
    sensitivity._drop([2, 5])
    seen: list[torch.Tensor] = []
    model.model.layers[2].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    for mode in (True, False):
        model.train(mode)
        model(torch.tensor([[1, 2, 3]]))
    zero = [(hidden == 0).all(dim=(0, 1)).nonzero().flatten().tolist() for hidden in seen]
    assert zero == [[2, 5], []]


def test_a_stage_too_short_to_drop_anything_is_refused(tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from residency.train.sensitivity import Sensitivity

    sensitivity = Sensitivity.__new__(Sensitivity)
    sensitivity.settings = SensitivitySettings(every=10, looks=3)
    sensitivity.watch = SimpleNamespace(stage=SimpleNamespace(name="cpt"))  # type: ignore[assignment]
    with pytest.raises(ResidencyError, match="dropped before step 30, and there are 30"):
        sensitivity.on_train_begin(
            TrainingArguments(output_dir=str(tmp_path)), TrainerState(max_steps=30), TrainerControl()
        )


@pytest.mark.slow
def test_a_resumed_run_drops_the_same_and_measuring_changes_nothing(made: World, tmp_path: Path) -> None:
    """With ZeRO-3; the resumed run fails at step 8 and goes on from the checkpoint of step 6."""
    cases = Cases(made, tmp_path)
    stages: dict[str, Any] = {
        "plain": {},
        "measured": {"sensitivity_dropout": SEND | {"share": 0.0}},
        "dropped": {"sensitivity_dropout": SEND},
        "resumed": {"sensitivity_dropout": SEND},
    }
    for name, own in stages.items():
        faults = ["nan:8", "none"] if name == "resumed" else ["none"]
        cases.add(name, faults, {}, stage=CPT | own, zero=3)
    cases.run()
    measured = {name: cases.measured(name) for name in stages}
    weights = {name: found["weights_sha256"] for name, found in measured.items()}
    assert measured["resumed"]["resumed_from_step"] == 6
    assert weights["plain"] == weights["measured"] != weights["dropped"] == weights["resumed"]
    trace = measured["dropped"]["eigenscore"]
    assert trace == measured["resumed"]["eigenscore"]
    steps = [entry["step"] for entry in trace]
    assert steps[:7] == [0, 2, 3, 4, 6, 8, 9], "every look and every checkpoint"
    assert [entry["dropped"] for entry in trace][:4] == [0, 0, 0, 8]
    assert {entry["dropped"] for entry in measured["measured"]["eigenscore"]} == {0}
    told = [(event["step"], event["value"]) for event in cases.events("dropped", "eigenscore")]
    assert told == [(entry["step"], entry["value"]) for entry in trace]
    assert all(math.log(ALPHA) <= value < 0 for _, value in told)
