"""Scores against direct, unbatched computations over the whole sequence, for several architectures."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from residency.errors import Exit, ResidencyError
from residency.eval.items import Piece
from residency.eval.likelihood import sharing
from residency.eval.likelihood.branches import item_rows, readings
from residency.eval.likelihood.forward import Forward
from residency.eval.likelihood.prefixes import shared_prefixes
from residency.eval.likelihood.score import Scored, log_likelihoods
from residency.eval.likelihood.sharing import plan

VOCABULARY = 200
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # random weights of the usual size give nearly uniform answers
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 48,
    "long_factor": [2.0] * 4, "short_factor": [1.0] * 4,
}  # fmt: skip
SHARING: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", SIZES, "sdpa"),
    "llama, eager": ("Llama", SIZES, "eager"),
    "llama, tied": ("Llama", {**SIZES, "tie_word_embeddings": True}, "sdpa"),
    "qwen2": ("Qwen2", SIZES, "sdpa"),
    "qwen3": ("Qwen3", SIZES, "sdpa"),
    "mistral, sliding window": ("Mistral", {**SIZES, "sliding_window": 48}, "sdpa"),
    "gemma2, soft caps and sliding window": (
        "Gemma2",
        {**SIZES, "sliding_window": 48, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0,
         "final_logit_softcapping": 3.0},
        "eager",
    ),
    "gpt2, absolute positions": ("GPT2", {**GPT2, "n_positions": 256, "initializer_range": 0.3}, "sdpa"),
    "granite, scaled logits": ("Granite", {**SIZES, "logits_scaling": 4.0}, "sdpa"),
}  # fmt: skip
PLAIN: dict[str, tuple[str, dict[str, Any], str]] = {
    "falcon, bias by distance": ("Falcon", {**SMALL, "num_attention_heads": 2, "alibi": True}, "eager"),
    "bloom, bias by distance": ("Bloom", {**SMALL, "num_attention_heads": 2}, "eager"),
    "mamba, state space": ("Mamba", SMALL, "eager"),
}  # fmt: skip


def make(name: str, sizes: dict[str, Any], attention: str) -> Any:
    """A random model of an architecture."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    architecture = getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")
    return architecture._from_config(config, attn_implementation=attention).eval()


def direct(model: Any, piece: Piece) -> Scored:
    """From one forward over the sequence alone; what is scored last is not fed."""
    with torch.no_grad():
        logs = model(torch.tensor([piece.ids[:-1]])).logits[0].double().log_softmax(-1)
    places = range(piece.start, len(piece.ids))
    nats = sum(float(logs[place - 1, piece.ids[place]]) for place in places)
    return Scored(nats, all(int(logs[place - 1].argmax()) == piece.ids[place] for place in places))


def exam() -> list[list[Piece]]:
    """Three subjects with solved examples of their own: letters, texts, texts of which a shared part is scored too; a
    document in windows, a very short item and one without pieces."""
    draw = random.Random(0)

    def words(most: int, least: int = 1) -> list[int]:
        return [draw.randrange(1, VOCABULARY) for _ in range(draw.randint(least, most))]

    items: list[list[Piece]] = []
    for _ in range(3):
        shots = [0, *words(40, 40)]
        for _ in range(2):
            stem = shots + words(20)
            items.append([Piece([*stem, letter], len(stem)) for letter in range(4)])
            items.append([Piece(stem + words(9), len(stem)) for _ in range(4)])
            items.append([Piece(stem + words(9), len(stem) - 1) for _ in range(2)])
    document = [0, *words(60, 60)]
    return [*items, [Piece(document, 1), Piece(words(30, 30), 1)], [Piece([0, 5, 6], 1)], []]


def agree(found: list[list[Scored]], expected: list[list[Scored]], nats: float = 1e-5) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [each.nats for each in mine] == pytest.approx([each.nats for each in theirs], abs=nats)
        assert [each.greedy for each in mine] == [each.greedy for each in theirs]


@pytest.mark.parametrize("case", SHARING)
def test_branches_and_prefixes_are_the_direct_computation(case: str) -> None:
    model, items = make(*SHARING[case]), exam()
    expected = [[direct(model, piece) for piece in item] for item in items]
    agree(log_likelihoods(model, items), expected)
    assert plan(model).shares, plan(model).reason


