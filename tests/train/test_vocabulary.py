"""What the `vocab` stage is made of: words, tokenizers of several makes, rows, bits per byte."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from residency.data.tokenization.fast_tokenizer import fastokens, hugging_face
from residency.data.tokenization.tokenizer import load_tokenizer, train_tokenizer
from residency.errors import ResidencyError
from residency.train.vocabulary import embedding, fertility, terms, words
from residency.train.vocabulary.tokenizer import Grown, refuse_others, spelling

# Llama 3's; Qwen's takes digits one by one
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = [
    "The liver makes bile; bile helps to digest fat. It's so, isn't it?",
    "A kidney filters blood (1234 ml):\n\nthe blood  returns clean.",
    "größer und größer, é ü 漢字",
]
NEW = [" cholangitis", "cholangitis", " Cholangitis", " œdème", " nephron"]
OTHERS = [
    "",
    " ",
    "cholangi\ntis",
    "acholangitis cholangitisx CHOLANGITIS chol angitis",
    "The  liver\n\n  makes\tbile 12345 (é) 漢字 \U0001f600 it's",
    "<|endoftext|><|user|> <|endoftext|>x",
    "  <|pad|>  \r\n\n ",
]
WITH_NEW = [
    "a cholangitis, Cholangitis\ncholangitis  cholangitis",
    "(cholangitis) œdème nephron.",
    " nephron nephrons",
]


def made(kind: str, directory: Path) -> Path:
    """A small tokenizer of the make of Qwen 2, Llama 3 or GPT-2, or the scratch base's."""
    directory.mkdir(parents=True, exist_ok=True)
    model_type = {"qwen": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}.get(kind, "llama")
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    if kind == "scratch":
        train_tokenizer(iter(TEXT * 3), 320, 64).save_pretrained(directory)
        return directory
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA.replace("{1,3}", "") if kind.startswith("qwen") else LLAMA), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    if kind == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT * 3, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.model.ignore_merges = kind == "llama"
    # beyond the vocabulary, as in Llama 3 and Qwen
    tokenizer.add_special_tokens([
        AddedToken(name, normalized=False, special=True) for name in ("<|endoftext|>", "<|user|>", "<|pad|>")
    ])  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    classes = {"qwen": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "gpt2": "GPT2Tokenizer"}
    settings = json.loads(path.read_text()) | {
        "tokenizer_class": classes.get(kind, "PreTrainedTokenizerFast")
    }
    path.write_text(json.dumps(settings))
    return directory


def grow(directory: Path, target: Path, new: list[str]) -> int:
    grown = Grown(directory)
    target.mkdir()
    (target / "config.json").write_bytes((directory / "config.json").read_bytes())
    tokens = [grown.token_of(word) for word in new]
    assert None not in tokens, tokens
    grown.write([token for token in tokens if token], target)
    return grown.first_free


