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
from random import Random
from typing import Literal, get_args

from residency.data.world.conversations import dialogues, preferences, rankings
from residency.data.world.exams import items
from residency.data.world.facts import DEFAULT_SIZE, Group, Groups, Row, World, worlds
from residency.data.world.prose import texts, words

__all__ = ["DEFAULT_SIZE", "FORMS", "SOURCES", "Group", "Groups", "rows", "worlds"]

FORMS = ("trained", "held-out", "stem-removed")
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
        return ({"text": text} for text in words(both, copies, random))
    name, _, kind = source.partition("/")
    if kind == "dialogues":
        return dialogues(both[name], groups, copies, random)
    if kind == "preferences":
        return preferences(both[name], groups, copies, random)
    if kind == "rankings":
        return rankings(both[name], groups, form, copies, random)
    if kind:
        return items(both[name], groups, "cloze" if kind == "cloze" else form, copies, random)
    return ({"text": text} for text in texts(both[name], groups, copies, random))


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
