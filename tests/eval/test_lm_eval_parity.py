"""The engine against lm-evaluation-harness' `hf` backend: the same model, tokenizer, prompts and continuations.

lm-eval's own task definitions build the prompts; both sides score them. 100 items of each exam are `slow`; all of them
with `RESIDENCY_PARITY_ITEMS=100000`, ten minutes and more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from residency.eval.items import piece
from residency.eval.likelihood.score import log_likelihoods
from residency.eval.likelihood.sharing import plan

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
pytest.importorskip("lm_eval")

from tests.bench import exams
from tests.bench.exams import SUBJECTS, Exam

NATS, SAME = 1e-4, 0.999


@pytest.fixture(scope="module")
def tokenizer(mirror: Path) -> Any:
    return exams.train_tokenizer(mirror)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=exams.VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=4096, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


EXAMS: dict[str, Callable[..., Exam]] = {
    **{f"{subject} 5 shots": partial(exams.mmlu, subject=subject, shots=5) for subject in SUBJECTS},
    **{f"{subject} text": partial(exams.mmlu, subject=subject, text=True) for subject in SUBJECTS[:2]},
    "anatomy": partial(exams.mmlu, subject="anatomy"),
    "medqa": exams.medqa,
    "medmcqa 5 shots": partial(exams.medmcqa, shots=5),
    "pubmedqa": exams.pubmedqa,
    "openbookqa": exams.openbook,
}
SOME = ("anatomy 5 shots", "anatomy text", "medqa", "medmcqa 5 shots", "pubmedqa", "openbookqa")
MANY = int(os.environ.get("RESIDENCY_PARITY_ITEMS", "40"))


@pytest.mark.parametrize(
    ("name", "limit"),
    [*((name, 20) for name in SOME), *(pytest.param(name, MANY, marks=pytest.mark.slow) for name in EXAMS)],
)
def test_every_item_has_lm_evals_log_likelihoods(
    mirror: Path, tmp_path: Path, model: Any, tokenizer: Any, name: str, limit: int
) -> None:
    from lm_eval.models.huggingface import HFLM

    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=4096)
    for task in exams.load_theirs([EXAMS[name](mirror, limit=limit)], tmp_path).values():
        task.build_all_requests()
        requests = task.instances
        theirs = backend.loglikelihood(requests, disable_tqdm=True)
        items: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            items.setdefault(request.doc_id, []).append(place)
        pieces = [
            [piece(tokenizer, *requests[at].args, bos=True) for at in places] for places in items.values()
        ]
        ours = log_likelihoods(model, pieces)
        apart, same = 0.0, 0
        for places, scored in zip(items.values(), ours, strict=True):
            known, found = [theirs[at][0] for at in places], [each.nats for each in scored]
            apart = max(apart, *(abs(one - other) for one, other in zip(known, found, strict=True)))
            same += known.index(max(known)) == found.index(max(found))
            assert [each.greedy for each in scored] == [theirs[at][1] for at in places], name
        assert apart <= NATS, f"{name}: {apart} nats apart"
        assert same >= SAME * len(items), f"{name}: {same} of {len(items)} predictions are the same"
    assert plan(model).shares, "stems and solved examples were read once"


def test_both_sides_build_the_same_prompts(mirror: Path, tmp_path: Path, tokenizer: Any) -> None:
    from residency.eval.prompt import ask

    subjects = [EXAMS[name](mirror, limit=10) for name in SOME]
    tasks = exams.load_theirs(subjects, tmp_path)
    for exam in subjects:
        tasks[exam.name].build_all_requests()
        expected = [request.args for request in tasks[exam.name].instances]
        task, found = exam.task(), []
        for row in exam.ours:
            asked = ask(task, row, tokenizer, scorer=task.scorers[0], shots=exam.our_shots)
            found += [(asked.prompt, continuation) for continuation in asked.continuations]
        assert found == expected, exam.name
