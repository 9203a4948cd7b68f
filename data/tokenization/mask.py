"""Which tokens of a text or a dialogue carry loss, token by token. Imports torch with the tokenizer it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from residency.data.rows.fields import Row
from residency.data.tokenization.encoding import DialogueEncoder, TextEncoder, is_stop, stretches
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BATCH = 64


@dataclass(frozen=True)
class Piece:
    """Text of one token, or of several that only together make whole characters."""

    text: str
    tokens: int
    loss: bool


@dataclass(frozen=True)
class Ends:
    """How the stretches with loss end."""

    token: str
    """The stop token, or what stands where one is expected."""
    learnt: int
    """Stretches whose last token is a stop token, and carries loss."""
    stretches: int


class Masker:
    """Encodes rows as a training stage does."""

    def __init__(
        self,
        schema: str,
        tokenizer: PreTrainedTokenizerFast,
        model: str,
        template: str | None,
        sample: list[Row],
    ) -> None:
        """
        Args:
            sample: rows on which a faster tokenizer is compared with this one.

        Raises:
            ResidencyError: neither text nor dialogues; as the encoders.
        """
        self.tokenizer = tokenizer
        self.encode: TextEncoder | DialogueEncoder
        if schema == "text":
            self.encode = TextEncoder(tokenizer, model, [row["text"] for row in sample])
        elif schema == "messages":
            self.encode = DialogueEncoder(tokenizer, model, template, strict=False)
        else:
            raise ResidencyError(
                f"rows of kind {schema} have no loss mask of their own",
                cure="Show text or dialogues with --mask",
            )

    def __call__(self, rows: list[Row]) -> Iterator[tuple[list[int], list[bool]]]:
        """Ids of each row, and whether each carries loss.

        Raises:
            ResidencyError: the chat template refuses a dialogue.
        """
        from jinja2 import TemplateError

        for at in range(0, len(rows), BATCH):
            some = rows[at : at + BATCH]
            try:
                encoded = self.encode(some)
            except TemplateError as error:
                raise ResidencyError(
                    f"the chat template refuses one of the dialogues {some[0]['id']} to {some[-1]['id']}: {error}"
                ) from error
            for ids, mask in zip(*encoded, strict=True):
                yield [int(id) for id in ids], [bool(loss) for loss in mask]

    def pieces(self, ids: Sequence[int], mask: Sequence[bool]) -> list[Piece]:
        """The tokens as text."""
        found, start, shown = [], 0, 0
        for end in range(1, len(ids) + 1):
            # With the piece before: some tokenizers drop the blank before a first word.
            before, text = self._decode(ids[start:shown]), self._decode(ids[start:end])
            if text.endswith("\ufffd") and end < len(ids):
                continue
            found.append(Piece(text[len(before) :], end - shown, any(mask[shown:end])))
            start, shown = shown, end
        return found

    def ends(self, ids: Sequence[int], mask: Sequence[bool]) -> Ends:
        """Whether the stretches with loss (the document, or each reply) end with a stop token."""
        token, learnt, found = "", 0, stretches(mask)
        for _, end in found:
            last, behind = ids[end - 1], ids[end : end + 1]
            stops = is_stop(self.tokenizer, last)
            learnt += stops
            named = behind[0] if behind and not stops and is_stop(self.tokenizer, behind[0]) else last
            token = self._decode([named])
        return Ends(token, learnt, len(found))

    def _decode(self, ids: Sequence[int]) -> str:
        text: Any = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)
