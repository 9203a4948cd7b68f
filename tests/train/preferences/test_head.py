"""All heads give the log-probabilities and gradients of the dense one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from residency.errors import ResidencyError
from residency.train.preferences import head
from tests.train.preferences.conftest import VOCABULARY, llama


def scored(model: Any, kind: head.Head) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = copy.deepcopy(model)
    head.attach(model, kind)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=generator)
    rows, columns = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2, 5, 0, 0, 7])
    targets = torch.randint(0, VOCABULARY, (5,), generator=generator)
    found = model(input_ids=ids, rows=rows, columns=columns, targets=targets)
    torch.autograd.backward((found * torch.arange(1.0, 6.0)).sum())
    return found.detach(), {name: part.grad for name, part in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "facts", [{}, {"final_logit_softcapping": 3.0, "logit_scale": 0.5}, {"logits_scaling": 4.0}]
)
def test_the_chunked_head_equals_the_dense_one(tied: bool, facts: dict[str, float]) -> None:
    model = llama(tied=tied)
    for name, value in facts.items():
        setattr(model.config, name, value)
    (dense, expected), (chunked, got) = (scored(model, kind) for kind in ("dense", "chunked"))
    torch.testing.assert_close(chunked, dense, atol=1e-5, rtol=1e-5)
    for name, part in expected.items():
        torch.testing.assert_close(got[name], part, atol=1e-5, rtol=1e-5)


def test_a_model_without_targets_is_what_it_was() -> None:
    model, ids = llama(), torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    head.attach(model, "dense")
    assert torch.equal(model(input_ids=ids).logits, before)


def test_the_head_is_chosen_by_size_and_by_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    assert head.choose("auto", model, 1000) == "dense"
    assert head.choose("auto", model, head.LARGE) == "chunked"
    assert head.choose("chunked", model, 1) == "chunked"
    with pytest.raises(ResidencyError, match="cut-cross-entropy is not installed, or there is no GPU"):
        head.choose("cut_cross_entropy", model, 1)
    monkeypatch.setattr(head, "_usable", lambda package: True)
    assert head.choose("auto", model, head.LARGE) == "cut_cross_entropy"


def test_an_adapter_on_the_head_is_not_left_out() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(llama(tied=False), config)
    assert head.choose("auto", adapted, head.LARGE) == "dense"
    with pytest.raises(ResidencyError, match="the head has an adapter"):
        head.choose("chunked", adapted, 1)
    ids = torch.tensor([[3, 4, 5]])
    expected = adapted(input_ids=ids).logits[0, 1].log_softmax(-1)[5]
    head.attach(adapted, "dense")
    got = adapted(input_ids=ids, rows=torch.tensor([0]), columns=torch.tensor([1]), targets=torch.tensor([5]))
    torch.testing.assert_close(got[0], expected)
