"""The `vocab` stage: words of a field become tokens of their own, and rows of the embedding.

The words that save most tokens of a corpus are added to the tokenizer (`residency.train.vocabulary`); text that holds
none of them is encoded as before. Leaves the model with its grown embedding, the tokenizer, and `new_tokens.jsonl`.
Runs in the chain's process on whole weights: no ranks, no ZeRO. What is trained behind it trains the new rows; with
LoRA they stay as they are unless `lora.also_train` names the embedding and the output layer.

Idea: K-Tokeniser, arXiv 2406.14312 (semantic types, and embeddings that need no new pretraining)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from residency.artifact import StageFile, commit, own, read_manifest, read_stage
from residency.data import passport
from residency.data.corpus import rows, schema_of
from residency.data.tokenization.fast_tokenizer import fastest_exact
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError
from residency.model import base_of
from residency.train import contract
from residency.train.settings import VocabSettings
from residency.train.vocabulary import embedding, fertility, terms, words
from residency.train.vocabulary.terms import Terms
from residency.train.vocabulary.tokenizer import Grown
from residency.train.vocabulary.words import Found

Encode = Callable[[list[str]], list[list[int]]]
SAMPLE_BYTES = 2_000_000  # of text on which tokens per word are counted
SCORED_BYTES = 60_000  # of it that the model reads for bits per byte
TABLE = "new_tokens.jsonl"


def run(attempt: Path) -> Path:
    """Grow vocabulary and embedding of the parent; returns the model artifact.

    Raises:
        ResidencyError: a tokenizer that cannot grow, a parent that is an adapter, a corpus that is no running text,
            terms without the types that the settings ask for, or no word that is worth a token.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings, parent = VocabSettings.model_validate(stage.settings), stage.parents["model"]
    contract.check_models(stage)
    corpus = _checked(stage, settings)
    known, grown = _terms(stage, settings), Grown(parent)
    tokenizer, sample = load_tokenizer(parent), _sample(corpus)
    if max(tokenizer.get_vocab().values()) >= grown.first_free:
        raise _unlike(stage)
    old = encoder(tokenizer, sample)
    found = words.choose(words.count(corpus), known, settings.tokens, old, grown.token_of)
    if not found:
        raise ResidencyError(
            f"stage {stage.name}: no word of {settings.corpus} is worth a token",
            cure="Its frequent words are tokens already: leave the stage out, or give another corpus or terms",
        )
    model = _load(stage, grown.first_free)
    rows_before = model.get_input_embeddings().weight.shape[0]
    worth = partial(_worth, model, tokenizer, sample, known)
    before = worth(old)
    spare = embedding.grow(model, grown.first_free, _sources(found, settings, known, old))
    model.save_pretrained(payload)
    grown.write([word.token for word in found], payload)
    _write_table(payload / TABLE, found, grown.first_free)
    new = encoder(load_tokenizer(payload), [*sample, *(word.word for word in found)])
    _check_others(stage, old, new, sample, found, grown.first_free)
    measured = {
        "tokens_asked": settings.tokens,
        "tokens_added": len(found),
        "first_new_token": grown.first_free,
        "rows_before": rows_before,
        "rows": model.get_input_embeddings().weight.shape[0],
        "spare_rows_used": spare,
        "before": before,
        "after": worth(new),
    }
    corpora = dict.fromkeys(path for role, path in stage.parents.items() if role != "model")
    learnt = [entry for path in corpora for entry in read_manifest(path).passport]
    entries = passport.of_model(stage, learnt)
    return commit(attempt, payload, "model", owner=owner, measured=measured, passport=entries)


