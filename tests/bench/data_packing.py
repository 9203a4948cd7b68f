"""Benchmark of packing: ours beside TRL's packer, and how well packed rows are balanced over ranks.

What: all documents of MedQuAD, tokenised, packed to rows of 2048, 4096 and 8192 tokens by our splitter and packer and
by `trl.pack_dataset` with both strategies, `bfd` (cuts long documents off) and `bfd_split`, in turns. TRL lays the
tokens into new rows where ours writes down which stretches make up a row: that is part of the design compared. CPU
seconds of the process are compared (neither side starts others), which others' load does not touch. The speedup is
that against the faster of the two, at the length where it is least. Utilisation is tokens over places of all three
lengths together; one row in each cannot be full, so `packing_rows_above_least` says how many rows more than the tokens
need there are.

Balance: rows of 32,768 tokens on 8 ranks with the cost of an 8B model (32 layers, width 4096, 7.5e9 weights), of
log-normal lengths like those of papers (median 3,000 tokens, sigma 0.9), at one row and at eight rows per rank and
step; and of MedQuAD with three textbooks of OpenStax, which are 22 steps of 8 rows only: one document there fills a
whole row, nothing equals it, and the step that it stands in waits for it. Beside it the same rows in random order.

    RESIDENCY_MIRROR=DIR python tests/bench/data_packing.py [--record FILE]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.data.mixture import balance, packing
from residency.data.mixture.shards import padding_squares, squared_lengths
from residency.data.tokenization.fast_tokenizer import fastest_exact
from residency.data.tokenization.tokenizer import load_tokenizer
from tests.bench.data_tokens import documents, write_base
from tests.bench.figures import Figure
from tests.bench.record import mirror, record_option, tell

Ints = NDArray[np.int64]
LENGTHS = (2048, 4096, 8192)
TURNS = 7
REPEATS = 50  # of ours in a turn: then both sides are timed over about as long a stretch
LONG, RANKS = 32_768, 8
ATTENTION = balance.attention_weight(layers=32, width=4096, weights=7_500_000_000)
BOOKS = ("anatomy-physiology", "microbiology", "philosophy")


def main() -> None:
    """Measure, print, append the record."""
    record, load = record_option(__doc__), os.getloadavg()[0]
    texts = documents()
    books = [text for book in BOOKS for text in book_texts(book)]
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        base = Path(temporary) / "base"
        write_base(base, texts)
        _, encode = fastest_exact(load_tokenizer(base), texts[:200])
        ids, lengths = encode(texts)
        figures = packers(ids, lengths)
        papers = np.random.default_rng(0).lognormal(np.log(3000), 0.9, 30_000).astype(np.int64) + 2
        corpora = {"papers": papers, "medquad_openstax": np.concatenate([lengths, encode(books)[1]]) + 2}
        figures += balances(corpora)
    settings = {"documents": len(texts), "tokens": int(lengths.sum()), "turns": TURNS}
    tell(record, "data_packing", figures, settings, load=load, threads=1)


def book_texts(book: str) -> list[str]:
    """Sections of a textbook."""
    files = sorted((mirror() / "openstax" / book / "text").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [str(json.loads(line)["text"]) for line in lines]


@dataclass(frozen=True)
class Packed:
    """What our packer made of all documents, and how it compares."""

    rows: int
    filled: int
    kept: float
    speedup: float
    figures: list[Figure]


def packers(ids: NDArray[np.uint32], lengths: Ints) -> list[Figure]:
    """Both sides on the same documents, at every length."""
    found = {length: compare(ids, lengths, length) for length in LENGTHS}
    places = sum(length * packed.rows for length, packed in found.items())
    least = sum(-(-packed.filled // length) for length, packed in found.items())
    return [
        Figure("packing_utilisation", sum(packed.filled for packed in found.values()) / places, 0.999),
        Figure("packing_tokens_kept", min(packed.kept for packed in found.values()), 1.0),
        Figure("packing_speedup", min(packed.speedup for packed in found.values()), 50),
        Figure("packing_rows_above_least", sum(packed.rows for packed in found.values()) - least),
        *(figure for packed in found.values() for figure in packed.figures),
    ]


def compare(ids: NDArray[np.uint32], lengths: Ints, max_length: int) -> Packed:
    """All three arms in turns at one length."""
    import pyarrow
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    starts, tokens = np.cumsum(lengths) - lengths, int(lengths.sum())
    offsets = pyarrow.array(np.append(starts, tokens).astype(np.int32))
    column = pyarrow.ListArray.from_arrays(offsets, pyarrow.array(ids))
    dataset = Dataset(pyarrow.table({"input_ids": column}))

    def ours() -> tuple[Ints, Ints]:
        cut = packing.split(starts, lengths, max_length)
        return packing.pack(cut, max_length, np.random.default_rng(0))

    def theirs(strategy: str) -> Any:
        return pack_dataset(dataset, max_length, strategy, map_kwargs={"load_from_cache_file": False})

    arms: dict[str, Callable[[], Any]] = {"ours": ours}
    arms |= {strategy: partial(theirs, strategy) for strategy in ("bfd", "bfd_split")}
    seconds, results = in_turns(arms, {"ours": REPEATS})
    segments, offsets_of_rows = results.pop("ours")
    rows, filled = len(offsets_of_rows) - 1, int((segments[:, 1] - segments[:, 0]).sum())
    covered = np.zeros(tokens, dtype=bool)
    for start, end in segments.tolist():
        covered[start:end] = True
    figures = [
        Figure(f"packing_utilisation_{max_length}", filled / (rows * max_length)),
        Figure(f"packing_sequences_per_second_{max_length}", len(lengths) / seconds["ours"]),
    ]
    for name, packed in results.items():
        kept = sum(map(len, packed["input_ids"]))
        figures += [
            Figure(f"packing_trl_{name}_utilisation_{max_length}", kept / (len(packed) * max_length)),
            Figure(f"packing_trl_{name}_tokens_kept_{max_length}", kept / tokens),
            Figure(f"packing_trl_{name}_sequences_per_second_{max_length}", len(lengths) / seconds[name]),
        ]
    speedup = min(seconds[name] for name in results) / seconds["ours"]
    figures.append(Figure(f"packing_speedup_{max_length}", speedup))
    return Packed(rows, filled, float(covered.mean()), speedup, figures)


def in_turns(
    arms: dict[str, Callable[[], Any]], repeats: dict[str, int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and last result of each arm; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    results = {}
    for _ in range(TURNS + 1):
        for name, work in arms.items():
            times = repeats.get(name, 1)
            start = time.process_time()
            for _ in range(times):
                results[name] = work()
            seconds[name].append((time.process_time() - start) / times)
    return {name: median(found[1:]) for name, found in seconds.items()}, results


def balances(corpora: dict[str, Ints]) -> list[Figure]:
    """Predicted balance of the placed rows, and of the same rows as packing shuffled them."""
    figures = []
    for name, lengths in corpora.items():
        cut = packing.split(np.cumsum(lengths) - lengths, lengths, LONG)
        segments, rows = packing.pack(cut, LONG, np.random.default_rng(0))
        costs = balance.row_costs(squared_lengths(segments, rows, LONG), LONG, ATTENTION)
        empty = float(balance.row_costs(padding_squares(np.array([float(LONG)])), LONG, ATTENTION)[0])
        for batch_size in (RANKS, 8 * RANKS):
            sizes = {"batch_size": batch_size, "world_size": RANKS, "micro": 1}
            order = balance.placed(costs, np.array([0, len(costs)]), empty, seed=0, **sizes)
            filled = np.append(costs, np.full(len(order) - len(costs), empty))
            placed, random = (balance.predicted_balance(found, **sizes) for found in (filled[order], filled))
            case = f"{name}_batch_{batch_size}"
            figures += [
                Figure(f"attention_balance_{case}", placed),
                Figure(f"attention_balance_random_{case}", random),
            ]
    papers, real = (
        min(figure.value for figure in figures if figure.name.startswith(f"attention_balance_{name}"))
        for name in corpora
    )
    return [
        Figure("attention_balance_8_ranks_32k", papers, 0.99),
        Figure("attention_balance_8_ranks_32k_medquad_openstax", real, 0.99),
        *figures,
    ]


if __name__ == "__main__":
    main()
