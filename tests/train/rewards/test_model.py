"""A reward model scores text: as transformers would, whatever is scored beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from residency.artifact import Manifest, write_json
from residency.data.tokenization.tokenizer import load_tokenizer, train_tokenizer
from residency.errors import ResidencyError
from residency.train.rewards.model import RewardModel

PROMPT = [{"role": "user", "content": "Why?"}]
REPLIES = ["the liver", "a kidney " * 8, "no", "bile, then the liver"]
SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


def manifest(directory: Path, kind: str, form: str = "ranked", **parents: str) -> None:
    content = Manifest(
        kind="model",
        stage="judge",
        stage_kind=kind,
        identity="x",
        parents={},
        parent_paths=parents,
        settings={},
        measured={"form": form},
    )
    write_json(directory / "manifest.json", content.model_dump())


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a reward stage with random weights; the padding token is the stop token."""
    directory = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_labels=1)).save_pretrained(directory)
    tokenizer = train_tokenizer(iter(["the liver makes bile", "a kidney"] * 3), 300, 128)
    tokenizer.pad_token = "<|end|>"
    tokenizer.save_pretrained(directory)
    manifest(directory, "reward")
    return directory


def by_hand(judge: Path, reply: str, *, left: int = 0) -> float:
    """Score of the last token of a chat, without the last `left` tokens."""
    ids: Any = load_tokenizer(judge).apply_chat_template([*PROMPT, {"role": "assistant", "content": reply}])
    ids = ids["input_ids"][: len(ids["input_ids"]) - left]
    model = LlamaForSequenceClassification.from_pretrained(judge)
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids])).logits)


def test_scores_are_those_of_the_last_token_in_any_company(judge: Path) -> None:
    model = RewardModel(judge, "float32", "cpu")
    together = model.score([PROMPT] * 4, REPLIES)
    assert together == pytest.approx([by_hand(judge, reply) for reply in REPLIES], abs=1e-6)
    assert together[::-1] == pytest.approx(model.score([PROMPT] * 4, REPLIES[::-1]), abs=1e-6)
    assert [model.score([PROMPT], [reply])[0] for reply in REPLIES] == pytest.approx(together, abs=1e-6)
    assert model.score([PROMPT] * 4, REPLIES) == together, "not the same again"
    assert model.score([], []) == []
    assert len(model.score([PROMPT] * 3, ["", "\n", "\n the"], [True, False, False])) == 3
    cut = model.score([PROMPT] * 2, REPLIES[:2], [False, True])
    assert cut == pytest.approx([by_hand(judge, REPLIES[0], left=1), together[1]], abs=1e-6)


def test_steps_have_values(judge: Path) -> None:
    with pytest.raises(ResidencyError, match="stage judge scores whole replies, not steps"):
        RewardModel(judge, "float32", "cpu").score_steps([PROMPT], [["a"]])
    manifest(judge, "reward", "steps")
    try:
        model = RewardModel(judge, "float32", "cpu")
        two, one = model.score_steps([PROMPT] * 2, [["the liver", "a kidney"], ["no"]])
        whole = by_hand(judge, "the liver\na kidney", left=1)  # the stop token is no part of a step
        assert two == pytest.approx(
            torch.tensor([by_hand(judge, "the liver", left=1), whole]).sigmoid().tolist(), abs=1e-6
        )
        assert model.score([PROMPT] * 4, ["the liver\na kidney", "", "no", "\n"]) == pytest.approx(
            [two[1], 0, one[0], 0], abs=1e-6
        )
    finally:
        manifest(judge, "reward")


def test_a_kept_adapter_stands_on_the_language_model_that_it_was_trained_on(
    judge: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(tmp_path / "parent")
    kept = tmp_path / "kept"
    body = LlamaForSequenceClassification.from_pretrained(tmp_path / "parent", num_labels=1)
    config = LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(body, config).eval()
    adapted.save_pretrained(kept)
    load_tokenizer(judge).save_pretrained(kept)
    manifest(kept, "reward", model="../parent")
    ids: Any = load_tokenizer(judge).apply_chat_template([*PROMPT, {"role": "assistant", "content": "no"}])
    with torch.no_grad():
        expected = float(adapted(input_ids=torch.tensor([ids["input_ids"]])).logits)
    assert RewardModel(kept, "float32", "cpu").score([PROMPT], ["no"]) == pytest.approx([expected], abs=1e-5)


def test_what_is_refused(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match=r"has \d+ tokens; the reward model of stage judge reads 128"):
        RewardModel(judge, "float32", "cpu").score([PROMPT], ["x y" * 100])
    manifest(tmp_path, "sft")
    with pytest.raises(ResidencyError, match="is of kind sft and scores nothing"):
        RewardModel(tmp_path)
    manifest(tmp_path, "reward")
    tokenizer = load_tokenizer(judge)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ResidencyError, match="has no chat template"):
        RewardModel(tmp_path)