def encoder(tokenizer: Any, sample: list[str]) -> Encode:
    """Texts to ids, with the fastest library that equals the tokenizer on a sample; no special token is added."""
    encode = fastest_exact(tokenizer, sample)[1]

    def ids(texts: list[str]) -> list[list[int]]:
        flat, lengths = encode(texts)
        listed, ends = flat.tolist(), lengths.cumsum().tolist()
        return [listed[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]

    return ids


def _checked(stage: StageFile, settings: VocabSettings) -> Path:
    """The corpus, of running text as the terms' one must be; the parent is no adapter."""
    if base_of(stage.parents["model"])[1]:
        raise ResidencyError(
            f"stage {stage.name}: its parent left an adapter, whose base has no new rows",
            cure="Put a stage of kind merge (method: adapter) before it",
        )
    for name in filter(None, (settings.corpus, settings.terms)):
        corpus = stage.parents.get(f"corpus:{name}")
        if corpus and (schema := schema_of(corpus)) != "text":
            raise ResidencyError(
                f"stage {stage.name}: corpus {name} holds rows of kind {schema}",
                cure="Give one of running text",
            )
    return stage.parents[f"corpus:{settings.corpus}"]


def _terms(stage: StageFile, settings: VocabSettings) -> Terms | None:
    known = None
    if settings.terms and (corpus := stage.parents.get(f"corpus:{settings.terms}")):
        known = terms.gather(([row["text"]] for row in rows(corpus, "train")), f"corpus {settings.terms}")
    elif settings.terms:
        known = terms.read(Path(settings.terms))
    if settings.start == "type" and not (known and known.of_type):
        raise ResidencyError(f"stages.{stage.name}.start = type: {terms.NO_TYPES}", cure=terms.CURE)
    return known


def _sample(corpus: Path) -> list[str]:
    """Texts of the held-out part, or of the training part where nothing is held out."""
    part = rows(corpus, "held_out") if (corpus / "held_out.jsonl").exists() else rows(corpus, "train")
    return _head([row["text"] for row in islice(part, 10_000)], SAMPLE_BYTES)


def _head(texts: list[str], most: int) -> list[str]:
    """The first texts, up to so many bytes; the last one is cut."""
    taken: list[str] = []
    for text in texts:
        taken.append(text.encode()[:most].decode("utf-8", "ignore"))
        most -= len(taken[-1].encode())
        if most <= 0:
            break
    return taken


def _load(stage: StageFile, tokens: int) -> Any:
    """The parent in the type of its file, where it computes fastest."""
    import torch
    from transformers import AutoModelForCausalLM

    parent = stage.parents["model"]
    model: Any = AutoModelForCausalLM.from_pretrained(
        parent, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < tokens:
        raise ResidencyError(
            f"stage {stage.name}: the tokenizer of {parent.name} has {tokens} tokens, its embedding {rows} rows",
            cure="Use the model's own tokenizer",
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _sources(
    found: list[Found], settings: VocabSettings, known: Terms | None, encode: Encode
) -> list[list[list[int]]]:
    """For each word the texts whose rows its own row starts from."""
    by_type: dict[str, list[list[int]]] = {}
    if settings.start == "type" and known:
        by_type = {type_: encode([f" {term}" for term in listed]) for type_, listed in known.of_type.items()}
    return [by_type.get(word.type or "", [word.pieces]) for word in found]


def _worth(
    model: Any, tokenizer: Any, sample: list[str], known: Terms | None, encode: Encode
) -> dict[str, float]:
    """Fertility on text and terms, and bits per byte, with one of the two vocabularies."""
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    bits = fertility.bits_per_byte(model, encode, begin, _head(sample, SCORED_BYTES))
    of_terms = fertility.of_terms(encode, known) if known else {}
    return fertility.of_text(encode, sample) | of_terms | {"bits_per_byte": bits}


def _check_others(
    stage: StageFile, before: Encode, after: Encode, sample: list[str], found: list[Found], first: int
) -> None:
    """The proof on real text: with every new token taken apart the ids are the old ones."""
    for old, new in zip(before(sample), after(sample), strict=True):
        apart = [piece for id in new for piece in (found[id - first].pieces if id >= first else [id])]
        if apart != old:
            raise _unlike(stage)


def _unlike(stage: StageFile) -> ResidencyError:
    return ResidencyError(
        f"stage {stage.name}: transformers loads another tokenizer from {stage.parents['model'].name} than its "
        "tokenizer.json holds",
        cure="Save it again with save_pretrained, so that the file is what the model was trained with",
    )


def _write_table(path: Path, found: list[Found], first: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for place, word in enumerate(found):
            line = {
                "id": first + place,
                "word": word.word,
                "pieces": word.pieces,
                "count": word.count,
                "type": word.type,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
