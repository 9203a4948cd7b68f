from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.data.tokenization.tokenizer import (
    SPECIAL,
    chat_template,
    load_tokenizer,
    template_digest,
    template_of,
    tokenizer_digest,
    train_tokenizer,
)
from residency.errors import ResidencyError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So é."},
]


def test_any_text_comes_back(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    for text in ("bile 7.5 mg", "  größer\n\tœdème 😀", "日本"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_single_ids_inside_the_vocabulary(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    ids = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    assert len(set(ids)) == 7
    assert max(ids) < len(tokenizer) <= 300
    assert all(
        tokenizer(token, add_special_tokens=False)["input_ids"] == [id]
        for token, id in zip(SPECIAL, ids, strict=True)
    )
    assert tokenizer.model_max_length == 512


def test_chat_template_writes_turns_and_its_prompt_is_a_prefix(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    whole = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert whole == "<|begin|><|system|>Be brief.<|end|><|user|>Why?<|end|><|assistant|>So é.<|end|>"
    prompt = tokenizer.apply_chat_template(MESSAGES[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == whole.removesuffix("So é.<|end|>")


def test_training_is_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(iter(["bile and liver", "liver and kidney"]), 280, 64).save_pretrained(
            tmp_path / name
        )
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_digest_survives_use_and_saving_but_no_other_vocabulary(base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=2)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(base)
    assert template_of(base) == chat_template()
    assert template_digest(template_of(tmp_path)) != template_digest(template_of(base))
    tokenizer.add_tokens(["cholangitis"])
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) != tokenizer_digest(base)


def test_template_inside_the_configuration(tmp_path: Path) -> None:
    assert template_of(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    assert template_of(tmp_path) == "x"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert template_of(tmp_path) == "d"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match=r"vocabulary = 200\. Set it to at least 263"):
        train_tokenizer(iter(["a"]), 200, 64)
    with pytest.raises(ResidencyError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
