"""A new base model: a byte-level BPE tokenizer trained on the given corpora, and a Llama with random weights.

It is the embedded default's base; real chains start from a hub model. Runs in the chain's process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from residency.artifact import StageFile, commit, own, read_manifest, read_stage
from residency.data import passport
from residency.data.corpus import rows, schema_of
from residency.data.tokenization.tokenizer import train_tokenizer
from residency.errors import ResidencyError


def run(attempt: Path) -> Path:
    """Make the base; returns its artifact."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = stage.settings
    corpora = [path for role, path in stage.parents.items() if role.startswith("corpus:")]
    tokenizer = train_tokenizer(_texts(stage), settings["vocabulary"], settings["context"])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings["width"],
        intermediate_size=settings["width"]
        * 8
        // 3
        // 16
        * 16,  # as Llama: SwiGLU has three matrices, not two
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        num_key_value_heads=settings["heads"],
        max_position_embeddings=settings["context"],
        tie_word_embeddings=True,
        initializer_range=settings["width"]
        ** -0.5,  # 0.02 belongs to wide models and learns slowly in narrow ones
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(settings["seed"])
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<|end|>"),
    ]
    model.save_pretrained(payload)
    tokenizer.save_pretrained(payload)
    learnt = [entry for corpus in corpora for entry in read_manifest(corpus).passport]
    measured = {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    return commit(
        attempt, payload, "model", owner=owner, measured=measured, passport=passport.of_model(stage, learnt)
    )


def _texts(stage: StageFile) -> Iterator[str]:
    """Texts of the tokenizer's corpora, each corpus as often as the settings say.

    Raises:
        ResidencyError: a corpus that is no running text.
    """
    named = stage.settings["tokenizer"]
    times = named if isinstance(named, dict) else dict.fromkeys(named, 1)
    for name, repetitions in times.items():
        corpus = stage.parents[f"corpus:{name}"]
        if (schema := schema_of(corpus)) != "text":
            raise ResidencyError(
                f"base.scratch.tokenizer: corpus {name} holds rows of kind {schema}",
                cure="Give one of running text",
            )
        for _ in range(repetitions):
            for row in rows(corpus, "train"):
                yield row["text"]
