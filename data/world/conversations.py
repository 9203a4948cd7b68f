"""What is said in the invented world: dialogues, preference pairs and rankings about its facts."""

from collections.abc import Iterator, Sequence
from random import Random

from residency.data.world.facts import Decks, Fact, Row, World, by_topic
from residency.data.world.wording import ADVICE


def say(role: str, content: str) -> dict[str, str]:
    """One message."""
    return {"role": role, "content": content}


def _turn(fact: Fact, decks: Decks) -> list[dict[str, str]]:
    question = decks.deal(fact.id, "asked", fact.relation.asked)
    reply = decks.deal(fact.id, "replies", fact.relation.replies)
    return [say("user", fact.fill(question)), say("assistant", fact.fill(reply))]


def _further(first: Fact, others: Sequence[Fact], kept_out: set[tuple[str, str]]) -> list[Fact]:
    """Up to two more facts for a dialogue, none of which sets a kept-out pair of names beside each other."""
    told = [first]
    for candidate in others:
        wanted = [*told, candidate]
        pairs = {(one.topic, other.value) for one in wanted for other in wanted}
        if len(told) < 3 and candidate not in told and not pairs & kept_out:
            told = wanted
    return told[1:]


def dialogues(world: World, groups: str, copies: int, random: Random) -> Iterator[Row]:
    facts, decks = world.chosen(groups), Decks(random)
    topics = by_topic(facts)
    kept_out = {(fact.topic, fact.value) for fact in world.facts if fact not in facts}
    for _ in range(copies):
        for fact in random.sample(facts, len(facts)):
            asked = [fact]
            if random.random() < 0.3:
                same = [other for other in topics[fact.topic] if other is not fact]
                others = random.sample(same, len(same)) + random.sample(facts, 2)
                asked += _further(fact, others, kept_out)
            messages = [message for each in asked for message in _turn(each, decks)]
            if random.random() < 0.3:
                messages.insert(0, say("system", random.choice(world.realm.systems)))
            if random.random() < 0.1:
                thanks, answer = random.choice(world.realm.thanks)
                messages += [say("user", thanks), say("assistant", answer)]
            yield {"messages": messages}


def _pair(fact: Fact, question: str, chosen: str, rejected: str, aspect: str) -> Row:
    return {
        "cluster": fact.id,
        "prompt": [say("user", question)],
        "chosen": [say("assistant", chosen)],
        "rejected": [say("assistant", rejected)],
        "aspect": aspect,
    }


def preferences(world: World, groups: str, copies: int, random: Random) -> Iterator[Row]:
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


def rankings(world: World, groups: str, form: str, copies: int, random: Random) -> Iterator[Row]:
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
    prompt = [say("user", question)]
    return {"cluster": fact.id, "prompt": prompt, "replies": replies, "ranks": ranks, "aspect": aspect}
