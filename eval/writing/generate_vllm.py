"""Replies written by vLLM (extra `vllm`), on a GPU only; the same interface as `generate`.

The engine holds a second copy of the weights beside the scorer's, in part of the memory that is free when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from residency.eval.candidate import Candidate
from residency.eval.writing.decoding import Settings, seed_of
from residency.eval.writing.generate import Reply, end_tokens

SHARE_OF_FREE_MEMORY = 0.7  # the rest is for scoring
_engines: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def write(candidate: Candidate, prompts: Sequence[list[int]], settings: Settings) -> list[list[Reply]]:
    """`settings.samples` replies to each prompt; each has its own seed."""
    from vllm import SamplingParams

    ends = end_tokens(candidate.model, candidate.tokenizer)
    asked = [(ids, sample) for ids in prompts for sample in range(settings.samples)]
    ways = [
        SamplingParams(
            max_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=seed_of(settings.seed, ids, sample),
            stop=list(settings.stop),
            stop_token_ids=ends,
            skip_special_tokens=True,
        )
        for ids, sample in asked
    ]
    outputs = _engine(candidate).generate(
        [{"prompt_token_ids": ids} for ids, _ in asked], ways, use_tqdm=False
    )
    replies = [_reply(output.outputs[0], ends) for output in outputs]
    return [replies[at : at + settings.samples] for at in range(0, len(replies), settings.samples)]


def _engine(candidate: Candidate) -> Any:
    from vllm import LLM

    if candidate.model not in _engines:
        free, total = torch.cuda.mem_get_info()
        _engines[candidate.model] = LLM(
            model=str(candidate.directory),
            dtype=str(candidate.model.dtype).removeprefix("torch."),
            max_model_len=candidate.max_length,
            gpu_memory_utilization=SHARE_OF_FREE_MEMORY * free / total,
            generation_config="vllm",  # not the model's own temperature and penalties
            trust_remote_code=False,
        )
    return _engines[candidate.model]


def _reply(output: Any, ends: list[int]) -> Reply:
    ids = list(output.token_ids)
    written = len(ids) - (bool(ids) and ids[-1] in ends)
    return Reply(output.text, output.finish_reason == "length", written)
