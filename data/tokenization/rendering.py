"""Conversations as token ids, in the model's chat template: a prompt, and a reply behind it.

Training and generation must see the same: a prompt that is rendered alone, as it will be when the model answers, has
to be the beginning of prompt and reply together. This is checked for every row. Truncation never happens here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from residency.data.tokenization.encoding import own_template
from residency.errors import ResidencyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, str]


class Renderer:
    """Renders conversations with one tokenizer and one chat template.

    Attributes:
        template: Jinja text in force.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: str, template: str | None) -> None:
        """`template` instead of the tokenizer's own one.

        Raises:
            ResidencyError: the model (named `model` in the message) has no chat template.
        """
        found = template or own_template(tokenizer)
        if found is None:
            raise ResidencyError(
                f"{model} has no chat template",
                cure="Set chat_template to a Jinja file in an sft stage above",
            )
        self.tokenizer, self.model, self.template = tokenizer, model, found

    def prompt(self, messages: list[Message]) -> list[int]:
        """Ids of a prompt, up to where the assistant's reply begins."""
        return self._ids(messages, add_generation_prompt=True)

    def conversation(self, messages: list[Message], *, unfinished: bool = False) -> list[int]:
        """Ids of a conversation that ends with a reply, unchecked: of whatever a model may say."""
        return self._ids(messages, continue_final_message=unfinished)

    def reply(
        self, prompt: list[Message], reply: list[Message], *, unfinished: bool = False
    ) -> tuple[list[int], list[int]]:
        """Ids of the prompt, and of the reply with its stop token (without, if it is `unfinished`).

        Raises:
            ResidencyError: the template renders the prompt in another way when a reply follows.
        """
        asked, whole = self.prompt(prompt), self.conversation(prompt + reply, unfinished=unfinished)
        if whole[: len(asked)] != asked:
            alone, within = (
                self.tokenizer.decode(ids[max(len(asked) - 8, 0) : len(asked)]) for ids in (asked, whole)
            )
            raise ResidencyError(
                f"the chat template of {self.model} renders a prompt in another way when a reply follows: "
                f"it ends in {alone!r} alone, in {within!r} before a reply",
                cure="Set chat_template to one whose generation prompt is the beginning of what is trained",
            )
        return asked, whole[len(asked) :]

    def _ids(self, messages: list[Message], **how: Any) -> list[int]:
        encoded: Any = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.template,
            return_dict=True,
            tokenizer_kwargs={"verbose": False},
            **how,
        )
        return list(encoded["input_ids"])
