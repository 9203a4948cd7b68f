"""Monte Carlo tree search over the steps of one prompt's reasoning; it asks for replies and never writes itself.

A simulation goes down by UCT (doi 10.1007/11871842_29) to a step from which nothing was tried yet, tries `branches`
next steps there, follows one of them to the end of the reply (the roll-out), and adds whether the end is right to all
steps on the way: a step's value is the mean over the simulations that passed it, as in MedS3 (arXiv 2501.12051). Steps
of a roll-out join the tree, since nothing that was written is thrown away. What is ended or as deep as allowed is never
visited twice. `search` is a generator: it yields what is to be written and gets the replies, so that many prompts'
searches advance together. No torch here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from residency.train.settings import TreeSettings

if TYPE_CHECKING:
    from residency.generation.generate import Reply


MOST_BEFORE = 3
"""Ends of a step that may stand before one."""


@dataclass(frozen=True)
class Wanted:
    """What is to be written behind some steps."""

    text: str
    """The steps so far."""
    samples: tuple[int, ...]
    """Numbers of the replies; the same number behind the same text gives the same reply."""
    tokens: int
    """At most so many."""
    one_step: bool
    """Stop where the step ends, not the reply."""


@dataclass
class Node:
    """A step; the root is the prompt."""

    parent: Node | None
    text: str
    depth: int
    end: bool = False
    """Whether the reply ends with it."""
    correct: bool | None = None
    """Whether the answer of a reply that ends here is right."""
    total: float = 0.0
    visits: int = 0
    tried: bool = False
    """Whether next steps were tried."""
    closed: bool = False
    """Nothing is left to be found from here."""
    children: list[Node] = field(default_factory=list)

    @property
    def said(self) -> str:
        """The reply up to here."""
        return self.text if self.parent is None else self.parent.said + self.text

    def add(self, text: str, *, end: bool) -> Node:
        """A next step, known ones found again."""
        known = next((child for child in self.children if child.text == text and child.end == end), None)
        if known is None:
            known = Node(self, text, self.depth + 1, end)
            self.children.append(known)
        return known


Search = Generator[Wanted, "list[Reply]", "Tree"]


@dataclass
class Tree:
    """A finished search."""

    root: Node
    counts: Counter[str]
    """Simulations, and what had to be thrown away."""

    def rows(self) -> list[dict[str, Any]]:
        """The visited steps, parents first: `parent` is a place in this list, or None for a first step."""
        rows: list[dict[str, Any]] = []
        waiting: list[tuple[Node, int | None]] = [(child, None) for child in self.root.children]
        while waiting:
            node, parent = waiting.pop(0)
            if node.visits:
                waiting += [(child, len(rows)) for child in node.children]
                value = round(node.total / node.visits, 6)
                rows.append(
                    {
                        "parent": parent, "text": node.text, "value": value, "visits": node.visits,
                        "end": node.end, "correct": node.correct,
                    }
                )  # fmt: skip
        return rows


def search(
    settings: TreeSettings, is_right: Callable[[str], bool], tokens_of: Callable[[str], int]
) -> Search:
    """Search from one prompt.

    Args:
        is_right: whether a whole reply gives the right answer.
        tokens_of: length of a text.
    """
    root, counts = Node(None, "", 0), Counter[str]()
    while counts["simulations"] < settings.simulations and not root.closed:
        node = _select(root, settings.exploration)
        if not node.visits and node is not root:
            counts["simulations"] += 1
            leaf = yield from _roll_out(node, settings, tokens_of, counts)
            _close(leaf, settings.depth)
            _add(leaf, leaf.end and _judge(leaf, is_right))
        else:
            yield from _try_steps(node, settings, tokens_of, counts)
    return Tree(root, counts)


def _select(root: Node, exploration: float) -> Node:
    """Down the tree to a step that was not visited, or from which nothing was tried."""
    node = root
    while (node is root or node.visits) and node.tried:
        node = max(
            (child for child in node.children if not child.closed), key=lambda child: _uct(child, exploration)
        )
    return node


def _uct(node: Node, exploration: float) -> float:
    if not node.visits:
        return math.inf
    assert node.parent is not None
    return node.total / node.visits + exploration * math.sqrt(math.log(node.parent.visits) / node.visits)


def _try_steps(
    node: Node, settings: TreeSettings, tokens_of: Callable[[str], int], counts: Counter[str]
) -> Generator[Wanted, list[Reply], None]:
    """Give a node its next steps; steps without text or without an end are dropped and counted.

    What ends a step and stands before it (the second line end of a blank line) belongs to it.
    """
    samples, before = tuple(range(settings.branches)), ""
    while samples:
        left = max(1, settings.max_step_tokens - tokens_of(before))
        wanted = Wanted(node.said + before, samples, left, one_step=True)
        not_begun = []
        for sample, reply in zip(samples, (yield wanted), strict=False):
            if reply.truncated:
                counts["cut step"] += 1
            elif reply.stopped and not reply.text and len(before) < MOST_BEFORE * len(settings.step_end):
                not_begun.append(sample)
            elif not reply.is_text:
                counts["step without text"] += 1
            elif len(node.children) < settings.branches:
                node.add(before + reply.text + settings.step_end * reply.stopped, end=not reply.stopped)
        samples, before = tuple(not_begun), before + settings.step_end
    node.tried = True
    _close(node, settings.depth)


def _roll_out(
    node: Node, settings: TreeSettings, tokens_of: Callable[[str], int], counts: Counter[str]
) -> Generator[Wanted, list[Reply], Node]:
    """Write on from a step to the end of the reply; returns the last step that was reached."""
    left = settings.depth - node.depth
    if node.end or not left:
        return node
    [reply] = yield Wanted(node.said, (settings.branches,), left * settings.max_step_tokens, one_step=False)
    steps = split(reply.text, settings.step_end)
    whole = steps[:-1] if reply.truncated else steps
    good = list(
        takewhile(lambda step: "\0" not in step and tokens_of(step) <= settings.max_step_tokens, whole)
    )[:left]
    ended = not reply.truncated and len(good) == len(steps)
    if not ended:
        counts["cut reply"] += 1
    elif not steps:
        node.end = True  # the reply ended where the step did
    for number, text in enumerate(good, 1):
        node = node.add(text, end=ended and number == len(good))
    return node


def split(text: str, step_end: str) -> list[str]:
    """The steps of a text, each with what ends it; put together they are the text. Blank ones join the next step, those
    at the end the last."""
    steps: list[str] = []
    *whole, last = text.split(step_end)
    for step in [*(one + step_end for one in whole), *([last] if last else [])]:
        if steps and not steps[-1].strip():
            steps[-1] += step
        else:
            steps.append(step)
    if len(steps) > 1 and not steps[-1].strip():
        steps[-2:] = ["".join(steps[-2:])]
    return steps if text.strip() else []


def _judge(leaf: Node, is_right: Callable[[str], bool]) -> bool:
    leaf.correct = is_right(leaf.said)
    return leaf.correct


def _add(leaf: Node, outcome: float) -> None:
    """Pass the outcome of a simulation up."""
    node: Node | None = leaf
    while node is not None:
        node.visits += 1
        node.total += outcome
        node = node.parent


def _close(node: Node, depth: int) -> None:
    """Close a step that leads nowhere new, and all before it that then do not either."""
    at: Node | None = node
    while at is not None and _is_spent(at, depth):
        at.closed = True
        at = at.parent


def _is_spent(node: Node, depth: int) -> bool:
    return node.end or node.depth == depth or (node.tried and all(child.closed for child in node.children))