def test_kernels_that_take_no_mask_give_way_while_scoring() -> None:
    model = make("Llama", SIZES, "flex_attention")
    agree(log_likelihoods(model, exam()), log_likelihoods(make("Llama", SIZES, "sdpa"), exam()))
    assert plan(model).shares
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("case", PLAIN)
def test_models_whose_masks_are_not_ours_are_scored_plainly(case: str) -> None:
    model, items = make(*PLAIN[case]), exam()
    agree(log_likelihoods(model, items), [[direct(model, piece) for piece in item] for item in items])
    assert not plan(model).shares


@pytest.mark.parametrize("case", ["llama", "mistral, sliding window", "longrope"])
def test_scores_do_not_depend_on_the_other_items_of_a_call(case: str) -> None:
    known: dict[str, tuple[str, dict[str, Any], str]] = {
        **SHARING,
        "longrope": ("Phi3", {**SIZES, "rope_parameters": LONGROPE}, "sdpa"),
    }
    model, items = make(*known[case]), exam()
    alone = [log_likelihoods(model, [item])[0] for item in items]
    agree(log_likelihoods(model, items), alone)
    agree(log_likelihoods(model, items[::-1], max_tokens_per_batch=1)[::-1], alone)


def test_a_model_that_ignores_masks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, items = make(*SHARING["llama"]), exam()
    expected = [[direct(model, piece) for piece in item] for item in items]
    inner = model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda *_, **inputs: inner(**{**inputs, "attention_mask": None})
    )
    agree(log_likelihoods(model, items), expected)
    assert not plan(model).shares
    assert "change a score by" in plan(model).reason


def test_a_longer_item_than_those_tried_is_tried_again() -> None:
    model, items = make(*SHARING["llama"]), exam()
    log_likelihoods(model, [items[-2]])
    assert plan(model) is sharing.UNTRIED, "two tokens tell nothing"
    log_likelihoods(model, items[:1])
    first = plan(model)
    log_likelihoods(model, items)
    assert first.tried < plan(model).tried == max(len(piece.ids) for item in items for piece in item) - 1


def test_what_is_shared_is_fed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, items = make(*SHARING["llama"]), exam()[:18]
    log_likelihoods(model, items)
    fed: list[int] = []
    inner = model.model.forward

    def counting(**inputs: Any) -> Any:
        fed.append(inputs["input_ids"].numel())
        return inner(**inputs)

    monkeypatch.setattr(model.model, "forward", counting)
    log_likelihoods(model, items, max_tokens_per_batch=1)
    shots, plain = 41, sum(len(ids) for item in items for ids, _ in readings(list(enumerate(item))))
    assert sum(fed) <= 3 * shots + sum(len(piece.ids) - shots for item in items for piece in item)
    assert sum(fed) < 0.4 * plain


def test_prefixes_are_cut_where_they_save_most() -> None:
    shared, subjects = list(range(100, 120)), [list(range(start, start + 50)) for start in (200, 300)]
    stems = [[*shared, *subjects[item % 2], item] for item in range(10)] + [[7], [], [8] * 40]
    groups = shared_prefixes(stems)
    assert sorted((prefix, sorted(members)) for prefix, members in groups) == [
        (0, [10, 11, 12]), (70, [0, 2, 4, 6, 8]), (70, [1, 3, 5, 7, 9]),
    ]  # fmt: skip
    assert shared_prefixes([[*shared, item] * 1 for item in range(3)]) == [(0, [0, 1, 2])], (
        "not worth a forward"
    )
    assert shared_prefixes([[*shared, item] for item in range(30)]) == [(20, list(range(30)))]
    assert shared_prefixes([]) == []


def test_long_replies_to_a_short_question_are_rows_of_their_own() -> None:
    replies = [Piece([0, 1, *[word] * 3000], 2) for word in (5, 6)]
    assert len(item_rows(readings(list(enumerate(replies))), 0)) == 2
    options = [Piece([*range(300), word, 7, 8], 300) for word in (5, 6)]
    [row] = item_rows(readings(list(enumerate(options))), 0)
    assert len(row.ids) == 300 + 2 * 2
    assert row.positions[-2:] == [300, 301] == row.positions[-4:-2]


