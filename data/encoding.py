"""Rows to token ids, and which of the ids carry loss.

Running text: BOS, the text, EOS; all but BOS carry loss. A special token's spelling inside the text is
encoded as the plain characters it is. Dialogues: the chat template's text; loss is on what the template marks
with `{% generation %}`, the assistant's words and its stop token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.data.fast_tokenizer import fastest_exact
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]
MARK = (
    "Set chat_template to a copy with {% generation %} and {% endgeneration %} around the assistant's words"
)
Encoded = tuple[list[NDArray[np.uint32]], list[NDArray[np.uint8]]]
"""Ids and loss mask (1 = carries loss) of some rows, in their order: `[tokens]` each."""


class TextEncoder:
    """Encodes rows with `text`.

    Attributes:
        library: what turns text into ids, see `residency.data.fast_tokenizer`.
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

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: str, template: str | None) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.template = training_template(tokenizer, model, template)

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
        ids = [np.asarray(document, dtype=np.uint32) for document in encoded["input_ids"]]
        return ids, [np.asarray(mask, dtype=np.uint8) for mask in masks]


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
