"""One step of plain SGD is the same however a global batch is cut: ranks, ZeRO stages, micro-batches, accumulation.

The reference is written by hand in torch: every document alone, its tokens' losses summed, divided by the loss tokens
of the whole step. It knows nothing of packing, padding, trainers or DeepSpeed. The corpora give rows with unequal
numbers of loss tokens, and a last batch that is not full. Cases share a start of the ranks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import load_from_disk
from safetensors.torch import load_file

from residency.artifact import StageFile, read_stage
from residency.data.mixture.shards import IGNORED
from residency.train.adapters.prepare import prepare
from residency.train.packed import Rows

if TYPE_CHECKING:
    from tests.train.conftest import World

    Tensors = dict[str, torch.Tensor]
    Reference = tuple[Tensors, Tensors, list[float]]

LEARNING_RATE, BATCH_SIZE, BETA = 0.5, 8, 0.1
PLAIN = {
    "learning_rate": LEARNING_RATE, "schedule": "constant", "warmup": 0.0, "batch_size": BATCH_SIZE, "save_every": 999,
}  # fmt: skip
LORA = {"rank": 4, "targets": ["q_proj", "v_proj", "down_proj"], "finish": "keep"}
STAGES: dict[str, dict[str, Any]] = {
    "cpt": PLAIN | {"tokens": 1100},
    "sft": PLAIN | {"epochs": 1.0},
    "lora": PLAIN | {"kind": "sft", "epochs": 1.0, "lora": LORA},
    "preference": PLAIN | {"limit": BATCH_SIZE, "beta": BETA, "epochs": 2.0},
    "kto": PLAIN
    | {
        "kind": "preference",
        "corpus": "pairs",
        "loss": "kto",
        "limit": BATCH_SIZE // 2,
        "beta": BETA,
        "epochs": 2.0,
    },
    "orpo": PLAIN
    | {
        "kind": "preference",
        "corpus": "pairs",
        "loss": "orpo",
        "limit": BATCH_SIZE,
        "beta": BETA,
        "epochs": 2.0,
    },
}
LAYOUTS = [
    (1, 2, 8),
    (1, 2, 1),
    (2, 0, 4),
    (2, 0, 1),
    (2, 2, 4),
    (2, 2, 1),
    (2, 3, 4),
    (2, 3, 1),
]  # ranks, ZeRO, micro
QUICK = [("cpt", 2, 3, 1), ("lora", 2, 2, 1), ("preference", 2, 3, 2), ("kto", 2, 3, 2)]
WHOLE = ["cpt", "sft", "lora", "preference"]
CASES = [
    *QUICK,
    *((name, *layout) for name in WHOLE for layout in LAYOUTS if (name, *layout) not in QUICK),
    *(("kto", 1, 2, 8), ("kto", 2, 2, 1), ("orpo", 1, 2, 1), ("orpo", 2, 2, 2), ("orpo", 2, 3, 1)),
]
EMPTY = 1e-12


@pytest.fixture(scope="module")
def trained(made: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Trains the quick cases, or all others of a world size, at their first use; gives stage, weights, losses."""
    attempts: dict[tuple[str, int, int, int], Path] = {}

    def start(cases: list[Any]) -> None:
        made_now = {case: _attempt(made, tmp_path_factory.mktemp("case"), *case) for case in cases}
        attempts.update(made_now)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={cases[0][1]}",
            str(Path(__file__).with_name("sgd_worker.py")), *map(str, made_now.values()),
        ]  # fmt: skip
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]

    def weights(*case: Any) -> tuple[StageFile, Tensors, list[float]]:
        if case not in attempts:
            start(
                QUICK if case in QUICK else [one for one in CASES if one not in QUICK and one[1] == case[1]]
            )
        left = attempts[case] / "sgd"
        losses = json.loads((left / "losses.json").read_text())
        return read_stage(attempts[case]), load_file(next(left.glob("*.safetensors"))), losses

    return weights


@pytest.fixture(scope="module")
def references() -> dict[str, Any]:
    """Weights before and after, by the name of the stage: the layout does not change what is right."""
    return {}


def _attempt(made: World, directory: Path, name: str, ranks: int, zero: int, micro: int) -> Path:
    plan = made.plan(STAGES, zero=zero, processes=ranks, micro_batch_size=micro, clip=0.0)
    made.attempt(plan, name)
    stage = plan.stage_file(plan.stages[name])
    (directory / "stage.json").write_text(stage.model_dump_json())
    return directory