@pytest.mark.parametrize("kind", ["scratch", "llama", "qwen", "qwen3", "gpt2"])
def test_new_words_are_tokens_and_other_text_stays_as_it_was(tmp_path: Path, kind: str) -> None:
    source = made(kind, tmp_path / "source")
    first = grow(source, tmp_path / "grown", NEW)
    before, after = load_tokenizer(source), load_tokenizer(tmp_path / "grown")
    after.save_pretrained(tmp_path / "again")  # as a training stage saves it
    (tmp_path / "again" / "config.json").write_bytes((source / "config.json").read_bytes())
    again = load_tokenizer(tmp_path / "again")
    assert len(after) == len(before) + len(NEW) == first + len(NEW)
    special = before.get_added_vocab()
    assert {name: after.get_vocab()[name] for name in special} == special == after.get_added_vocab()
    for how in ({}, {"add_special_tokens": False, "split_special_tokens": True}):
        for text in OTHERS + TEXT:
            assert after(text, **how)["input_ids"] == before(text, **how)["input_ids"], text
        for text in OTHERS + WITH_NEW:
            assert again(text, **how)["input_ids"] == after(text, **how)["input_ids"], text
    for text in OTHERS + WITH_NEW + TEXT:
        ids = after(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert after.decode(ids, clean_up_tokenization_spaces=False) == text
    one, two, capital, foreign, nephron = range(first, first + 5)
    assert [id for id in after(WITH_NEW[0])["input_ids"] if id >= first] == [one, capital, two, one]
    assert [id for id in after(WITH_NEW[1])["input_ids"] if id >= first] == (
        [foreign, nephron] if kind not in ("scratch", "gpt2") else [two, foreign, nephron]
    ), "Llama's words may begin with a bracket: then it is another word"
    assert after(WITH_NEW[2])["input_ids"].count(nephron) == 1, "nephrons is another word"


@pytest.mark.parametrize("kind", ["scratch", "llama", "qwen"])
def test_fastokens_knows_the_new_words(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("fastokens")
    grow(made(kind, tmp_path / "source"), tmp_path / "grown", NEW)
    tokenizer = load_tokenizer(tmp_path / "grown")
    texts = OTHERS + WITH_NEW + TEXT
    (ids, lengths), (wanted, wanted_lengths) = fastokens(tokenizer)(texts), hugging_face(tokenizer)(texts)
    assert np.array_equal(ids, wanted)
    assert np.array_equal(lengths, wanted_lengths)


def test_a_word_that_text_is_never_cut_into_gets_no_token(tmp_path: Path) -> None:
    grown = Grown(made("qwen", tmp_path / "qwen"))
    assert grown.token_of(" bile-duct") is None
    assert grown.token_of(" e\u0301tat") is None, "the normalizer writes é as one character"
    assert grown.token_of(" bile") is None, "it is a token already"
    assert grown.token_of(" état") == "ĠÃ©tat" == spelling(" état")


def test_tokenizers_that_cannot_grow_are_refused(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"model": {"type": "WordPiece"}}, "of kind WordPiece cannot get new words"),
        ({"model": {"type": "Unigram"}}, "of kind Unigram"),
        (
            {
                "model": {"type": "BPE"},
                "pre_tokenizer": {"type": "Metaspace"},
                "decoder": {"type": "ByteFallback"},
            },
            "does not work on bytes",
        ),
        ({"model": {"type": "BPE"}, "pre_tokenizer": None, "decoder": None}, "does not work on bytes"),
        (
            {
                "model": {"type": "BPE", "end_of_word_suffix": "</w>"},
                "pre_tokenizer": {"type": "ByteLevel"},
                "decoder": {"type": "ByteLevel"},
            },
            "end_of_word_suffix = </w>",
        ),
    ]
    for form, reason in refused:
        with pytest.raises(ResidencyError, match=reason) as caught:
            refuse_others(form, "base")
        assert "byte-level BPE" in str(caught.value)


def test_a_token_that_merges_never_make_or_a_special_plain_word_is_refused(tmp_path: Path) -> None:
    directory = made("gpt2", tmp_path / "gpt2")
    path = directory / "tokenizer.json"
    form = json.loads(path.read_text())
    form["model"]["vocab"]["Ġunmade"] = 5000
    path.write_text(json.dumps(form))
    with pytest.raises(ResidencyError, match="never writes its token 'Ġunmade'"):
        Grown(directory)
    del form["model"]["vocab"]["Ġunmade"]
    form["added_tokens"].append(form["added_tokens"][0] | {"id": 5000, "content": "PAD"})
    path.write_text(json.dumps(form))
    with pytest.raises(ResidencyError, match="an added token that is a plain word: 'PAD'"):
        Grown(directory)


def test_words_that_save_most_tokens_come_first() -> None:
    counts = Counter(
        {" bile": 100, " cholangitis": 10, "cholangitis": 5, " of": 900, " rare": 4, " spleen": 30}
    )
    pieces = {
        " bile": [1],
        " cholangitis": [2, 3, 4, 5],
        "cholangitis": [6, 3, 4, 5],
        " of": [7, 8],
        " spleen": [9, 3],
    }

    def encode(texts: list[str]) -> list[list[int]]:
        return [pieces[text] for text in texts]

    found = words.choose(counts, None, 3, encode, lambda word: word.replace(" ", "_"))
    assert [(word.token, word.count, len(word.pieces)) for word in found] == [
        ("_of", 900, 2), ("_cholangitis", 10, 4), ("_spleen", 30, 2)
    ]  # fmt: skip
    known = terms.gather([["Cholangitis of the bile duct", "disease"], ["spleen"]], "here")
    found = words.choose(counts, known, 9, encode, lambda word: word)
    assert [(word.word, word.type) for word in found] == [
        (" cholangitis", "disease"), (" spleen", None), ("cholangitis", "disease")
    ]  # fmt: skip


