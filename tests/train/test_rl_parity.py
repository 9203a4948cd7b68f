"""What is changed in TRL's online trainers changes nothing that is learnt: the weights are TRL's own, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import TypeAdapter
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from residency.artifact import StageFile
from residency.data.tokenization.tokenizer import train_tokenizer
from residency.generation.generate import end_tokens
from residency.train import rewards
from residency.train.reinforcement.ledger import Ledger
from residency.train.reinforcement.online import Online, names_only
from residency.train.settings.rewards import Reward

ASKED = [[{"role": "user", "content": f"Which organ is number {number}?"}] for number in range(6)]
REWARDS = [{"kind": "format", "pattern": ".*[a-g].*"}, {"kind": "length", "tokens": 4, "weight": 0.5}]


class Grpo(Online, GRPOTrainer):
    """Ours without DeepSpeed, whose weights are compared elsewhere."""

    def check_weights(self: Any) -> None:
        pass


class Rloo(Online, RLOOTrainer):
    def check_weights(self: Any) -> None:
        pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of width 32 with its tokenizer."""
    directory = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(iter(json.dumps(asked) for asked in ASKED), 300, 128)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_same_weights_as_trl_alone(base: Path, tmp_path: Path, algorithm: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    config: Any = {"grpo": GRPOConfig, "rloo": RLOOConfig}[algorithm]
    arguments = {
        "num_generations": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "beta": 0.1,
        "max_completion_length": 6, "learning_rate": 1e-2, "reward_weights": [1.0, 0.5], "shuffle_dataset": False,
        "num_iterations": 2, "num_train_epochs": 1, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "report_to": [], "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "seed": 3,
    }  # fmt: skip
    scorer = rewards.build([TypeAdapter(Reward).validate_python(each) for each in REWARDS], {})

    def trained(kind: Any, data: Dataset, functions: list[Any]) -> tuple[Any, Any]:
        model = LlamaForCausalLM.from_pretrained(base)
        model.generation_config.eos_token_id = end_tokens(model, tokenizer)
        trainer = kind(
            model=model, reward_funcs=functions, args=config(output_dir=str(tmp_path), **arguments),
            train_dataset=data, processing_class=tokenizer,
        )  # fmt: skip
        return trainer, model

    def part(name: str) -> Any:
        def asked(completions: Any, completion_ids: list[list[int]], **_: Any) -> list[float]:
            texts = [completion[0]["content"] for completion in completions]
            ended = [ids[-1] in trl.eos_token_ids for ids in completion_ids]
            counts = [len(ids) - end for ids, end in zip(completion_ids, ended, strict=True)]
            rows = [{"id": "any", "prompt": []}] * len(texts)
            return scorer.score(rows, texts, counts).parts[name]

        asked.__name__ = name
        return asked

    kinds: dict[str, tuple[Any, Any]] = {"grpo": (Grpo, GRPOTrainer), "rloo": (Rloo, RLOOTrainer)}
    names = list(scorer.weights)
    trl, expected = trained(
        kinds[algorithm][1], Dataset.from_dict({"prompt": ASKED}), [part(name) for name in names]
    )
    trl.train()
    numbers = Dataset.from_dict({"prompt": [str(at) for at in range(6)], "epoch": [1] * 6})
    ours, found = trained(kinds[algorithm][0], numbers, names_only(names))
    rendered = [tokenizer.apply_chat_template(asked, add_generation_prompt=True) for asked in ASKED]
    rows = [{"id": str(at), "prompt": ASKED[at], "prompt_ids": rendered[at]["input_ids"]} for at in range(6)]
    stage = StageFile(name="rl", kind="rl", identity="0", settings={}, parents={}, run=tmp_path)
    ours.equip(stage, rows, scorer, Ledger(tmp_path / "ledger.jsonl"))
    ours.train()
    assert ours.state.global_step == trl.state.global_step == 6
    start = LlamaForCausalLM.from_pretrained(base).state_dict()
    assert any(not torch.equal(start[name], weight) for name, weight in expected.state_dict().items())
    for name, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name
    assert [line["id"] for line in Ledger(tmp_path / "ledger.jsonl").lines()] == [str(at) for at in range(6)]
