"""Where the steps of a reply end, as token ids. No torch here."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from residency.data.rows.stepwise import with_line_ends
from residency.data.tokenization.rendering import Message, Renderer
from residency.errors import ResidencyError


def step_ends(renderer: Renderer, prompt: list[Message], steps: list[str]) -> tuple[list[int], list[int]]:
    """Ids of a prompt and the steps of its reply, and the place of each step's last token.

    The reply is rendered whole, as it would be trained and generated: a step's last token is the one that holds its
    last character that is no white space.

    Raises:
        ResidencyError: an empty step, or a template that changes what the assistant says.
    """
    steps = with_line_ends(steps)
    if not all(step.strip() for step in steps):
        raise ResidencyError(f"an empty step in the reply {steps!r}", cure="Take it out")
    said = "".join(steps)
    chat = [*prompt, {"role": "assistant", "content": said}]
    how: dict[str, Any] = {"chat_template": renderer.template}
    text, asked = (
        str(renderer.tokenizer.apply_chat_template(messages, tokenize=False, **how, **more))
        for messages, more in ((chat, {}), (prompt, {"add_generation_prompt": True}))
    )
    encoded: Any = renderer.tokenizer.apply_chat_template(
        chat, return_dict=True, tokenizer_kwargs={"return_offsets_mapping": True, "verbose": False}, **how
    )
    spans: list[tuple[int, int]] = encoded["offset_mapping"]
    start = text.find(said.strip(), len(asked)) if text.startswith(asked) else text.rfind(said.strip())
    if start < 0:
        raise ResidencyError(
            f"the chat template of {renderer.model} changes the reply {said[:60]!r}",
            cure="Set chat_template to one that leaves the assistant's words as they are",
        )
    left = len(said) - len(said.lstrip())
    lasts = [start - left + len(told.rstrip()) - 1 for told in accumulate(steps)]
    ends, token = [], len(spans) - 1
    for last in reversed(lasts):  # several tokens may share one character: the last of them ends it
        while spans[token][0] > last or spans[token][1] <= last:
            token -= 1
        ends.append(token)
    ends.reverse()
    return list(encoded["input_ids"])[: ends[-1] + 1], ends
