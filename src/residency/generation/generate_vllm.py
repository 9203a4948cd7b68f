"""Replies written by vLLM (extra `vllm`), on a GPU only; the same interface as `generate`.

The engine holds a second copy of the weights beside the scorer's, in part of the memory that is free when it starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

from residency.generation.decoding import Asked, Settings, seed_of
from residency.generation.generate import Reply, end_tokens
from residency.generation.writer import Writer

SHARE_OF_FREE_MEMORY = 0.7  # the rest is for scoring
_engines: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def draw(writer: Writer, asked: Sequence[Asked], settings: Settings) -> list[Reply]:
    """One reply to each prompt; each has its own seed."""
    from vllm import SamplingParams

    ends = end_tokens(writer.model, writer.tokenizer)
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
    outputs = _engine(writer).generate([{"prompt_token_ids": ids} for ids, _ in asked], ways, use_tqdm=False)
    return [_reply(output.outputs[0], ends) for output in outputs]


def _engine(writer: Writer) -> Any:
    from vllm import LLM

    if writer.model not in _engines:
        free, total = torch.cuda.mem_get_info()
        with _only_own_device():
            _engines[writer.model] = LLM(
                model=str(writer.directory),
                dtype=str(writer.model.dtype).removeprefix("torch."),
                max_model_len=writer.max_length,
                gpu_memory_utilization=SHARE_OF_FREE_MEMORY * free / total,
                generation_config="vllm",  # not the model's own temperature and penalties
                trust_remote_code=False,
            )
    return _engines[writer.model]


@contextmanager
def _only_own_device() -> Iterator[None]:
    """Within, a process that is started sees this rank's GPU alone: the engine's would take the machine's first."""
    before, own = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.current_device()
    os.environ["CUDA_VISIBLE_DEVICES"] = before.split(",")[own] if before else str(own)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _reply(output: Any, ends: list[int]) -> Reply:
    ids = list(output.token_ids)
    written = len(ids) - (bool(ids) and ids[-1] in ends)
    stopped = isinstance(output.stop_reason, str)  # of a stop token it is the id
    return Reply(output.text, output.finish_reason == "length", written, stopped)
