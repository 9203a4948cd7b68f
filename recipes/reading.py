"""Reads a recipe file: YAML 1.2 without its traps, `extends`, and `key=value` overrides.

The YAML is composed by ruamel and turned into plain values here, so that every key keeps its file and line for
error messages and what readers trip over is refused: a key given twice, `010`, tags, aliases. `1e-5` is a number;
`12:30` and `no` are text, as YAML 1.2 says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from residency.errors import ResidencyError

LARGEST_FILE_BYTES = 1_000_000
Path_ = tuple[str | int, ...]


@dataclass
class Raw:
    """A recipe as written: plain values, and where each key stands (`file:line`)."""

    values: dict[str, Any]
    places: dict[Path_, str] = field(default_factory=dict)

    def place(self, path: Path_) -> str:
        """File and line of the key at `path`, or of the nearest key above it."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, "recipe")


def read(path: Path, overrides: list[str] | None = None) -> Raw:
    """A recipe with its `extends` and overrides applied.

    Raises:
        ResidencyError: no file, no YAML, a trap, or an override that is no `key=value`.
    """
    path = find(path)
    raw = read_file(path)
    parent = raw.values.pop("extends", None)
    if parent is not None:
        below = read_file(path.parent / str(parent))
        if "extends" in below.values:
            raise ResidencyError(
                f"{raw.place(('extends',))}: extends: {parent} extends another recipe itself",
                cure="One level at most: extend the recipe at its root",
            )
        raw = Raw(merge(below.values, raw.values), {**below.places, **raw.places})
    for override in overrides or []:
        _override(raw, override)
    return raw


def find(path: Path) -> Path:
    """The recipe file: as given, or a shipped one by its name alone (`quickstart`)."""
    shipped = Path(str(files("residency.recipes").joinpath(f"{path.name}.yaml")))
    return shipped if str(path) == path.name and not path.exists() and shipped.is_file() else path


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with Residency."""
    folder = files("residency.recipes")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def read_file(path: Path) -> Raw:
    """One YAML file as plain values."""
    if not path.is_file():
        raise ResidencyError(
            f"no recipe {path}", cure=f"Give a file, or a shipped recipe: {', '.join(shipped_recipes())}"
        )
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise ResidencyError(
            f"{path} has {path.stat().st_size} bytes", cure="A recipe has less than a megabyte"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResidencyError(
            f"{path}: byte {error.start} is not UTF-8", cure="Save the file as UTF-8"
        ) from error
    raw = Raw({})
    node = _compose(text, str(path))
    if node is None:
        raise ResidencyError(f"{path} is empty", cure="Start from recipes/quickstart.yaml")
    if not isinstance(node, MappingNode):
        raise ResidencyError(f"{path}:{node.start_mark.line + 1}: a recipe is a mapping of keys to values")
    raw.values = _plain(node, str(path), (), raw.places, set())
    return raw


def _compose(text: str, source: str) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ResidencyError(
            f"{source}{line}: {error.problem or error.context}", cure="This is not YAML"
        ) from error
    except (YAMLError, RecursionError) as error:
        raise ResidencyError(f"{source}: {str(error).splitlines()[0]}", cure="This is not YAML") from error
    return node


def _plain(node: Node, source: str, path: Path_, places: dict[Path_, str], seen: set[int]) -> Any:
    """The node's value; fills `places`."""
    place = f"{source}:{node.start_mark.line + 1}"
    places.setdefault(path, place)
    if id(node) in seen:
        raise ResidencyError(f"{place}: YAML aliases are not allowed in a recipe", cure="Write the value out")
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        return _scalar(node, place)
    if isinstance(node, SequenceNode):
        return [_plain(item, source, (*path, index), places, seen) for index, item in enumerate(node.value)]
    assert isinstance(node, MappingNode)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            first = places[*path, key].rpartition(":")[2]
            raise ResidencyError(
                f"{source}:{line}: {key} was given in line {first} already", cure="Keep one of the two"
            )
        places[*path, key] = f"{source}:{line}"
        values[key] = _plain(value_node, source, (*path, key), places, seen)
    return values


def _scalar(node: ScalarNode, place: str) -> Any:
    text, tag = node.value, str(node.tag).removeprefix("tag:yaml.org,2002:")
    if node.style in ("'", '"', "|", ">"):
        return text
    if re.fullmatch(r"[-+]?0\d+", text):
        raise ResidencyError(
            f"{place}: {text} starts with 0", cure="Quote it if it is text, drop the 0 if a number"
        )
    match tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text.replace("_", ""), 0)
        case "float":
            number = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
            if not math.isfinite(number):
                raise ResidencyError(f"{place}: {text} is no finite number")
            return number
        case "str" | "timestamp":
            return text
    raise ResidencyError(
        f"{place}: the YAML tag {node.tag} is not allowed in a recipe", cure="Write a plain value"
    )


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` changes `below`, mapping by mapping; null takes a key away."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
            continue
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _override(raw: Raw, text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ResidencyError(f"{text!r} is not key=value", cure="For example stages.sft.epochs=2")
    node = _compose(value or "''", f"override {key}")
    assert node is not None
    path, inner = tuple(key.split(".")), raw.values
    for part in path[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ResidencyError(f"override {key}: {part} is a value, not a mapping")
    for place in [place for place in raw.places if place[: len(path)] == path]:
        del raw.places[place]
    raw.places[path] = f"override {key}"
    inner[path[-1]] = _plain(node, f"override {key}", path, raw.places, set())
    raw.places[path] = f"override {key}"
    if inner[path[-1]] is None:
        del inner[path[-1]]
