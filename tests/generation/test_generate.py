"""Replies against transformers' own generation, one prompt at a time, and against a model that says a fixed text."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AddedToken, GenerationConfig, LlamaConfig, LlamaForCausalLM

from residency.errors import ResidencyError
from residency.eval.items import encode
from residency.generation import generate
from residency.generation.decoding import Settings
from residency.generation.generate import draw, end_tokens
from residency.generation.writer import Writer
from residency.train.contract import stop_ids

PROMPTS = [
    "Heart",
    "Which organ filters blood?",
    "A",
    "The drug for Bakosis is",
    "Which organ filters blood?",
]


def ids_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [[tokenizer.bos_token_id, *encode(tokenizer, text)] for text in texts]


def speaker(tokenizer: Any, text: str) -> Any:
    """A Llama that says `text` whatever it is asked, then the end token; no token may occur twice in the text.

    Its layer adds nothing, embeddings are one-hot, and the output layer holds each token's successor.
    """
    said = [*encode(tokenizer, text), tokenizer.eos_token_id]
    assert len(set(said)) == len(said)
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    following = torch.zeros(size, config.hidden_size)
    following[said[0], :] = 1.0
    for token, after in pairwise(said):
        following[after, token] = 2.0
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))
        model.lm_head.weight.copy_(following)
    return model


@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_greedy_replies_are_those_of_generate_one_by_one(
    model: Any, tokenizer: Any, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(generate.TOKENS_PER_BATCH, "cpu", budget)
    prompts = ids_of(tokenizer, PROMPTS)
    config = GenerationConfig(
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=end_tokens(model, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    expected = [
        tokenizer.decode(
            model.generate(torch.tensor([ids]), generation_config=config)[0, len(ids) :],
            skip_special_tokens=True,
        )
        for ids in prompts
    ]
    written = Writer(model, tokenizer, 128).write(prompts, max_new_tokens=20)
    assert [reply.text for [reply] in written] == expected
    assert len(set(expected)) > 2


def test_the_models_own_generation_settings_are_set_aside_and_kept(model: Any, tokenizer: Any) -> None:
    writer, prompts = Writer(model, tokenizer, 128), ids_of(tokenizer, PROMPTS)
    plain = writer.write(prompts, max_new_tokens=12)
    before = model.generation_config
    own = GenerationConfig(
        do_sample=True,
        temperature=9.0,
        repetition_penalty=5.0,
        bad_words_ids=[[70]],
        eos_token_id=before.eos_token_id,
    )
    try:
        model.generation_config = own
        assert writer.write(prompts, max_new_tokens=12) == plain
        assert model.generation_config is own
    finally:
        model.generation_config = before


@pytest.mark.parametrize("budget", [1, 10_000])
def test_samples_do_not_depend_on_the_order_of_prompts(
    model: Any, tokenizer: Any, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, prompts = Writer(model, tokenizer, 128), ids_of(tokenizer, PROMPTS)
    ways = {"max_new_tokens": 12, "temperature": 0.7, "samples": 3}
    first = writer.write(prompts, **ways)  # type: ignore[arg-type]
    monkeypatch.setitem(generate.TOKENS_PER_BATCH, "cpu", budget)
    again = writer.write(prompts[::-1], **ways)[::-1]  # type: ignore[arg-type]
    assert first == again
    assert first[1] == first[4], "the same prompt gets the same samples"
    assert len({reply.text for reply in first[0]}) > 1
    assert writer.write(prompts, seed=1, **ways) != first  # type: ignore[arg-type]


def test_replies_are_drawn_by_prompt_and_number(model: Any, tokenizer: Any) -> None:
    writer, [one, other] = Writer(model, tokenizer, 128), ids_of(tokenizer, PROMPTS[:2])
    how = Settings(max_new_tokens=8, stop=(), temperature=1.5, seed=3)
    asked = [(one, 4), (other, 0), (one, 4), (one, 1), (other, 7)]
    drawn = draw(writer, asked, how)
    samples = writer.write([one, other], max_new_tokens=8, temperature=1.5, samples=8, seed=3)
    assert drawn == [samples[ids is other][number] for ids, number in asked]


def test_samples_follow_the_models_distribution(model: Any, tokenizer: Any) -> None:
    [ids] = ids_of(tokenizer, ["Heart"])
    samples = 400
    [replies] = Writer(model, tokenizer, 128).write([ids], max_new_tokens=1, temperature=2.0, samples=samples)
    with torch.no_grad():
        chances = (model(torch.tensor([ids])).logits[0, -1].double() / 2.0).softmax(-1)
    counts = Counter(reply.text for reply in replies)
    checked = 0
    for token in chances.topk(3).indices.tolist():
        text, p = tokenizer.decode([token], skip_special_tokens=True), float(chances[token])
        if text and "\ufffd" not in text:
            assert abs(counts[text] / samples - p) <= 4 * (p * (1 - p) / samples) ** 0.5
            checked += 1
    assert checked


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ([], "B: you, t!\n#"),
        (["\n"], "B: you, t!"),
        (["u, "], "B: yo"),  # its last character is the first half of the token " t"
        (["t"], "B: you, "),  # inside a token
        (["#", "you"], "B: "),  # the first of several
        (["nothing"], "B: you, t!\n#"),
    ],
)
def test_a_stop_string_ends_a_reply_wherever_tokens_begin(tokenizer: Any, stop: list[str], text: str) -> None:
    writer = Writer(speaker(tokenizer, "B: you, t!\n#"), tokenizer, 128)
    [[short], [long]] = writer.write(ids_of(tokenizer, ["A", "Heart"]), max_new_tokens=30, stop=stop)
    assert short == long
    assert (short.text, short.truncated) == (text, False)
    assert short.stopped == (stop not in ([], ["nothing"]))


def test_a_reply_at_the_limit_is_truncated_and_one_that_ended_there_is_not(tokenizer: Any) -> None:
    writer, prompts = Writer(speaker(tokenizer, "kidney"), tokenizer, 128), ids_of(tokenizer, ["A"])
    [[cut]] = writer.write(prompts, max_new_tokens=6)
    [[whole]] = writer.write(prompts, max_new_tokens=7)
    [[stopped]] = writer.write(prompts, max_new_tokens=6, stop=["y"])
    assert (cut.text, cut.truncated, cut.tokens) == ("kidney", True, 6)
    assert (whole.text, whole.truncated, whole.tokens) == ("kidney", False, 6)
    assert (stopped.text, stopped.truncated, stopped.tokens) == ("kidne", False, 6)


def test_weights_that_are_no_numbers_are_refused(tokenizer: Any) -> None:
    diverged = speaker(tokenizer, "kidney")
    with torch.no_grad():
        diverged.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(ResidencyError, match="diverged"):
        Writer(diverged, tokenizer, 128).write(ids_of(tokenizer, ["A"]), max_new_tokens=3)


def test_the_templates_end_of_turn_ends_a_reply(model: Any, tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids("<|end|>") in end_tokens(model, tokenizer)
    assert tokenizer.eos_token_id in end_tokens(model, tokenizer)


def test_files_and_a_loaded_model_name_the_same_ends(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Also where the token behind the assistant's words is an added one that is not called special."""
    own = copy.deepcopy(tokenizer)
    own.add_tokens([AddedToken("<over>", special=False), AddedToken("<over>>", special=False)])
    own.chat_template = "{% for message in messages %}{{ message['content'] }}\n<over>>{% endfor %}"
    for part in (model, own):
        part.save_pretrained(tmp_path)
    assert own.convert_tokens_to_ids("<over>>") in end_tokens(model, own)
    assert sorted(stop_ids(tmp_path)) == sorted(end_tokens(model, own))


def test_an_adapter_writes_as_its_merged_weights_do(tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = speaker(tokenizer, "kidney")
    adapted = get_peft_model(
        base, LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False)
    ).eval()
    prompts = ids_of(tokenizer, PROMPTS)
    written = Writer(adapted, tokenizer, 128).write(prompts, max_new_tokens=8)
    merged = adapted.merge_and_unload()
    assert written == Writer(merged, tokenizer, 128).write(prompts, max_new_tokens=8)