def test_batches_stay_within_their_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for item in exam() if item for row in item_rows(readings(list(enumerate(item))), 0)]
    forward = Forward(make(*SHARING["llama"]), None, 200)  # type: ignore[arg-type]
    batches = list(forward._batches(rows, 0))
    assert sum(map(len, batches)) == len(rows)
    assert all(len(batch) == 1 or len(batch) * len(batch[0].ids) <= 200 for batch in batches)
    assert max(map(len, batches)) > 1
    assert max(map(len, forward._batches(rows, 1000))) == 1, "the keys of a long prefix count too"
    monkeypatch.setattr("residency.eval.likelihood.forward.LOGITS_PER_BATCH", 1)
    assert max(map(len, forward._batches(rows, 0))) == 1


def lora(model: Any, **settings: Any) -> Any:
    """An adapter whose weights change something."""
    adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return adapted.eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["adapter on the head", "head trained whole"],
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_adapters_on_the_output_layer_take_part(
    settings: dict[str, Any], tied: bool, precision: torch.dtype
) -> None:
    model = make("Llama", {**SIZES, "tie_word_embeddings": tied}, "sdpa").to(precision)
    base, items = log_likelihoods(model, exam()), exam()
    adapted = lora(model, **settings)
    kept = {name: weight.dtype for name, weight in adapted.named_parameters()}
    found = log_likelihoods(adapted, items)
    assert {name: weight.dtype for name, weight in adapted.named_parameters()} == kept
    assert plan(adapted).shares
    expected = [[direct(adapted, piece) for piece in item] for item in items]
    if precision is torch.float32:
        agree(found, expected)
    else:  # 16-bit hidden states: an unbatched forward differs by their rounding, a lost adapter by far more
        pairs = [
            pair
            for mine, other in zip(found, expected, strict=True)
            for pair in zip(mine, other, strict=True)
        ]
        assert sum(abs(mine.nats - other.nats) for mine, other in pairs) / len(pairs) < 0.5
    apart = [
        abs(a.nats - b.nats) for x, y in zip(found, base, strict=True) for a, b in zip(x, y, strict=True)
    ]
    assert sum(apart) / len(apart) > 1


@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_float32_for_bfloat16_weights(tied: bool) -> None:
    model = make("Llama", {**SIZES, "tie_word_embeddings": tied}, "sdpa").to(torch.bfloat16)
    ids = torch.tensor([[0, 70, 71]])
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state
        logs = (hidden.double() @ model.lm_head.weight.double().T)[0].log_softmax(-1)
    [[found]] = log_likelihoods(model, [[Piece([0, 70, 71, 72], 1)]])
    assert found.nats == pytest.approx(float(logs[0, 70] + logs[1, 71] + logs[2, 72]), abs=1e-5)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_letters_that_tie_in_bfloat16_do_not_tie() -> None:
    model = make("Llama", {**SIZES, "initializer_range": 1.0}, "sdpa").to(torch.bfloat16)
    draw = random.Random(0)
    prompts = [[0, *(draw.randrange(1, VOCABULARY) for _ in range(15))] for _ in range(64)]
    with torch.no_grad():
        coarse = model(torch.tensor(prompts)).logits[:, -1]
    order = coarse.argsort(descending=True)[:, :10].tolist()
    pairs = [(row, *pair) for row, best in enumerate(order) for pair in pairwise(best)]
    tied = [(row, one, other) for row, one, other in pairs if coarse[row, one] == coarse[row, other]]
    assert tied, "some of the likeliest tokens tie on the coarse grid"
    items = [[Piece([*prompts[row], letter], 16) for letter in (one, other)] for row, one, other in tied]
    assert all(one.nats != other.nats for one, other in log_likelihoods(model, items))


def test_changed_weights_are_never_scored_from_an_older_copy() -> None:
    model, items = make(*SHARING["llama"]).to(torch.bfloat16), exam()[:4]
    before = log_likelihoods(model, items)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert log_likelihoods(model, items)[0][0].nats != before[0][0].nats


def test_a_model_in_training_mode_is_our_fault() -> None:
    model = make(*SHARING["llama"]).train()
    with pytest.raises(AssertionError, match="dropout"):
        log_likelihoods(model, exam())


def test_a_diverged_model_is_named() -> None:
    broken = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    torch.nn.init.constant_(broken.lm_head.weight, math.nan)
    with pytest.raises(ResidencyError, match="diverged") as caught:
        log_likelihoods(broken, exam())
    assert caught.value.code is Exit.DIVERGED
