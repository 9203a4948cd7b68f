"""An invented world of medicine, with a general world beside it, made from a seed.

What: diseases with a drug, an organ and a sign; towns with a trade, a river and a festival. The generator writes
running text, dialogues, preference pairs and exam items about them, of any size, without network or download.

Why: names are random syllables with one suffix per type, so no model can have met a fact before. What a stage of
training adds, and what it makes a model forget, can therefore be measured. Every fact (a topic and a relation)
belongs to group A, whose questions may be trained, or to group B, which only running text ever tells. Where
reinforcement or sampling follows, there are four groups: A for dialogues, B for questions whose answers are only
checked, C for running text alone, and D, which nothing ever tells.

How exams are kept fair: topics share values, each value answers equally often in every group, and four items ask for
four different values out of the same four options. A reader who does not know the topic, or does not see it, gets
exactly one of the four right.

Run: `python -c "from residency.data import world; print(*world.rows('medicine', size=16, copies=1), sep='\\n')"`
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from random import Random
from typing import Any, Literal, TypeVar, get_args

from residency.data.world_text import ADVICE, GENERAL, MEDICINE, Names, Realm, Relation, vocabulary

Group = Literal["A", "B", "C", "D"]
Groups = Literal[2, 4]
Row = dict[str, Any]
Card = TypeVar("Card")

DEFAULT_SIZE = 48
SMALLEST_SIZE = 8
FORMS = ("trained", "held-out", "stem-removed")


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


# Running text.


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


def _by_topic(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    topics: dict[str, list[Fact]] = {}
    for fact in facts:
        topics.setdefault(fact.topic, []).append(fact)
    return topics


def _texts(world: World, groups: str, copies: int, random: Random) -> Iterator[str]:
    """Mostly passages; every fourth round mixes topics, every eighth lists the facts of each."""
    told, decks = world.chosen(groups), Decks(random)
    by_topic = _by_topic(told)
    for copy in range(copies):
        if copy % 4 == 3:
            shuffled = random.sample(told, len(told))
            documents = [_mixture(shuffled[at : at + 3], decks) for at in range(0, len(shuffled), 3)]
        elif copy % 8 == 5:
            documents = [_listing(facts, world.realm, random) for facts in by_topic.values()]
        else:
            documents = [_passage(facts, decks, random) for facts in by_topic.values()]
        yield from random.sample(documents, len(documents))


def _words(both: dict[str, World], copies: int, random: Random) -> Iterator[str]:
    """Lists of names of one type, lists of words, and the text of the general world."""
    lists = [vocabulary(MEDICINE), vocabulary(GENERAL)] * 5
    for world in both.values():
        lists += [list(world.topics), *(list(names) for names in world.values.values())]
    for _ in range(copies):
        for names in lists:
            yield " ".join(random.sample(names, len(names)))
            yield "\n".join(random.sample(names, len(names)))
    yield from _texts(both["general"], "all", copies, random)


# Dialogues, pairs and exam items.


def _say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _turn(fact: Fact, decks: Decks) -> list[dict[str, str]]:
    question = decks.deal(fact.id, "asked", fact.relation.asked)
    reply = decks.deal(fact.id, "replies", fact.relation.replies)
    return [_say("user", fact.fill(question)), _say("assistant", fact.fill(reply))]


def _further(first: Fact, others: Sequence[Fact], kept_out: set[tuple[str, str]]) -> list[Fact]:
    """Up to two more facts for a dialogue, none of which sets a kept-out pair of names beside each other."""
    told = [first]
    for candidate in others:
        wanted = [*told, candidate]
        pairs = {(one.topic, other.value) for one in wanted for other in wanted}
        if len(told) < 3 and candidate not in told and not pairs & kept_out:
            told = wanted
    return told[1:]


def _dialogues(world: World, groups: str, copies: int, random: Random) -> Iterator[Row]:
    facts, decks = world.chosen(groups), Decks(random)
    by_topic = _by_topic(facts)
    kept_out = {(fact.topic, fact.value) for fact in world.facts if fact not in facts}
    for _ in range(copies):
        for fact in random.sample(facts, len(facts)):
            asked = [fact]
            if random.random() < 0.3:
                same = [other for other in by_topic[fact.topic] if other is not fact]
                others = random.sample(same, len(same)) + random.sample(facts, 2)
                asked += _further(fact, others, kept_out)
            messages = [message for each in asked for message in _turn(each, decks)]
            if random.random() < 0.3:
                messages.insert(0, _say("system", random.choice(world.realm.systems)))
            if random.random() < 0.1:
                thanks, answer = random.choice(world.realm.thanks)
                messages += [_say("user", thanks), _say("assistant", answer)]
            yield {"messages": messages}


def _pair(fact: Fact, question: str, chosen: str, rejected: str, aspect: str) -> Row:
    return {
        "cluster": fact.id,
        "prompt": [_say("user", question)],
        "chosen": [_say("assistant", chosen)],
        "rejected": [_say("assistant", rejected)],
        "aspect": aspect,
    }


def _preferences(world: World, groups: str, copies: int, random: Random) -> Iterator[Row]:
    """Right against wrong values, each value as often chosen as rejected, and safe against unsafe advice on drugs."""
    facts, decks = world.chosen(groups), Decks(random)
    for _ in range(copies):
        shifts: dict[tuple[str, int], int] = {}
        pairs: list[Row] = []
        for fact in facts:
            key = (fact.relation.name, fact.quad)
            if key not in shifts:
                shifts[key] = decks.deal(str(key), "shift", (1, 2, 3))
            wrong = fact.options[(fact.place + shifts[key]) % 4]
            question = fact.fill(decks.deal(fact.id, "asked", fact.relation.asked))
            reply = decks.deal(fact.id, "replies", fact.relation.replies)
            pairs.append(_pair(fact, question, fact.fill(reply), fact.fill(reply, value=wrong), "correct"))
            if fact.relation.name == "drug":
                question, safe, unsafe = (fact.fill(text) for text in decks.deal(fact.id, "advice", ADVICE))
                pairs.append(_pair(fact, question, safe, unsafe, "safe"))
        yield from random.sample(pairs, len(pairs))


def _rankings(world: World, groups: str, form: str, copies: int, random: Random) -> Iterator[Row]:
    """The right value before the three others of its options, and with questions that are trained safe before unsafe
    advice. A value is best for one topic and not for three others, so nothing but the fact says which it is."""
    facts, decks = world.chosen(groups), Decks(random)
    for _ in range(copies):
        lists: list[Row] = []
        for fact in facts:
            stems = fact.relation.unasked if form == "held-out" else fact.relation.asked
            question = fact.fill(decks.deal(fact.id, form, stems))
            reply = decks.deal(fact.id, "replies", fact.relation.replies)
            wrong = random.sample([option for option in fact.options if option != fact.value], 3)
            said = [fact.fill(reply, value=value) for value in (fact.value, *wrong)]
            lists.append(_ranking(fact, question, said, "correct"))
            if fact.relation.name == "drug" and form == "trained":
                question, *advice = (fact.fill(text) for text in decks.deal(fact.id, "advice", ADVICE))
                lists.append(_ranking(fact, question, advice, "safe"))
        yield from random.sample(lists, len(lists))


def _ranking(fact: Fact, question: str, replies: list[str], aspect: str) -> Row:
    ranks = [1] + [2] * (len(replies) - 1)
    prompt = [_say("user", question)]
    return {"cluster": fact.id, "prompt": prompt, "replies": replies, "ranks": ranks, "aspect": aspect}


def _items(world: World, groups: str, form: str, copies: int, random: Random) -> Iterator[Row]:
    decks = Decks(random)
    for copy in range(copies):
        dealt: dict[tuple[str, int], tuple[str, list[int]]] = {}
        for fact in _regrouped(world, groups, random) if copy else world.chosen(groups):
            relation, key = fact.relation, (fact.relation.name, fact.quad)
            if key not in dealt:
                stems = {"cloze": relation.ending, "held-out": relation.unasked}.get(form, relation.asked)
                dealt[key] = decks.deal(str(key), form, stems), random.sample(range(4), 4)
            stem, places = dealt[key]
            yield _item(fact, stem, places[fact.place], form, world.realm, random)


def _regrouped(world: World, groups: str, random: Random) -> Iterator[Fact]:
    """The facts in new quads of their round: no copy of an item has the options of another, or what a model happens to
    prefer among four names would decide all items of a fact at once."""
    for (name, _), facts in groupby(world.chosen(groups), key=partial(_round, world)):
        mixed = list(facts)
        if len(mixed) == len(world.values[name]):  # a round that is not whole has values without a fact
            first = mixed[0].quad
            mixed = random.sample(mixed, len(mixed))
            for start in range(0, len(mixed), 4):
                options = tuple(fact.value for fact in mixed[start : start + 4])
                for place, fact in enumerate(mixed[start : start + 4]):
                    yield replace(fact, options=options, quad=first + start // 4, place=place)
        else:
            yield from mixed


def _round(world: World, fact: Fact) -> tuple[str, int]:
    """A fact's relation and the round in which its value was handed out."""
    return fact.relation.name, fact.quad * 4 // len(world.values[fact.relation.name])


