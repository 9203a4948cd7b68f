"""Plain SGD on judged replies is the same on two ranks, under ZeRO-2 and ZeRO-3, as by hand in one process.

By hand every reply is read alone, without padding, and the loss is written out from the ranks and scores of a row. The
corpora have lists and replies of uneven length and a last step that is not full. All cases share a start of the ranks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from residency.artifact import StageFile, read_stage
from residency.data import replies
from residency.errors import ResidencyError
from residency.train import reward
from residency.train.adapters.prepare import prepare
from residency.train.reward_model.rows import NONE, JudgedRows

if TYPE_CHECKING:
    from tests.train.conftest import World

LEARNING_RATE, BATCH_SIZE, CENTRE, MARGIN = 0.2, 8, 0.1, 0.5
PLAIN = {
    "kind": "reward", "learning_rate": LEARNING_RATE, "schedule": "constant", "warmup": 0.0, "batch_size": BATCH_SIZE,
    "save_every": 999, "held_out": None,
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    "ranked": PLAIN | {"corpus": "ranked", "centre": CENTRE, "margin": MARGIN},
    "steps": PLAIN | {"corpus": "steps", "epochs": 1.5},
    "lora": PLAIN | {"corpus": "pairs", "lora": {"rank": 4, "targets": ["q_proj", "v_proj"], "finish": "keep"}},
}  # fmt: skip
CASES = [("ranked", 2, 2), ("ranked", 3, 1), ("steps", 3, 4), ("lora", 3, 2)]  # ZeRO, micro-batch


@pytest.fixture(scope="module")
def attempts(made: World, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """Trains all cases; each attempt has the weights and losses in `sgd`."""
    found = {}
    for name, zero, micro in CASES:
        stages = {f"reward-{name}": STAGES[name]}
        plan = made.plan(stages, zero=zero, processes=2, micro_batch_size=micro, clip=0.0)
        made.attempt(plan, f"reward-{name}")
        found[name, zero, micro] = directory = tmp_path_factory.mktemp("case")
        stage = plan.stage_file(plan.stages[f"reward-{name}"])
        (directory / "stage.json").write_text(stage.model_dump_json())
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        str(Path(__file__).with_name("sgd_worker.py")), *map(str, found.values()),
    ]  # fmt: skip
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]
    return found


def test_two_replies_are_not_weighed_where_there_are_steps(made: World, tmp_path: Path) -> None:
    stages = {"reward-steps": STAGES["steps"] | {"centre": CENTRE}}
    attempt = made.attempt(made.plan(stages, processes=1), "reward-steps")
    with pytest.raises(
        ResidencyError, match=r"stages\.reward-steps\.centre weighs the scores of two replies"
    ):
        reward.build(read_stage(attempt), attempt, 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_the_steps_are_those_of_the_reference(attempts: dict[Any, Path], case: Any) -> None:
    left = attempts[case] / "sgd"
    got, losses = load_file(next(left.glob("*.safetensors"))), json.loads((left / "losses.json").read_text())
    before, expected, expected_losses = by_hand(read_stage(attempts[case]))
    assert len(losses) > 1
    assert losses == pytest.approx(expected_losses, abs=1e-5)
    assert expected.keys() == got.keys()
    moved = max(_difference(before[key], expected[key]) for key in expected)
    worst = max(_difference(got[key], expected[key]) for key in expected)
    print(f"largest relative difference of a tensor: {worst:.1e} of a step of {moved:.1e}")
    assert moved > 1e-2, "the step is too small to show anything"
    assert worst <= 1e-5


def by_hand(stage: StageFile) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[float]]:
    """Weights before and after the stage's steps of SGD, and the losses."""
    model, _ = prepare(stage, Path(), scores=True)
    before, losses, settings = _weights(model), [], stage.settings
    data = replies.load(stage.parents["tokens"], "train")
    rows = JudgedRows(data, batch_size=BATCH_SIZE, epochs=settings["epochs"], seed=settings["seed"])
    assert NONE in rows.order, "the last step shall not be full"
    for first in range(0, len(rows), BATCH_SIZE):
        real = [data[int(place)] for place in rows.order[first : first + BATCH_SIZE] if place != NONE]
        loss = torch.stack([_loss(model, row) for row in real]).mean()
        torch.autograd.backward(loss)
        losses.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.grad is not None:
                    parameter -= LEARNING_RATE * parameter.grad
                    parameter.grad = None
    return before, _weights(model), losses


def _loss(model: Any, row: Any) -> torch.Tensor:
    if "ids" in row:
        scores = torch.stack([_score(model, row["ids"][: end + 1]) for end in row["ends"]])
        likely, values = scores.sigmoid(), torch.tensor(row["values"])
        return -(values * likely.log() + (1 - values) * (1 - likely).log()).mean()
    scores = torch.stack([_score(model, row["prompt_ids"] + ids) for ids in row["replies_ids"]])
    own, ranks = row["scores"], row["ranks"]
    margin, centre = (MARGIN, CENTRE) if own else (0.0, 0.0)
    terms = [
        -torch.sigmoid(scores[i] - scores[j] - margin * (own[i] - own[j] if own else 0.0)).log()
        + centre * (scores[i] + scores[j]) ** 2
        for i in range(len(ranks))
        for j in range(len(ranks))
        if ranks[i] < ranks[j]
    ]
    return torch.stack(terms).mean()


def _score(model: Any, ids: list[int]) -> torch.Tensor:
    """By transformers' own forward pass, which scores the last token of a row read alone."""
    score: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, 0]
    return score


def _weights(model: Any) -> dict[str, torch.Tensor]:
    from peft import PeftModel, get_peft_model_state_dict

    state = (
        get_peft_model_state_dict(model) if isinstance(model, PeftModel) else dict(model.named_parameters())
    )
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / max(other.norm().item(), 1e-12))
