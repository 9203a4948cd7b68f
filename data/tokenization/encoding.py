"""Rows to token ids, and which of the ids carry loss.

Running text: BOS, the text, EOS; all but BOS carry loss. A special token's spelling inside the text is
encoded as the plain characters it is. Dialogues: the chat template's text; loss is on what the template marks
with `{% generation %}`, the assistant's words and its stop token. What the model will be asked with, the conversation
so far and the template's beginning of a reply, has to be the beginning of what is trained, to the token, and the loss
has to begin there and end in a stop token: otherwise the loss looks fine, and the model never answers, or never ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.data.tokenization.fast_tokenizer import fastest_exact
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]
MARK = (
    "Set chat_template to a copy with {% generation %} and {% endgeneration %} around the assistant's words"
)
Encoded = tuple[list[NDArray[np.uint32]], list[NDArray[np.uint8]]]
"""Ids and loss mask (1 = carries loss) of some rows, in their order: `[tokens]` each."""
SEVERAL = 50  # dialogues of several replies in which every prompt is rendered alone too


class TextEncoder:
    """Encodes rows with `text`.

    Attributes:
        library: what turns text into ids, see `residency.data.tokenization.fast_tokenizer`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: str, sample: list[str]) -> None:
        """`sample`: texts of the corpus on which a faster library must equal the tokenizer."""
        if tokenizer.eos_token_id is None:
            raise ResidencyError(
                f"the tokenizer of {model} has no eos_token: documents would not end", cure="Name one"
            )
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.begin = np.asarray(begin, dtype=np.uint32)
        self.end = np.asarray([tokenizer.eos_token_id], dtype=np.uint32)
        self.library, self._encode = fastest_exact(tokenizer, sample)

    def __call__(self, rows: list[Row]) -> Encoded:
        flat, lengths = self._encode([row["text"] for row in rows])
        documents = np.split(flat, np.cumsum(lengths)[:-1])
        ids = [np.concatenate([self.begin, document, self.end]) for document in documents]
        loss = [np.ones(len(document), dtype=np.uint8) for document in ids]
        for mask in loss:
            mask[: len(self.begin)] = 0
        return ids, loss


