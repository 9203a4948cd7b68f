"""What both sides of the training benchmark get: sizes, documents, a base with random weights, and our packed rows.

Documents come from the embedded world, joined to lengths that vary as real ones do; with `RESIDENCY_MIRROR` set, the
answers of MedQuAD stand between them. Corpus and rows go through the real stages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any

from residency.artifact import RunPaths, StageFile, identity_of, open_attempt
from residency.data import corpus, tokens, world
from residency.data.mixture.settings import MixtureSettings
from residency.data.settings import CorpusSettings, TokensSettings
from residency.data.tokenization.encoding import DialogueEncoder
from residency.data.tokenization.tokenizer import train_tokenizer

Row = dict[str, Any]
WARM_UP = 2  # timings thrown away: they hold the engine's start, lazy imports, cold caches
CHARACTERS_PER_TOKEN = 6.0  # more than a tokenizer reaches here: there shall be rows enough
MEDQUAD = Path("lavita/MedQuAD/train.jsonl")


@dataclass(frozen=True)
class Scale:
    """Sizes of the measurement."""

    layers: int
    width: int
    vocabulary: int
    max_length: int
    rows: int
    """Rows (or padded documents) per optimizer step, over all ranks."""
    steps: int
    """Optimizer steps per timing."""
    pairs: int

    @property
    def all_steps(self) -> int:
        """Optimizer steps of each arm."""
        return self.steps * (WARM_UP + self.pairs)


CPU = Scale(layers=4, width=256, vocabulary=4096, max_length=512, rows=8, steps=1, pairs=7)
GPU = Scale(layers=28, width=1024, vocabulary=151_936, max_length=4096, rows=8, steps=4, pairs=7)


def scale(options: dict[str, Any], *, cuda: bool) -> Scale:
    """The machine's sizes, with the ones that were given."""
    sizes = asdict(GPU if cuda else CPU)
    return Scale(**sizes | {name: options[name] for name in sizes if options.get(name) is not None})


@dataclass(frozen=True)
class Workload:
    """One subject's documents on disk: what TRL reads, and what our `tokens` stage made of the same rows."""

    subject: str
    documents: list[Row]
    base: Path
    rows: Path
    run: Path


def prepare(directory: Path, size: Scale) -> None:
    """Make the base and both subjects' documents and rows under `directory` (call on one rank)."""
    base, wanted = (
        directory / "base",
        int(size.all_steps * size.rows * size.max_length * CHARACTERS_PER_TOKEN),
    )
    texts = _until(wanted, _texts(size))
    _base(base, size, texts)
    _stages(directory, "cpt", texts, base, size)
    _stages(directory, "sft", _until(wanted, _fitting(base, size)), base, size)


def load(directory: Path, subject: str) -> Workload:
    """A subject that `prepare` made."""
    run = directory / subject
    rows = [json.loads(line) for line in (run / "documents.jsonl").read_text().splitlines()]
    return Workload(subject, rows, directory / "base", next(run.glob("tokens-*[!t]")), run)


def _until(characters: int, rows: Iterator[Row]) -> list[Row]:
    """Rows until they hold so many characters, or all."""
    taken: list[Row] = []
    for row in rows:
        if characters <= 0:
            break
        taken.append(row)
        characters -= len(row.get("text") or "".join(turn["content"] for turn in row["messages"]))
    return taken


def _texts(size: Scale) -> Iterator[Row]:
    random, passages = Random(0), _world("medicine")
    # as many characters as a row has tokens in the median, that is a quarter of a row, and a tail beyond a whole one
    joined = iter(lambda: _join(passages, round(random.lognormvariate(0, 0.9) * size.max_length)), "")
    return _between(({"text": text} for text in joined), ({"text": row["answer"]} for row in _medquad()))


def _dialogues() -> Iterator[Row]:
    turns = (
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["answer"]},
            ]
        }
        for row in _medquad()
    )
    return _between(({"messages": row["messages"]} for row in _world("medicine/dialogues")), turns)


def _world(source: str) -> Iterator[Row]:
    """Rows of the embedded world without end: another seed, other names."""
    seed = 0
    while True:
        yield from world.rows(source, seed=seed, size=48)
        seed += 1


def _join(passages: Iterator[Row], characters: int) -> str:
    text = next(passages)["text"]
    while len(text) < characters:
        text += "\n" + next(passages)["text"]
    return str(text)


def _medquad() -> Iterator[Row]:
    mirror = os.environ.get("RESIDENCY_MIRROR")
    if mirror and (Path(mirror) / MEDQUAD).exists():
        with (Path(mirror) / MEDQUAD).open(encoding="utf-8") as lines:
            yield from (row for row in map(json.loads, lines) if row["question"] and row["answer"])


def _between(first: Iterator[Row], second: Iterator[Row]) -> Iterator[Row]:
    """One of each in turn, until the first ends."""
    for one, other in zip_longest(first, second):
        yield one
        if other:
            yield other


def _fitting(base: Path, size: Scale) -> Iterator[Row]:
    """Dialogues that fit into a row: our stage refuses a longer one, so neither side gets any."""
    from transformers import AutoTokenizer

    encode, dialogues = DialogueEncoder(AutoTokenizer.from_pretrained(base), base.name, None), _dialogues()
    while True:
        some = list(islice(dialogues, 256))
        yield from (
            row for row, ids in zip(some, encode(some)[0], strict=True) if len(ids) <= size.max_length
        )


def _base(directory: Path, size: Scale, texts: list[Row]) -> None:
    """A Llama with random weights; the embedding may have more rows than the tokenizer has tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from residency.model import resolve_precision

    tokenizer = train_tokenizer((row["text"] for row in texts), min(size.vocabulary, 8192), size.max_length)
    heads = max(2, size.width // 64)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=size.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(resolve_precision("auto")).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _stages(directory: Path, subject: str, rows: list[Row], base: Path, size: Scale) -> None:
    """The corpus and tokens stages of one subject."""
    run = directory / subject
    run.mkdir()
    file = run / "documents.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = CorpusSettings(source=str(file), seed=0, licence="CC-BY-4.0")
    made = corpus.run(stage(run, f"corpus-{subject}", "corpus", read.model_dump(), {}))
    packing = TokensSettings(
        mixture=MixtureSettings(shares={subject: 1.0}), epochs=1.0, max_length=size.max_length
    )
    tokens.run(
        stage(run, "tokens", "tokens", packing.model_dump(), {"model": base, f"corpus:{subject}": made})
    )


def stage(
    run: Path, name: str, kind: str, settings: Row, parents: dict[str, Path], execution: Row | None = None
) -> Path:
    """An attempt as the chain would make it; returns its directory."""
    described = StageFile(
        name=name,
        kind=kind,
        identity=identity_of(name=name, settings=settings),
        settings=settings,
        execution=execution or {},
        parents=parents,
        run=run,
    )
    return open_attempt(RunPaths(run), described)
