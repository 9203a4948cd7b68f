"""What is chosen among replies: the best of a ranking, pairs of a better and a worse one, steps with their values. No
torch here.

The rows come from a `sample` stage (`ranked`), from a `tree` stage (`tree`), or are rankings of any origin. A tree is a
list of nodes, each with the place of its `parent` (null for a first step), its `text`, the `value` and `visits` that
search gave it, whether the reply `end`s there and is then `correct`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from residency.data.synthesis.settings import BestSettings, PairsOfSettings, StepsSettings
from residency.errors import ResidencyError

Row = dict[str, Any]
KINDS = {"best": ("ranked", "tree"), "pairs": ("ranked", "tree"), "steps": ("tree",)}
"""Schemas that each kind of selection reads."""


def selected(
    settings: BestSettings | PairsOfSettings | StepsSettings,
    rows: Iterable[Row],
    left_out: Counter[str],
    corpus: str,
) -> Iterator[tuple[Row, Row]]:
    """Each row with every row that is made of it, whose `id` is one within it; a row that gives none is counted.

    Raises:
        ResidencyError: a score is asked for, and the replies have none.
    """
    for row in rows:
        found = 0
        for made in _made(settings, row, corpus):
            found += 1
            yield row, made
        if not found:
            left_out[_reason(settings, row)] += 1


def _made(settings: BestSettings | PairsOfSettings | StepsSettings, row: Row, corpus: str) -> Iterator[Row]:
    if isinstance(settings, BestSettings):
        found = (
            _right_paths(row) if "nodes" in row else _whole_replies(row, settings.least is not None, corpus)
        )
        good = [text for text, score in found if settings.least is None or score >= settings.least]
        for number, text in enumerate(good[: settings.top]):
            yield {"id": f"best-{number}", "messages": [*row["prompt"], _said(text)]}
    elif isinstance(settings, PairsOfSettings):
        yield from (
            _step_pairs(row, settings.margin) if "nodes" in row else _pair(row, settings.margin, corpus)
        )
    else:
        yield from _valued_paths(row, settings.visits)


def _reason(settings: BestSettings | PairsOfSettings | StepsSettings, row: Row) -> str:
    if "nodes" in row and not row["nodes"]:
        return "no step was written"
    if isinstance(settings, StepsSettings):
        return "no step was visited enough"
    if isinstance(settings, PairsOfSettings):
        return "no two steps differ enough" if "nodes" in row else "no two replies differ enough"
    if "nodes" in row:
        return "no reasoning ends right" if not any(_right_paths(row)) else "no reasoning is good enough"
    return "every reply was cut off" if all(row.get("truncated", [False])) else "no reply is good enough"


def _whole_replies(row: Row, by_score: bool, corpus: str) -> Iterator[tuple[str, float]]:
    """Replies that were not cut off with their scores, best first; without scores in their order."""
    if by_score and row.get("scores") is None:
        raise ResidencyError(
            f"corpus {corpus}: the replies of row {row['id']} have no scores",
            cure="Give the sample stage rewards, or take least and margin out",
        )
    cut = row.get("truncated") or [False] * len(row["replies"])
    scores = row.get("scores") or [-float(rank) for rank in row["ranks"]]
    for text, score, truncated in zip(row["replies"], scores, cut, strict=True):
        if not truncated:
            yield text, score


def _pair(row: Row, margin: float, corpus: str) -> Iterator[Row]:
    whole = list(_whole_replies(row, margin > 0, corpus))
    if not whole:
        return
    (chosen, best), (rejected, worst) = whole[0], whole[-1]
    if best > worst and best - worst >= margin:
        told = {"margin": best - worst} if row.get("scores") is not None else {}
        yield {"id": "pair", **_asked(row), "chosen": [_said(chosen)], "rejected": [_said(rejected)], **told}


def _right_paths(row: Row) -> list[tuple[str, float]]:
    """Reasoning that ends right with the mean value of its steps, best first."""
    nodes = row["nodes"]
    found: dict[str, float] = {}
    for place, node in enumerate(nodes):
        if node["correct"]:
            path = _path(nodes, place)
            found.setdefault(_text(nodes, path), sum(nodes[step]["value"] for step in path) / len(path))
    return sorted(found.items(), key=lambda each: -each[1])


def _step_pairs(row: Row, margin: float) -> Iterator[Row]:
    """From each point of the tree the best against the worst next step."""
    nodes = row["nodes"]
    nexts: dict[int | None, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        nexts[node["parent"]].append(place)
    for parent, steps in nexts.items():
        better = max(steps, key=lambda place: nodes[place]["value"])
        worse = min(steps, key=lambda place: nodes[place]["value"])
        gap = nodes[better]["value"] - nodes[worse]["value"]
        if gap > 0 and gap >= margin:
            chosen, rejected = (_text(nodes, _path(nodes, place)) for place in (better, worse))
            yield {
                "id": "start" if parent is None else f"step-{parent}",
                **_asked(row),
                "chosen": [_said(chosen)],
                "rejected": [_said(rejected)],
                "unfinished": not (nodes[better]["end"] and nodes[worse]["end"]),
                "margin": gap,
            }


def _valued_paths(row: Row, visits: int) -> Iterator[Row]:
    """Every path from the first step to where the tree, or what was visited enough of it, ends."""
    nodes = row["nodes"]
    kept = [
        place for place, node in enumerate(nodes) if node["visits"] >= visits
    ]  # a parent's are never fewer
    inner = {nodes[place]["parent"] for place in kept}
    for place in kept:
        if place not in inner:
            path = _path(nodes, place)
            yield {
                "id": f"path-{place}",
                **_asked(row),
                "steps": [nodes[step]["text"] for step in path],
                "values": [nodes[step]["value"] for step in path],
            }


def _path(nodes: list[Row], place: int | None) -> list[int]:
    """Places of the nodes from a first step to one node."""
    path: list[int] = []
    while place is not None:
        path.append(place)
        place = nodes[place]["parent"]
    return path[::-1]


def _text(nodes: list[Row], path: list[int]) -> str:
    return "".join(nodes[place]["text"] for place in path)


def _asked(row: Row) -> Row:
    return {"prompt": row["prompt"], "cluster": row.get("cluster") or row["id"]}


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
