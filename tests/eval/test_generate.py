"""Replies against transformers' own generation, one prompt at a time, and against a model that says a fixed text."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, encode, fit_prompt, piece
from residency.eval.prompt import ask
from residency.eval.settings import TASK
from residency.generation import generate
from residency.generation.generate import end_tokens

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
    written = Candidate(model, tokenizer, 128).write(prompts, max_new_tokens=20)
    assert [reply.text for [reply] in written] == expected
    assert len(set(expected)) > 2


def test_the_models_own_generation_settings_are_set_aside_and_kept(model: Any, tokenizer: Any) -> None:
    candidate, prompts = Candidate(model, tokenizer, 128), ids_of(tokenizer, PROMPTS)
    plain = candidate.write(prompts, max_new_tokens=12)
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
        assert candidate.write(prompts, max_new_tokens=12) == plain
        assert model.generation_config is own
    finally:
        model.generation_config = before


@pytest.mark.parametrize("budget", [1, 10_000])
def test_samples_do_not_depend_on_the_order_of_prompts(
    model: Any, tokenizer: Any, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, prompts = Candidate(model, tokenizer, 128), ids_of(tokenizer, PROMPTS)
    ways = {"max_new_tokens": 12, "temperature": 0.7, "samples": 3}
    first = candidate.write(prompts, **ways)  # type: ignore[arg-type]
    monkeypatch.setitem(generate.TOKENS_PER_BATCH, "cpu", budget)
    again = candidate.write(prompts[::-1], **ways)[::-1]  # type: ignore[arg-type]
    assert first == again
    assert first[1] == first[4], "the same prompt gets the same samples"
    assert len({reply.text for reply in first[0]}) > 1
    assert candidate.write(prompts, seed=1, **ways) != first  # type: ignore[arg-type]


def test_samples_follow_the_models_distribution(model: Any, tokenizer: Any) -> None:
    [ids] = ids_of(tokenizer, ["Heart"])
    samples = 400
    [replies] = Candidate(model, tokenizer, 128).write(
        [ids], max_new_tokens=1, temperature=2.0, samples=samples
    )
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
    candidate = Candidate(speaker(tokenizer, "B: you, t!\n#"), tokenizer, 128)
    [[short], [long]] = candidate.write(ids_of(tokenizer, ["A", "Heart"]), max_new_tokens=30, stop=stop)
    assert short == long
    assert (short.text, short.truncated) == (text, False)


def test_a_reply_at_the_limit_is_truncated_and_one_that_ended_there_is_not(tokenizer: Any) -> None:
    candidate, prompts = Candidate(speaker(tokenizer, "kidney"), tokenizer, 128), ids_of(tokenizer, ["A"])
    [[cut]] = candidate.write(prompts, max_new_tokens=6)
    [[whole]] = candidate.write(prompts, max_new_tokens=7)
    [[stopped]] = candidate.write(prompts, max_new_tokens=6, stop=["y"])
    assert (cut.text, cut.truncated, cut.tokens) == ("kidney", True, 6)
    assert (whole.text, whole.truncated, whole.tokens) == ("kidney", False, 6)
    assert (stopped.text, stopped.truncated, stopped.tokens) == ("kidne", False, 6)


def test_weights_that_are_no_numbers_are_refused(tokenizer: Any) -> None:
    diverged = speaker(tokenizer, "kidney")
    with torch.no_grad():
        diverged.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(ResidencyError, match="diverged"):
        Candidate(diverged, tokenizer, 128).write(ids_of(tokenizer, ["A"]), max_new_tokens=3)


def test_the_templates_end_of_turn_ends_a_reply(model: Any, tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids("<|end|>") in end_tokens(model, tokenizer)
    assert tokenizer.eos_token_id in end_tokens(model, tokenizer)


def test_an_adapter_writes_as_its_merged_weights_do(tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = speaker(tokenizer, "kidney")
    adapted = get_peft_model(
        base, LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False)
    ).eval()
    prompts = ids_of(tokenizer, PROMPTS)
    written = Candidate(adapted, tokenizer, 128).write(prompts, max_new_tokens=8)
    merged = adapted.merge_and_unload()
    assert written == Candidate(merged, tokenizer, 128).write(prompts, max_new_tokens=8)


SHOTS = [
    {"id": f"s{n}", "prompt": f"Is {n} odd?", "options": ["yes", "no"], "answer": 1 - n % 2} for n in range(3)
]
ROW = {"id": "r", "prompt": "Which organ filters blood?", "options": ["heart", "kidney"], "answer": 1}


def fitted(tokenizer: Any, max_length: int, **fields: Any) -> Item:
    task = TASK.validate_python(
        {
            "kind": "choice",
            "name": "t",
            "domain": "medicine",
            "items": "c",
            "scorers": ["reply"],
            "max_new_tokens": 16,
            **fields,
        }
    )
    assert task.kind == "choice"
    return fit_prompt(
        task,
        ROW,
        tokenizer,
        max_length,
        SHOTS,
        lambda kept: ask(task, ROW, tokenizer, scorer="reply", shots=kept),
    )


def test_prompts_give_up_the_oldest_shots_and_then_their_left_end(tokenizer: Any) -> None:
    whole = fitted(tokenizer, 1000)
    text = tokenizer.decode(whole.pieces[0].ids)
    assert (whole.cut_shots, whole.cut_tokens) == (0, 0)
    assert text.startswith("<|begin|>Question: Is 0 odd?") and text.endswith("kidney\nAnswer:")
    fewer = fitted(tokenizer, len(whole.pieces[0].ids) + 15)
    assert (fewer.cut_shots, fewer.cut_tokens) == (1, 0)
    assert tokenizer.decode(fewer.pieces[0].ids).startswith("<|begin|>Question: Is 1 odd?")
    cut = fitted(tokenizer, 40)
    assert cut.cut_shots == 3 and cut.cut_tokens > 0
    assert len(cut.pieces[0].ids) == 24
    assert (
        tokenizer.decode(cut.pieces[0].ids).startswith("<|begin|>")
        and cut.pieces[0].ids[1:] == (whole.pieces[0].ids[-23:])
    )


def test_prompts_are_tokenised_as_those_of_the_likelihoods_and_have_one_first_token(tokenizer: Any) -> None:
    plain, chat = fitted(tokenizer, 1000).pieces[0].ids, fitted(tokenizer, 1000, chat=True).pieces[0].ids
    for ids, bos in ((plain, True), (chat, False)):
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        text = tokenizer.decode(ids).removeprefix("<|begin|>") if bos else tokenizer.decode(ids)
        assert piece(tokenizer, text, " B", bos=bos).ids[: len(ids)] == ids


def test_a_reply_that_fills_the_window_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match="max_new_tokens = 16 leaves no room"):
        fitted(tokenizer, 16)
