"""What the tests of preference losses share: a tiny Llama, one that it started from, and a batch of uneven pairs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 96
LENGTHS = [(5, 3, 4), (9, 2, 7), (3, 6, 1), (12, 4, 4), (7, 1, 3)]
"""Tokens of prompt, chosen and rejected reply."""


def llama(*, tied: bool = True, attention: str = "sdpa") -> Any:
    """Two layers of width 32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied, attn_implementation=attention,
        initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def reference() -> Any:
    """Where training started from."""
    return llama().eval()


@pytest.fixture
def policy(reference: Any) -> Any:
    """Where it has got to."""
    model = copy.deepcopy(reference).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in model.parameters():
            part += 0.02 * torch.randn(part.shape, generator=generator)
    return model


def rows() -> list[dict[str, Any]]:
    """Token ids as the `pairs` stage writes them; replies end with the stop token 1."""
    generator = torch.Generator().manual_seed(2)

    def ids(length: int) -> list[int]:
        drawn: list[int] = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        return drawn

    return [
        {
            "prompt_ids": ids(prompt),
            "chosen_ids": [*ids(chosen - 1), 1],
            "rejected_ids": [*ids(rejected - 1), 1],
        }
        for prompt, chosen, rejected in LENGTHS
    ]


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs as a data set."""
    path = tmp_path_factory.mktemp("pairs") / "pairs"
    Dataset.from_list(rows()).save_to_disk(path)
    return path


@pytest.fixture(scope="session")
def replies_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single replies with a label, every other one good."""
    path = tmp_path_factory.mktemp("replies") / "pairs"
    single = [
        {"prompt_ids": row["prompt_ids"], "reply_ids": row["chosen_ids"], "label": number % 2 == 0}
        for number, row in enumerate(rows())
    ]
    Dataset.from_list(single).save_to_disk(path)
    return path
