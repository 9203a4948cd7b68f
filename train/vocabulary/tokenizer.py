"""Grows a byte-level BPE tokenizer by whole words, and changes the ids of no other text.

A pre-tokenizer cuts text into words, each with the space before it, before BPE looks inside. A new token is the
spelling of such a word in the vocabulary, and `ignore_merges` tells BPE to take a word that the vocabulary holds as it
is. So a token is used where the very word stands and nowhere else: not inside a longer word, not in other capitals.
Merges could not do that: those of `chol|angitis` would also join the pieces of `cholangiogram`, and need tokens for
each step; nor could added tokens, whose `single_word` cannot hold the space before a word.

`ignore_merges` is on in Llama 3's tokenizer. Where it is off (GPT-2, Qwen), it is turned on only after every word of
the vocabulary proved to be what the merges make of its spelling: then it changes nothing.

Special tokens keep their ids. They are written into the vocabulary too, since `tokenizers` would give those beyond it
the next free ids, which are now the new words'. No torch here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from residency.errors import ResidencyError

Form = dict[str, Any]
"""`tokenizer.json`."""
CURE = "Start from a model with a byte-level BPE tokenizer, such as Llama 3, Qwen or GPT-2"
CARRIED = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def refuse_others(form: Form, place: str) -> None:
    """Only byte-level BPE can grow by whole words.

    Raises:
        ResidencyError: another kind of tokenizer; `place` names it.
    """
    model = form["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else "unknown")
    if kind != "BPE":
        raise ResidencyError(f"{place}: a tokenizer of kind {kind} cannot get new words", cure=CURE)
    if not (_has_byte_level(form.get("pre_tokenizer")) and _has_byte_level(form.get("decoder"))):
        raise ResidencyError(
            f"{place}: its BPE does not work on bytes (sentencepiece: Llama 2, Gemma); "
            "words are not cut out before it, so none can be added without changing others",
            cure=CURE,
        )
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise ResidencyError(f"{place}: its BPE has {key} = {model[key]}", cure=CURE)


def _has_byte_level(part: Any) -> bool:
    if not part:
        return False
    parts = part.get("pretokenizers") or part.get("decoders") or [part]
    return any(inner["type"] == "ByteLevel" for inner in parts)


class Grown:
    """A tokenizer that new words can be written into.

    Attributes:
        first_free: the id of the first new token, one above all that the tokenizer has.
    """

    def __init__(self, directory: Path) -> None:
        """Reads the tokenizer of a model directory.

        Raises:
            ResidencyError: one that cannot grow.
        """
        from tokenizers import Tokenizer

        self.directory = directory
        self.form: Form = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
        refuse_others(self.form, f"the tokenizer of {directory.name}")
        self._tokenizer = Tokenizer.from_str(json.dumps(self.form))
        self._vocabulary: dict[str, int] = self.form["model"]["vocab"]
        added = self.form.get("added_tokens", [])
        self._vocabulary |= {token["content"]: token["id"] for token in added}
        for token in added:
            self._refuse_plain(token["content"])
        self._take_words_whole()
        self.first_free = max(self._vocabulary.values()) + 1

    def token_of(self, word: str) -> str | None:
        """Spelling of a word in the vocabulary; None where the tokenizer would not meet it whole, or knows it."""
        parts = self._words(word)
        known = len(parts) != 1 or parts[0] in self._vocabulary
        return None if known or parts[0] != spelling(word) else parts[0]

    def write(self, tokens: list[str], target: Path) -> None:
        """Write the tokenizer with new tokens into a model directory that holds a `config.json`.

        Raises:
            ResidencyError: transformers would load another tokenizer from there.
        """
        new = {token: self.first_free + place for place, token in enumerate(tokens)}
        model = self.form["model"] | {"vocab": self._vocabulary | new, "ignore_merges": True}
        written = json.dumps(self.form | {"model": model}, ensure_ascii=False)
        (target / "tokenizer.json").write_text(written, encoding="utf-8")
        for name in CARRIED:
            if (self.directory / name).exists():
                shutil.copyfile(self.directory / name, target / name)
        path = target / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # A class of its own (Qwen2Tokenizer, GPT2Tokenizer) would build BPE anew and leave `ignore_merges` out.
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        # For some models transformers takes that class all the same (`MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS` of
        # 5.x), unless the settings name code of their own; there is none, and none would be run.
        for more in ({}, {"auto_map": {"AutoTokenizer": [None, None]}}):
            path.write_text(json.dumps(settings | more, indent=2), encoding="utf-8")
            if _loaded(target, list(new)) == list(new.values()):
                return
        raise ResidencyError(
            f"transformers loads the tokenizer of {self.directory.name} with code of its own, "
            "in which new words are lost",
            cure=CURE,
        )

    def _words(self, text: str) -> list[str]:
        if self._tokenizer.normalizer:
            text = self._tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def _refuse_plain(self, content: str) -> None:
        """In the vocabulary, a special token that is a plain word would be found in running text."""
        if self._words(content) == [content] and content not in self._tokenizer.get_vocab(False):
            raise ResidencyError(
                f"the tokenizer of {self.directory.name} has an added token that is a plain word: {content!r}",
                cure=CURE,
            )

    def _take_words_whole(self) -> None:
        if self.form["model"].get("ignore_merges"):
            return
        model, decode = self._tokenizer.model, self._tokenizer.decoder.decode
        for token, id in self._tokenizer.get_vocab(False).items():
            made = [piece.id for piece in model.tokenize(token)]
            if made != [id] and self._words(decode([token])) == [token]:
                raise ResidencyError(
                    f"the tokenizer of {self.directory.name} never writes its token {token!r}: "
                    "to take words whole would change how text is written",
                    cure=CURE,
                )


def spelling(word: str) -> str:
    """A text in the alphabet of byte-level BPE: ` é` is `ĠÃ©`."""
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(
        part for part, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    )


def _loaded(directory: Path, tokens: list[str]) -> list[int | None]:
    """Ids of words as the tokenizer writes them that transformers loads, None for one that it takes apart."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    backend = tokenizer.backend_tokenizer
    decode = backend.decoder.decode
    written = [backend.encode(decode([token]), add_special_tokens=False).ids for token in tokens]
    return [ids[0] if len(ids) == 1 else None for ids in written]
