"""The engine against lm-evaluation-harness' `hf` backend: the same model, tokenizer, prompts and continuations.

lm-eval's own task definitions build the prompts; both sides score them. All items: `-m slow`, some minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from residency.eval.items import piece
from residency.eval.score import log_likelihoods
from residency.eval.sharing import plan

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


def every_exam(mirror: Path, limit: int) -> list[Exam]:
    subjects = SUBJECTS[:2] if limit < 100 else SUBJECTS
    letters = [
        exams.mmlu(mirror, subject, limit, shots=5 * (place % 2)) for place, subject in enumerate(subjects)
    ]
    texts = [exams.mmlu(mirror, subject, limit, text=True) for subject in subjects[:2]]
    others = [
        exams.medqa(mirror, limit),
        exams.medmcqa(mirror, limit, shots=5),
        exams.pubmedqa(mirror, limit),
    ]
    return [*letters, *texts, *others, exams.openbook(mirror, limit)]


@pytest.mark.parametrize("limit", [20, pytest.param(100_000, marks=pytest.mark.slow)])
def test_every_item_has_lm_evals_log_likelihoods(
    mirror: Path, tmp_path: Path, model: Any, tokenizer: Any, limit: int
) -> None:
    from lm_eval.models.huggingface import HFLM

    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=4096)
    for name, task in exams.load_theirs(every_exam(mirror, limit), tmp_path).items():
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

    subjects = every_exam(mirror, 10)
    tasks = exams.load_theirs(subjects, tmp_path)
    for exam in subjects:
        tasks[exam.name].build_all_requests()
        expected = [request.args for request in tasks[exam.name].instances]
        task, found = exam.task(), []
        for row in exam.ours:
            asked = ask(task, row, tokenizer, scorer=task.scorers[0], shots=exam.our_shots)
            found += [(asked.prompt, continuation) for continuation in asked.continuations]
        assert found == expected, exam.name
