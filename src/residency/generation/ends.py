"""Where a chat template ends the assistant's turn: one rule for the hand-off contract, which has files only, and for
generation, which has a tokenizer. No torch here."""

from __future__ import annotations

from collections.abc import Collection

SAID = "qwxzy"
EXCHANGE = [{"role": "user", "content": "question"}, {"role": "assistant", "content": SAID}]
"""A question and an answer, to be rendered."""


def turn_end(rendered: str, added: Collection[str]) -> str | None:
    """The added token that stands behind the assistant's words, the longest where one begins with another.

    Args:
        rendered: text of `EXCHANGE`.
        added: the tokens that text is never cut inside of.
    """
    behind = rendered.rpartition(SAID)[2].strip()
    return max((token for token in added if token and behind.startswith(token)), key=len, default=None)
