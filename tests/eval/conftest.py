"""A tiny random Llama with a byte-level tokenizer, and rows as the data room leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from residency.artifact import Manifest, StageFile, write_json

SPECIAL = ("<|begin|>", "<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "<|begin|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Every byte a token, and one merge (` t`) that spans the usual boundary of prompt and option."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: place for place, word in enumerate([*SPECIAL, *alphabet, "Ġt"])}
    made = Tokenizer(models.BPE(vocab=words, merges=[("Ġ", "t")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|begin|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        extra_special_tokens=list(SPECIAL[3:]),
    )
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="session")
def model(tokenizer: Any) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        # Random weights of the usual size give nearly uniform answers; these tell options apart.
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a corpus artifact and returns its directory."""

    def make(name: str, rows: list[dict[str, Any]], part: str = "train") -> Path:
        directory = tmp_path / "run" / f"{name}-00000000"
        directory.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{part}.jsonl").write_text(text)
        manifest = Manifest(
            kind="corpus", stage=name, stage_kind="corpus", identity="0" * 64, parents={}, settings={}
        )
        write_json(directory / "manifest.json", manifest.model_dump())
        return directory

    return make


@pytest.fixture
def make_attempt(tmp_path: Path) -> Callable[..., Path]:
    """Writes an attempt with its `stage.json` and returns its directory."""

    def make(settings: dict[str, Any], parents: dict[str, Path]) -> Path:
        stage = StageFile(
            name="sft-evaluation",
            kind="evaluate",
            identity="1" * 64,
            settings=settings,
            parents=parents,
            parent_identities=dict.fromkeys(parents, "0" * 64),
            run=tmp_path / "run",
        )
        attempt = tmp_path / "run" / "sft-evaluation-11111111.attempt"
        attempt.mkdir(parents=True)
        write_json(attempt / "stage.json", json.loads(stage.model_dump_json()))
        return attempt

    return make
