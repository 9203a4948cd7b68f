"""Tokenizers: a new byte-level BPE one, loading, and the digest by which two stages agree that theirs is the
same.

The new one has the special tokens and the chat template (`chat_template.jinja`) that every later stage needs,
so a scratch model can be taught dialogues without its embedding being resized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.artifact import identity_of
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BEGIN, END_OF_TEXT, PAD = "<|begin|>", "<|endoftext|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPECIAL = (BEGIN, END_OF_TEXT, PAD, *ROLES)


def train_tokenizer(texts: Iterator[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text can be written in it, and decoding gives the text back.

    Args:
        texts: what the merges are learnt from.
        vocabulary: tokens, the 256 bytes and 7 special ones among them.
        context: the longest sequence, noted as `model_max_length`.

    Raises:
        ResidencyError: a vocabulary too small for the bytes and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL)
    if vocabulary < smallest:
        raise ResidencyError(f"base.scratch.vocabulary = {vocabulary}", cure=f"Set it to at least {smallest}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        chat_template=chat_template(),
    )


def chat_template() -> str:
    """The template of new tokenizers; what the assistant says, with its stop token, is marked."""
    return (files("residency.data") / "chat_template.jinja").read_text(encoding="utf-8")


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model directory; never runs code of the directory.

    Raises:
        ResidencyError: none there, or one without a `tokenizer.json`.
    """
    from transformers import AutoTokenizer

    _json(directory)
    return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def tokenizer_digest(directory: Path) -> str:
    """What makes the ids: hex sha256 over vocabulary, merges, normalisation, added tokens, BOS and EOS.

    Not over what saving may change without changing an id (padding, truncation, the post-processor), and not
    over the chat template, which a stage may write anew: see `template_digest`.
    """
    content = _json(directory)
    parts = {key: content.get(key) for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    settings = _settings(directory)
    ends = {key: _content(settings.get(key)) for key in ("bos_token", "eos_token")}
    return identity_of(**parts, **ends)


def template_digest(template: str | None) -> str | None:
    """Hex sha256 of a chat template's text; None where there is none."""
    return hashlib.sha256(template.strip().encode()).hexdigest() if template else None


def template_of(directory: Path) -> str | None:
    """The chat template of a model directory, or None."""
    path = directory / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    written = _settings(directory).get("chat_template")
    if isinstance(written, list):  # older tokenizers name several
        written = next((entry["template"] for entry in written if entry["name"] == "default"), None)
    return written


def _json(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer.json"
    if not path.exists():
        raise ResidencyError(
            f"{directory} holds no tokenizer.json",
            cure="Save the model's tokenizer in the fast (tokenizers) format",
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _settings(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer_config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
