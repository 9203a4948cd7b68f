"""Benchmark of preference training: a kept reference, and prompts that both replies share.

What: one epoch of DPO steps of a small Llama on the CPU, forward, backward and AdamW. From the second epoch on the
reference's log-probabilities are read instead of computed in every step, on packed pairs with prompts as long as a
reply. Prompts that are 4 times as long as a reply stand once before both replies, against padded and against packed
pairs. In turns in one process with one thread, medians; wall time, and CPU time, which others' load does not touch.

    python -m tests.bench.align_preference [--record FILE]
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from residency.train.preferences import head
from residency.train.preferences.batches import Pairs
from residency.train.preferences.layouts import Layout
from residency.train.preferences.objective import Objective, sums
from tests.bench.figures import Figure
from tests.bench.record import record_option, tell

PAIRS, BATCH, ROUNDS, REPLY = 16, 8, 7, 32
WIDTH, LAYERS, VOCABULARY = 128, 4, 2048
SETTINGS = {"loss": "dpo", "beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.0, "length_normalised": False}

Epoch = Callable[[], None]
Seconds = tuple[float, float]
"""Wall and CPU."""


def main() -> None:
    """Measure, print and record."""
    record, load = record_option(__doc__), os.getloadavg()[0]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), ROUNDS)
    settings = {"pairs": PAIRS, "batch_size": BATCH, "rounds": ROUNDS, "reply": REPLY, "width": WIDTH}
    tell(record, "align_preference", figures, settings | {"layers": LAYERS}, load=load, threads=1)


def measure(directory: Path, rounds: int) -> list[Figure]:
    """Ratios of the median epochs."""
    even, long = (drawn(directory / str(times), times * REPLY) for times in (1, 4))
    arms = {
        "kept": epoch(even, "packed", kept=True),
        "computed": epoch(even, "packed", kept=False),
        "shared": epoch(long, "shared", kept=True),
        "packed": epoch(long, "packed", kept=True),
        "padded": epoch(long, "padded", kept=True),
    }
    for run in arms.values():
        run()  # the first is slower for reasons of its own
    taken: dict[str, list[Seconds]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, run in arms.items():
            taken[name].append(timed(run))
    figures = []
    for clock, suffix in enumerate(("", "_cpu")):
        each = {name: median(seconds[clock] for seconds in all_) for name, all_ in taken.items()}
        goals = (1.25, 1.3, 1.3) if not clock else (None,) * 3
        figures += [
            Figure(f"kept_reference_epoch_ratio{suffix}", each["computed"] / each["kept"], goals[0]),
            Figure(f"shared_prompt_ratio_to_padded{suffix}", each["padded"] / each["shared"], goals[1]),
            Figure(f"shared_prompt_ratio_to_packed{suffix}", each["packed"] / each["shared"], goals[2]),
        ]
    return figures


def drawn(path: Path, prompt: int) -> Pairs:
    """Random pairs: replies and prompts are up to a quarter shorter or longer than `REPLY` and `prompt` tokens."""
    generator = torch.Generator().manual_seed(0)

    def ids(about: int) -> list[int]:
        length = int(about * (0.75 + 0.5 * torch.rand((), generator=generator)))
        words: list[int] = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        return words

    rows = [
        {"prompt_ids": ids(prompt), "chosen_ids": ids(REPLY), "rejected_ids": ids(REPLY)}
        for _ in range(PAIRS)
    ]
    Dataset.from_list(rows).save_to_disk(path)
    pairs = Pairs(path)
    pairs.place(epochs=1, batch_size=BATCH, world_size=1, micro=BATCH, seed=0)
    return pairs


def epoch(pairs: Pairs, layout: Layout, *, kept: bool) -> Epoch:
    """One pass over the pairs, its batches laid out anew as in training."""
    objective, reference = Objective(SETTINGS), model()
    policy = copy.deepcopy(reference)
    for one in (reference, policy):
        head.attach(one, "dense")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)
    known = torch.zeros(len(pairs), 2)

    def run() -> None:
        for first in range(0, len(pairs), BATCH):
            batch: dict[str, Any] = pairs.batch(
                [pairs[place] for place in range(first, first + BATCH)], layout
            )
            said = known[batch["numbers"]]
            if not kept:
                with torch.no_grad():
                    said = sums(reference, batch, BATCH, 2)[0]
            scores, prompts = objective.score(policy, batch, said)
            torch.autograd.backward(objective.loss(scores, prompts, batch, likelihood_tokens=1.0))
            optimizer.step()
            optimizer.zero_grad()

    return run


def model() -> Any:
    """A Llama with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def timed(run: Epoch) -> Seconds:
    start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start[0], time.process_time() - start[1]


if __name__ == "__main__":
    main()
