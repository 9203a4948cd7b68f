"""Benchmark of tokenising: the library that the tokens stage chooses beside Hugging Face's `encode_batch`.

What: a byte-level BPE of 32,000 tokens with the pre-tokenisation of Llama 3 is trained on MedQuAD; then both encode all
its documents in turns, both with all cores, loaded anew each turn so that neither has a warm cache of words (ours has
seen the 200 documents that it is checked on). CPU seconds of all threads are compared too: others' load does not touch
them. Ids are compared document by document. At last the whole tokens stage: reading, encoding, packing, writing.

    RESIDENCY_MIRROR=DIR python tests/bench/data_tokens.py [--record FILE]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.artifact import read_manifest
from residency.data import corpus, tokens
from residency.data.settings import CorpusSettings, TokensSettings
from residency.data.tokenization.fast_tokenizer import fastest_exact
from residency.data.tokenization.tokenizer import load_tokenizer
from tests.bench.figures import Figure
from tests.bench.record import mirror, record_option, tell
from tests.bench.workload import stage

Seconds = tuple[float, float]
"""Wall, and CPU of all threads."""
TURNS = 5
VOCABULARY = 32_000
# meta-llama/Llama-3.1-8B, tokenizer.json
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def documents() -> list[str]:
    """Question and answer of every row of MedQuAD."""
    with (mirror() / "lavita/MedQuAD/train.jsonl").open(encoding="utf-8") as lines:
        return [f"{row['question']}\n{row['answer'] or ''}" for row in map(json.loads, lines)]


def write_base(directory: Path, texts: list[str]) -> None:
    """A model directory with the tokenizer and no weights."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, alphabet])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|begin|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|endoftext|>"
    ).save_pretrained(directory)
    (directory / "config.json").write_text("{}")


def main() -> None:
    """Measure, print, append the record."""
    record, load = record_option(__doc__), os.getloadavg()[0]
    texts = documents()
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        base = Path(temporary) / "base"
        write_base(base, texts)
        theirs, ours, library, differing = encode(base, texts)
        measured, seconds = whole_stage(Path(temporary), base, texts)
    (wall, cpu), (our_wall, our_cpu) = ([*map(median, zip(*part, strict=True))] for part in (theirs, ours))
    figures = [
        Figure("tokenise_speedup", wall / our_wall, 10),
        Figure("tokenise_cpu_speedup", cpu / our_cpu),
        Figure("tokenise_mismatching_documents", differing, at_most=0),
        Figure("tokenise_mb_per_second", megabytes / our_wall),
        Figure("tokenise_huggingface_mb_per_second", megabytes / wall),
        Figure("tokens_stage_tokens_per_second", measured["tokens"] / seconds),
        Figure("tokens_stage_mb_per_second", megabytes / seconds),
    ]
    settings = {"documents": len(texts), "vocabulary": VOCABULARY, "turns": TURNS, "library": library}
    tell(record, "data_tokens", figures, settings, load=load, threads=len(os.sched_getaffinity(0)))


def encode(base: Path, texts: list[str]) -> tuple[list[Seconds], list[Seconds], str, int]:
    """Seconds of their turns and of ours, the library that was chosen, and documents with other ids."""
    theirs: list[Seconds] = []
    ours: list[Seconds] = []
    for _ in range(TURNS):
        tokenizer = load_tokenizer(base)
        library, fast = fastest_exact(tokenizer, texts[:: len(texts) // 200])
        backend: Any = load_tokenizer(base).backend_tokenizer
        backend.encode_special_tokens = True
        encodings = timed(theirs, backend.encode_batch, texts, add_special_tokens=False)
        ids, lengths = timed(ours, fast, texts)
    found = np.split(ids, np.cumsum(lengths)[:-1])
    differing = sum(
        not np.array_equal(encoding.ids, document)
        for encoding, document in zip(encodings, found, strict=True)
    )
    return theirs, ours, library, differing


def timed(seconds: list[Seconds], work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What `work` returns; its wall and CPU seconds are added to `seconds`."""
    start = time.perf_counter(), time.process_time()
    result = work(*arguments, **named)
    seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return result


def whole_stage(run: Path, base: Path, texts: list[str]) -> tuple[dict[str, Any], float]:
    """What the tokens stage measured on all documents, and its seconds."""
    file = run / "documents.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    read = CorpusSettings(source=str(file), seed=0, licence="CC-BY-4.0")
    made = corpus.run(stage(run, "corpus-documents", "corpus", read.model_dump(), {}))
    packing = TokensSettings.model_validate(
        {"mixture": {"documents": 1}, "epochs": 1.0, "max_length": 2048}
    ).model_dump()
    attempt = stage(run, "tokens", "tokens", packing, {"model": base, "corpus:documents": made})
    start = time.perf_counter()
    found = tokens.run(attempt)
    return read_manifest(found).measured, time.perf_counter() - start


if __name__ == "__main__":
    main()
