"""The fastest tokenizer that gives exactly the ids of the model's own. No torch here.

fastokens, then gigatoken, where they are installed (`pip install "residency[curate]"`) and know this kind of
tokenizer, are compared with the Hugging Face one on texts of the corpus at hand and on every spelling of an added
token; the first that differs nowhere does the work, with all cores and without a Python object per token. Otherwise
the Hugging Face tokenizer does it: never other ids for speed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Flat = tuple[NDArray[np.uint32], NDArray[np.int64]]
"""Ids of some texts end to end, and how many belong to each."""
Encode = Callable[[list[str]], Flat]
NEIGHBOURS = ("{0}", "a{0}b", "a {0} b", " {0}\n{0}{0}", "{0} {0}.")  # where an added token may stand
NEWEST = 1000  # tokens of the highest ids that are compared


def fastest_exact(tokenizer: PreTrainedTokenizerFast, sample: list[str]) -> tuple[str, Encode]:
    """Name of the library, and its encoder: no special token added, their spellings read as plain characters.

    Args:
        tokenizer: the model's own, which the others must equal.
        sample: texts to compare on.
    """
    own = hugging_face(tokenizer)
    texts = [*sample, "", *_spellings(tokenizer)]
    ids, lengths = own(texts)
    for name, load in (("fastokens", fastokens), ("gigatoken", gigatoken)):
        try:
            encode = load(tokenizer)
            found, found_lengths = encode(texts)
        except ImportError:
            continue
        except (ValueError, RuntimeError, NotImplementedError):  # a kind of tokenizer that it does not know
            continue
        if np.array_equal(found_lengths, lengths) and np.array_equal(found, ids):
            return name, encode
    return "tokenizers", own


def hugging_face(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """The model's own tokenizer."""

    def encode(texts: list[str]) -> Flat:
        encoded: Any = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )
        lengths = np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64, count=len(texts))
        ids = np.empty(int(lengths.sum()), dtype=np.uint32)
        for document, end, length in zip(encoded["input_ids"], np.cumsum(lengths), lengths, strict=True):
            ids[end - length : end] = document
        return ids, lengths

    return encode


def fastokens(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """The same from fastokens.

    Raises:
        ImportError: it is not installed.
        ValueError: it does not know this kind of tokenizer.
    """
    from fastokens import Tokenizer

    fast = Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())
    fast.no_truncation()
    fast.no_padding()

    def encode(texts: list[str]) -> Flat:
        ids, offsets = fast.encode_batch_flat(texts, add_special_tokens=False, split_special_tokens=True)
        ends = np.frombuffer(offsets, dtype="<u8").astype(np.int64)
        return np.frombuffer(ids, dtype="<u4"), np.diff(ends)

    return encode


def gigatoken(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """The same from gigatoken, which reads a special token's spelling as that token: it is told of none.

    Raises:
        ImportError: it is not installed.
        RuntimeError: it does not know this kind of tokenizer.
    """
    from gigatoken import Tokenizer

    written = json.loads(tokenizer.backend_tokenizer.to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if not token["special"]]
    fast = Tokenizer.from_json(json.dumps(written))

    def encode(texts: list[str]) -> Flat:
        layout = fast.encode_batch(texts).layout
        ends = np.asarray(layout.offsets, dtype=np.int64)
        return np.asarray(layout.content.data[ends[0] : ends[-1]], dtype=np.uint32), np.diff(ends)

    return encode


def _spellings(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Every added token between different neighbours, and the newest ordinary ones, which may be words that only a
    tokenizer's `ignore_merges` finds (`residency.train.vocabulary`)."""
    added = tokenizer.get_added_vocab()
    newest = sorted(set(tokenizer.get_vocab().values()) - set(added.values()))[-NEWEST:]
    texts = [form.format(token) for token in added for form in NEIGHBOURS]
    return texts + [form.format(tokenizer.decode([id])) for id in newest for form in NEIGHBOURS]