class DialogueEncoder:
    """Encodes rows with `messages`; the mask needs the characters of each token, which only `tokenizers` gives."""

    library = "tokenizers"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        model: str,
        template: str | None,
        *,
        sample: Sequence[Row] = (),
        strict: bool = True,
    ) -> None:
        """
        Args:
            sample: rows in which every prompt is compared with what is trained.
            strict: refuse replies that end in no stop token; `--mask` tells of them instead.

        Raises:
            ResidencyError: no template, or one with which the model would be asked in another way than it was trained.
        """
        self.tokenizer, self.model, self.strict = tokenizer, model, strict
        self.template = training_template(tokenizer, model, template)
        self.asked = template or own_template(tokenizer)
        self.stops: set[int] = set()
        """Stop tokens that some reply ended in."""
        self._several = 0  # dialogues of several replies that were encoded
        if strict and sample:
            for row, ids, mask in zip(sample, *self(list(sample)), strict=True):
                self._check_prompts(row, ids.tolist(), mask.tolist())

    def __call__(self, rows: list[Row]) -> Encoded:
        encoded: Any = self.tokenizer.apply_chat_template(
            [row["messages"] for row in rows],
            chat_template=self.template,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_attention_mask": False, "verbose": False},
        )
        masks: list[list[int]] = encoded["assistant_masks"]
        for row, mask in zip(rows, masks, strict=True):
            if not any(mask):
                raise ResidencyError(
                    f"dialogue {row['id']}: the template of {self.model} marks no token of the assistant",
                    cure=MARK,
                )
        if self.strict:
            for row, document, mask in zip(rows, encoded["input_ids"], masks, strict=True):
                self._check_stops(row, document, mask)
                if self._is_peculiar(row):
                    self._check_prompts(row, document, mask)
        ids = [np.asarray(document, dtype=np.uint32) for document in encoded["input_ids"]]
        return ids, [np.asarray(mask, dtype=np.uint8) for mask in masks]

    def _is_peculiar(self, row: Row) -> bool:
        """Whether a sample may tell nothing of a dialogue: a reply that begins with blanks, which may melt into the
        prompt's last token, and the first dialogues of several replies, of which templates may leave parts out."""
        said = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        self._several += len(said) > 1
        return any(reply != reply.lstrip() for reply in said) or (len(said) > 1 and self._several <= SEVERAL)

    def _check_stops(self, row: Row, ids: list[int], mask: list[int]) -> None:
        for start, end in stretches(mask):
            last = end - 1
            while last > start and not is_stop(self.tokenizer, ids[last]) and self._blank(ids[last]):
                last -= 1  # some templates mark the line break behind the stop token too
            if not is_stop(self.tokenizer, ids[last]):
                raise ResidencyError(
                    f"dialogue {row['id']}: with the chat template of {self.model} a reply ends in "
                    f"{self.tokenizer.decode(ids[max(start, end - 8) : end])!r}, in no stop token that carries loss: "
                    "the model would not learn to end",
                    cure="Set chat_template to one that writes a special token inside {% generation %}",
                )
            self.stops.add(ids[last])

    def _check_prompts(self, row: Row, ids: list[int], mask: list[int]) -> None:
        """Every reply's prompt, rendered alone, is the beginning of the dialogue up to where its loss begins."""
        begins = [start for start, _ in stretches(mask)]
        turns = [at for at, message in enumerate(row["messages"]) if message["role"] == "assistant"]
        if len(begins) != len(turns):
            raise ResidencyError(
                f"dialogue {row['id']}: the chat template of {self.model} marks {len(begins)} replies of {len(turns)}",
                cure=MARK,
            )
        for turn, begin in zip(turns, begins, strict=True):
            before = row["messages"][:turn]
            prompt = self._asked(before, add_generation_prompt=True)
            # Loss on the header that the prompt ends with does no harm: some of TRL's templates have it.
            header = len(prompt) - len(self._asked(before))
            if prompt == ids[: len(prompt)] and 0 <= len(prompt) - begin <= header:
                continue
            at = next(
                (at for at, pair in enumerate(zip(prompt, ids, strict=False)) if len(set(pair)) > 1), begin
            )
            asked, trained = (
                self.tokenizer.decode(part[max(0, at - 4) : at + 12]) for part in (prompt, ids[:begin])
            )
            raise ResidencyError(
                f"dialogue {row['id']}, message {turn + 1}: with the chat template of {self.model} the model would "
                f"be asked with ...{asked!r}, but is trained to answer behind ...{trained!r}",
                cure="Set chat_template to one whose generation prompt is the beginning of what is trained, "
                "or take blanks at the beginning of replies out",
            )

    def _asked(self, messages: list[Row], **how: Any) -> list[int]:
        encoded: Any = self.tokenizer.apply_chat_template(
            messages, chat_template=self.asked, return_dict=True, tokenizer_kwargs={"verbose": False}, **how
        )
        return list(encoded["input_ids"])

    def _blank(self, id: int) -> bool:
        return not str(self.tokenizer.decode([id])).strip()


def stretches(mask: Sequence[int]) -> list[tuple[int, int]]:
    """Where each stretch of tokens with loss begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, dtype=np.int8), [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def is_stop(tokenizer: PreTrainedTokenizerFast, id: int) -> bool:
    """Whether a token can end a reply: the end of sequence, or another special token."""
    added: Any = tokenizer.added_tokens_decoder.get(id)
    return id == tokenizer.eos_token_id or (added is not None and added.special)


def training_template(tokenizer: PreTrainedTokenizerFast, model: str, template: str | None) -> str:
    """The template in force (`template`, else the tokenizer's own) with the assistant's words marked.

    A known template without marks is replaced by its marked twin, `trl.chat_template_utils`.

    Raises:
        ResidencyError: there is none, or one without marks that trl does not know.
    """
    template = template or own_template(tokenizer)
    if template is None:
        raise ResidencyError(
            f"{model} has no chat template",
            cure="Set chat_template to a Jinja file in the stage that trains on dialogues",
        )
    if "generation %}" in template or "generation -%}" in template:
        return template
    from trl.chat_template_utils import get_training_chat_template

    before, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        return str(get_training_chat_template(tokenizer) or template)
    except ValueError as error:
        raise ResidencyError(
            f"the chat template of {model} does not mark what the assistant says",
            cure=MARK,
        ) from error
    finally:
        tokenizer.chat_template = before


def own_template(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The tokenizer's chat template; the default one where it has several."""
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template
