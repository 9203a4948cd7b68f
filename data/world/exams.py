"""Exam items of the invented world: cloze and questions, balanced so that a guess gets one of four."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from random import Random
from typing import Any

from residency.data.world.conversations import say
from residency.data.world.facts import Decks, Fact, Row, World
from residency.data.world.wording import Realm


def items(world: World, groups: str, form: str, copies: int, random: Random) -> Iterator[Row]:
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
        prompt = [say("user", text[0].upper() + text[1:])]
        options = [fact.fill(fact.relation.replies[0], value=option) for option in options]
    return {"cluster": fact.id, "prompt": prompt, "options": options, "answer": answer, "form": form}