def test_terms_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text(
        "cholangitis\tdisease\n\nbile duct\torgan\ncystic duct\torgan\nduct tape\tthing\nvitamin B\n", "utf-8"
    )
    known = terms.read(path)
    assert len(known) == 5
    assert known.words == {
        "cholangitis": "disease", "bile": "organ", "duct": "organ", "cystic": "organ", "tape": "thing", "vitamin": None
    }  # fmt: skip
    assert known.of_type["organ"] == ["bile duct", "cystic duct"]
    path.write_text("\n\n")
    with pytest.raises(ResidencyError, match="holds no terms"):
        terms.read(path)


def model(rows: int, *, tied: bool, bias: bool = False) -> Any:
    config = LlamaConfig(
        vocab_size=rows, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    made = LlamaForCausalLM(config)
    if bias:
        made.lm_head.bias = torch.nn.Parameter(torch.randn(rows))
    return made


@pytest.mark.parametrize(("tied", "bias"), [(True, False), (False, False), (False, True)])
def test_new_rows_are_means_and_old_rows_stay(tied: bool, bias: bool) -> None:
    grown = model(20, tied=tied, bias=bias)
    old = {name: tensor.clone() for name, tensor in grown.state_dict().items()}
    shared = [[1, 2], [3]]
    assert embedding.grow(grown, 20, [[[4, 6, 8]], shared, shared]) == 0
    assert grown.config.vocab_size == 23
    assert (grown.lm_head.weight is grown.model.embed_tokens.weight) == tied
    new = grown.state_dict()
    for name in ["model.embed_tokens.weight", "lm_head.weight", *(["lm_head.bias"] if bias else [])]:
        before, after = old[name], new[name]
        assert torch.equal(after[:20], before)
        torch.testing.assert_close(after[20], before[[4, 6, 8]].mean(0))
        for place in (21, 22):
            torch.testing.assert_close(after[place], (before[[1, 2]].mean(0) + before[3]) / 2)
    assert grown(torch.tensor([[20, 22, 1]])).logits.shape == (1, 3, 23)


def test_spare_rows_are_used_before_the_embedding_grows() -> None:
    grown = model(128, tied=False)
    table = grown.model.embed_tokens.weight
    before = table.clone()
    assert embedding.grow(grown, 120, [[[4]]] * 3) == 3
    assert grown.config.vocab_size == 128
    torch.testing.assert_close(table[122], table[4])
    assert torch.equal(table[123:], before[123:]), "other spare rows stay"
    assert embedding.grow(grown, 123, [[[4]]] * 10) == 5
    assert grown.config.vocab_size == 192, "a multiple of 64 stays one"
    padded = grown.lm_head.weight[133:]
    torch.testing.assert_close(padded, grown.lm_head.weight[:123].mean(0).expand_as(padded))
    assert embedding.rows_for(100, 103) == 103


def test_bits_per_byte_count_every_token_under_either_vocabulary() -> None:
    even = model(16, tied=False)
    torch.nn.init.zeros_(even.lm_head.weight)  # every token has a chance of 1/16: 4 bits
    texts = ["abcd" * 300, "é"]

    def letters(given: list[str]) -> list[list[int]]:
        return [[1] * len(text.encode()) for text in given]

    def pairs(given: list[str]) -> list[list[int]]:
        return [[1] * (len(text.encode()) // 2) for text in given]

    assert fertility.bits_per_byte(even, letters, 0, texts) == pytest.approx(4)
    assert fertility.bits_per_byte(even, pairs, 0, texts) == pytest.approx(2)
    known = terms.gather([["ab"], ["abcd"]], "here")
    assert fertility.of_terms(pairs, known) == {"tokens_per_term": 1.5, "terms_of_one_token": 0.5}
    assert fertility.of_text(pairs, ["ab cd ef"]) == {"tokens_per_word": pytest.approx(4 / 3)}
    assert math.isfinite(fertility.bits_per_byte(even, letters, None, texts))


def test_transformers_loads_what_was_written(tmp_path: Path) -> None:
    """Also for Qwen 2, whose own class would build BPE anew and lose the words."""
    first = grow(made("qwen", tmp_path / "source"), tmp_path / "grown", NEW)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "grown")
    assert tokenizer(" nephron")["input_ids"] == [first + 4]
    assert not list((tmp_path / "grown").glob("*.py"))