def _item(fact: Fact, stem: str, answer: int, form: str, realm: Realm, random: Random) -> Row:
    """One exam item: a cloze option continues the prompt, its leading space included; a question option is a reply."""
    wrong = [option for option in fact.options if option != fact.value]
    options = random.sample(wrong, 3)
    options.insert(answer, fact.value)
    prompt: Any
    if form == "cloze":
        prompt, options = fact.fill(stem.removesuffix(" {value}.")), [f" {option}" for option in options]
    else:
        topic = f"this {realm.topic}" if form == "stem-removed" else None
        text = fact.fill(stem, topic=topic)
        prompt = [_say("user", text[0].upper() + text[1:])]
        options = [fact.fill(fact.relation.replies[0], value=option) for option in options]
    return {"cluster": fact.id, "prompt": prompt, "options": options, "answer": answer, "form": form}


# Sources.

WORDS_COPIES = 8
USUAL_COPIES = {"text": 48, "dialogues": 12, "preferences": 4, "rankings": 12, "cloze": 4, "questions": 4}
SOURCES: tuple[str, ...] = (
    "words",
    "general",
    "general/cloze",
    "general/dialogues",
    "general/questions",
    "medicine",
    "medicine/cloze",
    "medicine/dialogues",
    "medicine/preferences",
    "medicine/questions",
    "medicine/rankings",
)


