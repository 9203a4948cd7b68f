r"""Replies of a causal language model to tokenised prompts, greedy or sampled.

    replies = Writer.load(directory, 2048).write(prompts, max_new_tokens=256, stop=["\n\n"])  # [prompt][sample]

transformers' `generate` on left-padded batches of about one length. What a model's own generation settings ask for
(temperature, penalties) is set aside: all models are asked alike. A sampled token is drawn by inverting the
distribution at a number that belongs to the prompt, the sample and the place, so a reply does not depend on its
neighbours in a batch. On a GPU with vLLM installed full weights are run by that (`generate_vllm`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig

from residency.generation.decoding import (
    Asked,
    InverseSampler,
    Numbers,
    Settings,
    StopStrings,
    decoded,
    first_stop,
)
from residency.generation.ends import EXCHANGE, turn_end
from residency.generation.writer import Writer
from residency.model import virtual_prompt

WRITER = 2  # raise when replies change: it is part of the records' key
TOKENS_PER_BATCH = {"cpu": 8192, "cuda": 65536}  # prompt and reply; what their keys and values may take
TOKENS_FOR_VLLM = 2**20  # it schedules them itself, best with many at hand


@dataclass(frozen=True)
class Reply:
    """What a model wrote."""

    text: str
    """Without the stop string and special tokens."""
    truncated: bool
    """Whether it was cut off at the length limit."""
    tokens: int
    """Written, the end-of-sequence token not counted."""
    stopped: bool = False
    """Whether a stop string ended it, not the model."""

    @property
    def is_text(self) -> bool:
        """Whether it says something that a corpus can hold: models of bytes write NUL characters too."""
        return bool(self.text.strip()) and "\0" not in self.text


def write(
    writer: Writer,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
) -> list[list[Reply]]:
    """`samples` replies to each prompt.

    Args:
        prompts: token ids with their first token, each with `max_new_tokens` inside the model's window.
        stop: strings that end a reply, wherever token boundaries lie.
        temperature: 0 for the likeliest token at every place; then one sample is all there is.
    """
    assert samples == 1 or temperature > 0, "greedy replies are all the same"
    assert all(prompts) and "" not in stop and max_new_tokens > 0
    settings = Settings(max_new_tokens, tuple(stop), temperature, seed)
    asked = [(ids, sample) for ids in prompts for sample in range(samples)]
    replies = draw(writer, asked, settings)
    return [replies[at : at + samples] for at in range(0, len(replies), samples)]


def draw(writer: Writer, asked: Sequence[Asked], settings: Settings) -> list[Reply]:
    """One reply to each prompt with the number of its sample; the same two give the same reply."""
    if backend(writer.model) == "vllm" and writer.directory is not None:
        from residency.generation.generate_vllm import draw as draw_vllm

        return draw_vllm(writer, asked, settings)
    replies: dict[int, Reply] = {}
    prompt = virtual_prompt(writer.model)
    asked = [(prompt + ids, sample) for ids, sample in asked]
    for batch in _batches(asked, settings.max_new_tokens, writer.model.device.type):
        replies.update(zip(batch, _write_batch(writer, [asked[at] for at in batch], settings), strict=True))
    return [replies[at] for at in range(len(asked))]


def backend(model: Any = None) -> str:
    """`vllm` where it is installed and a GPU is there, else `transformers`, which also runs adapters."""
    adapter = hasattr(model, "get_base_model") or virtual_prompt(model)
    return "vllm" if torch.cuda.is_available() and find_spec("vllm") and not adapter else "transformers"


def tokens_per_batch() -> int:
    """Tokens of prompts and replies that this process does well to write at a time."""
    if backend() == "vllm":
        return TOKENS_FOR_VLLM
    return TOKENS_PER_BATCH["cuda" if torch.cuda.is_available() else "cpu"]


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a reply: the model's and the tokenizer's end of sequence, and the chat template's end of turn."""
    known = model.generation_config.eos_token_id
    ends = known if isinstance(known, list) else [known]
    return list(
        dict.fromkeys(id for id in [*ends, tokenizer.eos_token_id, _turn_end(tokenizer)] if id is not None)
    )


def _turn_end(tokenizer: Any) -> int | None:
    if not tokenizer.chat_template:
        return None
    try:
        rendered = str(tokenizer.apply_chat_template(EXCHANGE, tokenize=False))
    except TemplateError:
        return None
    added: dict[str, int] = tokenizer.get_added_vocab()
    end = turn_end(rendered, added)
    return added[end] if end else None


def _batches(asked: Sequence[Asked], new: int, device: str) -> Iterator[list[int]]:
    """Places of prompts of about one length, within the budget of tokens; a single one is never refused."""
    budget = TOKENS_PER_BATCH.get(device, TOKENS_PER_BATCH["cpu"])
    batch: list[int] = []
    for at in sorted(range(len(asked)), key=lambda at: len(asked[at][0]), reverse=True):
        if batch and (len(batch) + 1) * (len(asked[batch[0]][0]) + new) > budget:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


@torch.inference_mode()
def _write_batch(writer: Writer, asked: list[Asked], settings: Settings) -> list[Reply]:
    model, tokenizer = writer.model, writer.tokenizer
    assert not model.training, "dropout would change the replies"
    longest = max(len(ids) for ids, _ in asked)
    blanks = [longest - len(ids) for ids, _ in asked]
    ends = end_tokens(model, tokenizer)
    blank = ends[0] if ends else 0
    stopping = StopStrings(tokenizer, settings.stop, longest, len(asked))
    sampler = [InverseSampler(settings, asked, longest, model.device)] if settings.temperature else []
    with plain_generation(model, ends):
        written = model.generate(
            input_ids=torch.tensor(
                [[blank] * left + ids for (ids, _), left in zip(asked, blanks, strict=True)]
            ).to(model.device),
            attention_mask=torch.tensor([[0] * left + [1] * (longest - left) for left in blanks]).to(
                model.device
            ),
            max_new_tokens=settings.max_new_tokens,
            logits_processor=[Numbers(), *sampler],
            stopping_criteria=[stopping] if settings.stop else [],
        )
    return [
        _reply(tokenizer, ids, ends, stopping.ended[row], settings)
        for row, ids in enumerate(written[:, longest:].tolist())
    ]


def _reply(tokenizer: Any, ids: list[int], ends: list[int], stopped: int | None, settings: Settings) -> Reply:
    ids = ids[:stopped]
    end = next((place for place, id in enumerate(ids) if id in ends), None)
    text = decoded(tokenizer, ids[:end])
    cut = first_stop(text, settings.stop)
    truncated = end is None and cut is None and len(ids) >= settings.max_new_tokens
    return Reply(text[:cut], truncated, len(ids[:end]), stopped=cut is not None)


@contextmanager
def plain_generation(model: Any, ends: list[int]) -> Iterator[None]:
    """Within, the model generates greedily and until one of `ends`, without settings of its own."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.generation_config
    base.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )
    try:
        yield
    finally:
        base.generation_config = before
