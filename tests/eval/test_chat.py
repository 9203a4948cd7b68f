"""What `residency chat` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import ResidencyError
from residency.eval.chat import chat


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match="holds no model"):
        chat(tmp_path)


def test_a_reward_model_writes_nothing(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    shape = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_labels=1, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForSequenceClassification(shape).save_pretrained(tmp_path)
    with pytest.raises(ResidencyError, match="it scores replies and writes none"):
        chat(tmp_path)
