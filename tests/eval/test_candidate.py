"""Adapters swapped on a resident base score as models loaded anew; an adapter of another base is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, piece


@pytest.fixture
def base(tmp_path: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapter(base: Path, place: Path, *, seed: int, rank: int = 2, targets: list[str] | None = None) -> Path:
    """An adapter with weights that change the scores, as a checkpoint leaves it."""
    torch.manual_seed(seed)
    wrapped: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=rank, target_modules=targets or ["q_proj", "v_proj"], init_lora_weights=False),
    )
    wrapped.save_pretrained(place)
    return place


def fresh(base: Path, place: Path, tokenizer: Any) -> Candidate:
    """The same model loaded by peft at once, and merged: no adapter is resident."""
    from peft import PeftModel

    whole: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(place))
    return Candidate(whole.merge_and_unload().eval(), tokenizer, 128)


def sums(candidate: Candidate) -> list[float]:
    items = [
        Item(
            str(number), str(number), [piece(candidate.tokenizer, "The drug is", text, bos=True)], [1], 0, ""
        )
        for number, text in enumerate((" good", " bad and bitter", "."))
    ]
    return [scored[0].nats for scored in candidate.score(items)]


def test_swapped_adapters_score_as_models_loaded_anew(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    places = [
        adapter(base, tmp_path / "one", seed=1),
        adapter(base, tmp_path / "two", seed=2, rank=4, targets=["q_proj", "down_proj"]),
        adapter(base, tmp_path / "three", seed=3),
    ]
    resident = Candidate.load(base, 128)
    weights = {id(part) for part in resident.model.parameters()}
    found = []
    for place in places:
        resident.swap(place)
        found.append(sums(resident))
        assert found[-1] == pytest.approx(sums(fresh(base, place, tokenizer)), abs=1e-4)
        assert len(resident.model.peft_config) == 1, "the adapter before it is gone"
    assert found[0] != pytest.approx(found[1], abs=1e-2) and found[0] != pytest.approx(found[2], abs=1e-2)
    assert weights <= {id(part) for part in resident.model.parameters()}, "the base was never loaded again"


def test_an_adapter_of_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    same = shutil.copytree(base, tmp_path / "same")
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(other)
    resident = Candidate.load(base, 128)
    resident.swap(adapter(same, tmp_path / "fits", seed=1))
    with pytest.raises(ResidencyError, match="whose weights are not those of"):
        resident.swap(adapter(other, tmp_path / "misfits", seed=1))
    shutil.rmtree(other)
    with pytest.raises(ResidencyError, match=r"its base .* is not here"):
        resident.swap(tmp_path / "misfits")
    with pytest.raises(ResidencyError, match="holds no adapter"):
        resident.swap(same)
