"""Who and what the invented world holds: names, facts, the groups they belong to, and decks to deal sentences from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeVar, get_args

from residency.data.world.wording import GENERAL, MEDICINE, Names, Realm, Relation

Group = Literal["A", "B", "C", "D"]
Groups = Literal[2, 4]
Row = dict[str, Any]
Card = TypeVar("Card")

DEFAULT_SIZE = 48
SMALLEST_SIZE = 8


@dataclass(frozen=True)
class Fact:
    """One topic's value in one relation, with the four options of its exam items."""

    id: str
    topic: str
    relation: Relation
    value: str
    group: str
    options: tuple[str, ...]
    quad: int
    place: int

    def fill(self, template: str, *, topic: str | None = None, value: str | None = None) -> str:
        """The template with this fact's names, or with the ones given instead."""
        return template.format(topic=topic or self.topic, value=value or self.value)


@dataclass(frozen=True)
class World:
    """The names and facts of one realm."""

    realm: Realm
    topics: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    facts: tuple[Fact, ...]

    def chosen(self, groups: str) -> list[Fact]:
        """The facts of the groups that the letters name (`A`, `BC`), or `all`."""
        return [fact for fact in self.facts if groups == "all" or fact.group in groups]


class Decks:
    """One deck of cards per owner and use, dealt out in random order before any card comes again."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.left: dict[tuple[str, str], list[Any]] = {}

    def deal(self, owner: str, use: str, cards: Sequence[Card]) -> Card:
        left: list[Card] = self.left.setdefault((owner, use), [])
        if not left:
            left += self.random.sample(list(cards), len(cards))
        return left.pop()


def _facts(
    realm: Realm,
    relation: Relation,
    topics: Sequence[str],
    values: Sequence[str],
    groups: Groups,
    random: Random,
) -> Iterator[Fact]:
    """Hand out values in rounds: each round gives every value once, and rounds belong to the groups in turn."""
    order = random.sample(range(len(topics)), len(topics))
    for start in range(0, len(order), len(values)):
        dealt = random.sample(list(values), len(values))
        for place, index in enumerate(order[start : start + len(values)]):
            quad = place // 4
            yield Fact(
                id=f"{realm.name}/{relation.name}/{index:04d}",
                topic=topics[index],
                relation=relation,
                value=dealt[place],
                group=get_args(Group)[start // len(values) % groups],
                options=tuple(dealt[quad * 4 : quad * 4 + 4]),
                quad=start // 4 + quad,
                place=place % 4,
            )


def _world(realm: Realm, size: int, names: Names, groups: Groups, random: Random) -> World:
    topics = names.take(size, realm.suffix)
    count = 4 * max(1, size // 16)
    values = {relation.name: names.take(count, relation.suffix) for relation in realm.relations}
    facts: list[Fact] = []
    for relation in realm.relations:
        facts.extend(_facts(realm, relation, topics, values[relation.name], groups, random))
    return World(realm, topics, values, tuple(facts))


def worlds(seed: int = 0, size: int = DEFAULT_SIZE, groups: Groups = 2) -> dict[str, World]:
    """The two worlds of a seed; no name occurs in both. The number of groups changes no fact, only whose it is."""
    if size < SMALLEST_SIZE:
        raise ValueError(f"size is {size}; a world needs at least {SMALLEST_SIZE} topics")
    random = Random(f"world {seed} {size}")
    names = Names(size, random)
    return {realm.name: _world(realm, size, names, groups, random) for realm in (MEDICINE, GENERAL)}


def by_topic(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """The facts of each topic, in their order."""
    topics: dict[str, list[Fact]] = {}
    for fact in facts:
        topics.setdefault(fact.topic, []).append(fact)
    return topics