def _made(
    source: str, both: dict[str, World], groups: str, form: str, copies: int, random: Random
) -> Iterator[Row]:
    if source == "words":
        return ({"text": text} for text in _words(both, copies, random))
    name, _, kind = source.partition("/")
    if kind == "dialogues":
        return _dialogues(both[name], groups, copies, random)
    if kind == "preferences":
        return _preferences(both[name], groups, copies, random)
    if kind == "rankings":
        return _rankings(both[name], groups, form, copies, random)
    if kind:
        return _items(both[name], groups, "cloze" if kind == "cloze" else form, copies, random)
    return ({"text": text} for text in _texts(both[name], groups, copies, random))


def rows(
    source: str,
    *,
    seed: int = 0,
    size: int = DEFAULT_SIZE,
    facts: Literal["all"] | Group | Sequence[Group] = "all",
    groups: Groups = 2,
    form: str | None = None,
    copies: int | None = None,
) -> Iterator[Row]:
    """The rows of a source.

    Args:
        size: number of topics.
        facts: the groups that are told or asked.
        groups: how many groups there are.
        form: question form of exam items, one of `FORMS`; of rankings `trained` or `held-out`.
        copies: rows per topic (text) or per fact (the rest).

    Raises:
        ValueError: no such source, group or form; a world too small or too large.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; one of {', '.join(SOURCES)}")
    letters = get_args(Group)[:groups]
    wanted = facts if facts == "all" else "".join(sorted(set(facts)))
    if not wanted or (wanted != "all" and not set(wanted) <= set(letters)):
        raise ValueError(f"facts is {facts!r}; one of all, {', '.join(letters)}")
    forms = FORMS if source.endswith("/questions") else FORMS[:2] if source.endswith("/rankings") else ()
    if form is not None and form not in forms:
        raise ValueError(
            f"form {form!r} does not fit {source!r}; questions take one of {', '.join(FORMS)}, "
            f"rankings {' or '.join(FORMS[:2])}"
        )
    form = form or "trained"
    if copies is None:
        copies = WORDS_COPIES if source == "words" else USUAL_COPIES[source.partition("/")[2] or "text"]
    # The stem-removed items are the trained ones without the name, hence the same draws.
    drawn = "trained" if form == "stem-removed" else form
    random = Random(f"{source} {seed} {size} {wanted} {drawn}")
    made = _made(source, worlds(seed, size, groups), wanted, form, copies, random)
    return ({"id": f"{source}/{number:06d}", **row} for number, row in enumerate(made))