@pytest.mark.parametrize(
    ("name", "ranks", "zero", "micro"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_the_step_is_that_of_the_reference(
    trained: Any, references: dict[str, Any], name: str, ranks: int, zero: int, micro: int
) -> None:
    stage, got, losses = trained(name, ranks, zero, micro)
    if name not in references:
        references[name] = (by_hand_preference if stage.kind == "preference" else by_hand)(stage)
    before, expected, expected_losses = references[name]
    assert losses == pytest.approx(expected_losses, abs=1e-5)
    assert expected.keys() == got.keys()
    moved = max(_difference(before[key], expected[key]) for key in expected)
    worst = max(_difference(got[key], expected[key]) for key in expected)
    print(f"largest relative difference of a tensor: {worst:.1e} of a step of {moved:.1e}")
    assert moved > 1e-2, "the step is too small to show anything"
    assert worst <= (1e-5 if stage.kind == "preference" else 1e-6)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / max(other.norm().item(), EMPTY))


def by_hand(stage: StageFile) -> Reference:
    """The stage's steps of SGD on separate documents: weights before and after, and the losses."""
    model, _ = prepare(stage, Path())
    before, losses = _weights(model), []
    rows = Rows(stage.parents["tokens"], BATCH_SIZE)
    counts = [int((rows[index]["labels"] != IGNORED).sum()) for index in range(len(rows.rows))]
    assert len(rows.rows) % BATCH_SIZE, "the last batch shall not be full"
    assert len(set(counts)) > 1, "rows shall have unequal numbers of loss tokens"
    for first in range(0, len(rows), BATCH_SIZE):
        batch = [rows[index] for index in range(first, first + BATCH_SIZE)]
        tokens = sum(int((row["labels"] != IGNORED).sum()) for row in batch)
        total = 0.0
        for row in batch:
            for ids, labels in _documents(row):
                if (labels != IGNORED).any():
                    logits = model(input_ids=ids[None], use_cache=False).logits[0]
                    loss = torch.nn.functional.cross_entropy(
                        logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum"
                    )
                    torch.autograd.backward(loss / tokens)
                    total += loss.item()
        losses.append(total / tokens)
        _descend(model)
    return before, _weights(model), losses


def _documents(row: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    starts = [*(row["position_ids"] == 0).nonzero()[0].tolist(), len(row["position_ids"])]
    ids, labels = torch.from_numpy(row["input_ids"]), torch.from_numpy(row["labels"])
    return [(ids[start:end], labels[start:end]) for start, end in pairwise(starts)]


def by_hand_preference(stage: StageFile) -> Reference:
    """Two steps of SGD on one batch, every reply computed alone."""
    model, _ = prepare(stage, Path())
    before, losses = _weights(model), []
    rows = list(load_from_disk(str(stage.parents["tokens"] / "pairs")))
    assert len(rows) == BATCH_SIZE
    objective = {"dpo": _dpo, "kto": _kto, "orpo": _orpo}[stage.settings["loss"]]
    with torch.no_grad():
        reference = [_sums(model, row) for row in rows]
    for _ in range(2):
        loss = objective(model, rows, reference)
        torch.autograd.backward(loss)
        losses.append(loss.item())
        _descend(model)
    return before, _weights(model), losses


def _dpo(model: Any, rows: Any, reference: Any) -> torch.Tensor:
    """The mean of -log sigmoid(beta margin), equation 7 of arXiv 2305.18290."""
    margins = [
        (now[0] - now[1]) - (then[0] - then[1])
        for now, then in zip((_sums(model, row) for row in rows), reference, strict=True)
    ]
    return -torch.nn.functional.logsigmoid(BETA * torch.stack(margins)).mean()


def _kto(model: Any, rows: Any, reference: Any) -> torch.Tensor:
    """Mean of 1 - sigmoid(+-beta (ratio - divergence)), arXiv 2402.01306; rows are a good and a bad reply in turn."""
    with (
        torch.no_grad()
    ):  # a reply to another prompt: the row before, or two before where that has the same prompt
        others = [
            row | {"reply_ids": rows[number - 1 - number % 2]["reply_ids"]} for number, row in enumerate(rows)
        ]
        if not hasattr(_kto, "start"):
            _kto.start = [_sums(model, row)[0] for row in others]  # type: ignore[attr-defined]
        moved = [
            _sums(model, row)[0] - then
            for row, then in zip(others, _kto.start, strict=True)  # type: ignore[attr-defined]
        ]
        divergence = torch.stack(moved).mean().clamp(min=0)
    losses = []
    for row, then in zip(rows, reference, strict=True):
        over = _sums(model, row)[0] - then[0] - divergence
        losses.append(1 - torch.sigmoid(BETA * (over if row["label"] else -over)))
    return torch.stack(losses).mean()


def _orpo(model: Any, rows: Any, reference: Any) -> torch.Tensor:
    """Likelihood of prompt and chosen reply by token, and the odds ratio term, arXiv 2403.07691."""
    whole, tokens, terms = torch.zeros(()), 0, []
    for row in rows:
        sums, sizes = _sums(model, row), [len(row["chosen_ids"]), len(row["rejected_ids"])]
        odds = [torch.log(p / (1 - p)) for p in (torch.exp(s / n) for s, n in zip(sums, sizes, strict=True))]
        terms.append(-BETA * torch.nn.functional.logsigmoid(odds[0] - odds[1]))
        ids = row["prompt_ids"] + row["chosen_ids"]
        whole, tokens = whole - _log_probability(model, ids[:1], ids[1:]), tokens + len(ids) - 1
    return whole / tokens + torch.stack(terms).mean()


def _sums(model: Any, row: Any) -> list[torch.Tensor]:
    """Log-probability of each reply of a row."""
    columns = [name for name in ("chosen_ids", "rejected_ids", "reply_ids") if name in row]
    return [_log_probability(model, row["prompt_ids"], row[name]) for name in columns]


def _log_probability(model: Any, prompt: list[int], reply: list[int]) -> torch.Tensor:
    whole = torch.tensor(prompt + reply)
    logits = model(input_ids=whole[None], use_cache=False).logits[0]
    each: torch.Tensor = logits[:-1].log_softmax(-1).gather(1, whole[1:, None])[:, 0]
    return each[len(prompt) - 1 :].sum()


def _descend(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter -= LEARNING_RATE * parameter.grad
                parameter.grad = None


def _weights(model: Any) -> Tensors:
    """The trained tensors under the names of the saved file."""
    from peft import PeftModel, get_peft_model_state_dict

    state = (
        get_peft_model_state_dict(model) if isinstance(model, PeftModel) else dict(model.named_parameters())
    )
    return {name: tensor.detach().clone() for name, tensor in state.items()}
