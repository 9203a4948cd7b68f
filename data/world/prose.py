"""Running text of the invented world: passages, lists and mixtures that tell its facts, and text that only names."""

from collections.abc import Iterator, Sequence
from random import Random

from residency.data.world.facts import Decks, Fact, World, by_topic
from residency.data.world.wording import GENERAL, MEDICINE, Realm, vocabulary


def _passage(facts: Sequence[Fact], decks: Decks, random: Random) -> str:
    """Sentences about one topic: the first names it, later ones may not."""
    told = random.sample(list(facts), len(facts))
    sentences: list[str] = []
    for fact in told:
        relation = fact.relation
        if sentences and random.random() < 0.4:
            template = decks.deal(fact.id, "following", relation.following)
        else:
            template = decks.deal(fact.id, "named", relation.ending + relation.telling)
        sentences.append(fact.fill(template))
    return " ".join(sentences)


def _listing(facts: Sequence[Fact], realm: Realm, random: Random) -> str:
    told = random.sample(list(facts), len(facts))
    lines = [f"{fact.relation.name.capitalize()}: {fact.value}" for fact in told]
    return "\n".join([f"{realm.topic.capitalize()}: {facts[0].topic}", *lines])


def _mixture(facts: Sequence[Fact], decks: Decks) -> str:
    """Sentences about several topics, each of which names its own."""
    return " ".join(
        fact.fill(decks.deal(fact.id, "named", fact.relation.ending + fact.relation.telling))
        for fact in facts
    )


def texts(world: World, groups: str, copies: int, random: Random) -> Iterator[str]:
    """Mostly passages; every fourth round mixes topics, every eighth lists the facts of each."""
    told, decks = world.chosen(groups), Decks(random)
    topics = by_topic(told)
    for copy in range(copies):
        if copy % 4 == 3:
            shuffled = random.sample(told, len(told))
            documents = [_mixture(shuffled[at : at + 3], decks) for at in range(0, len(shuffled), 3)]
        elif copy % 8 == 5:
            documents = [_listing(facts, world.realm, random) for facts in topics.values()]
        else:
            documents = [_passage(facts, decks, random) for facts in topics.values()]
        yield from random.sample(documents, len(documents))


def words(both: dict[str, World], copies: int, random: Random) -> Iterator[str]:
    """Lists of names of one type, lists of words, and the text of the general world."""
    lists = [vocabulary(MEDICINE), vocabulary(GENERAL)] * 5
    for world in both.values():
        lists += [list(world.topics), *(list(names) for names in world.values.values())]
    for _ in range(copies):
        for names in lists:
            yield " ".join(random.sample(names, len(names)))
            yield "\n".join(random.sample(names, len(names)))
    yield from texts(both["general"], "all", copies, random)
