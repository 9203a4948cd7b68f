"""Ways of coming to a written answer: at once, reasoning aloud, or arguing for every option.

Sources: zero-shot chain of thought (arXiv:2205.11916); self-consistency (arXiv:2203.11171); Medprompt
(arXiv:2311.16452), whose solved examples carry the model's own reasoning where that led to the right answer;
verification of choice (AntGLM-Med-10B, arXiv:2312.01040), k arguments and a judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

from residency.answers import choice as chosen
from residency.eval.candidate import Candidate
from residency.eval.items import Item, fit_prompt
from residency.eval.prompt import BETWEEN, Row, ask, is_chat, shown_order
from residency.eval.settings import ChoiceTask
from residency.eval.shots import ReasonedShots, Shots
from residency.generation.generate import Reply

ALOUD = "Let's think step by step."
ALOUD_CHAT = 'Think step by step. Then end with "Answer:" and the letter of the right option.'
NEXT_QUESTION = ["\nQuestion:", "\nQUESTION:"]  # a base model goes on to an exam of its own
Frame = Callable[[str], str]


@dataclass(frozen=True)
class Way:
    """A row, asked in one wording and order."""

    row: Row
    template: str
    order: int


@dataclass(frozen=True)
class Answer:
    """What came of one way of asking."""

    item: Item
    replies: list[Reply]
    calls_before: int = 0
    """Replies that were written to prepare these."""
    tokens_before: int = 0
    """Their tokens."""


def at_once(task: ChoiceTask, candidate: Candidate, ways: Sequence[Way], shots: Shots) -> list[Answer]:
    """Replies to the question alone, `task.samples` to each."""
    items = []
    for way in ways:
        solved = shots.of(way.row)
        item = _item(task, candidate, way, solved, _frame(task, way.row))
        items.append(replace(item, cut_shots=item.cut_shots + shots.count - len(solved)))
    return [Answer(*each) for each in zip(items, _written(task, candidate, items, ways), strict=True)]


def reasoned_shots(task: ChoiceTask, candidate: Candidate, rows: list[Row], shots: Shots) -> ReasonedShots:
    """Solved examples with the model's own reasoning. Those that a question wants are reasoned through, and where the
    answer is wrong the next best one is tried."""
    reasoning: dict[str, str] = {}
    failed: set[str] = set()
    while wanted := _wanted(rows, shots, reasoning, failed):
        ways = [Way(row, task.templates[0], 0) for row in wanted]
        greedy = task.model_copy(update={"samples": 1})
        for way, answer in zip(ways, at_once(greedy, candidate, ways, Shots(task.name)), strict=True):
            [reply] = answer.replies
            found = chosen(reply.text, way.row["options"])
            if found.value == way.row["answer"] and not reply.truncated:
                reasoning[way.row["id"]] = reply.text.strip()
            else:
                failed.add(way.row["id"])
    return ReasonedShots(shots, reasoning)


def _wanted(rows: list[Row], shots: Shots, reasoning: dict[str, str], failed: set[str]) -> list[Row]:
    wanted: dict[str, Row] = {}
    for row in rows:
        left = [shot for shot in shots.ranked(row) if shot["id"] not in failed][: shots.count]
        wanted |= {shot["id"]: shot for shot in left if shot["id"] not in reasoning}
    return list(wanted.values())


def verified(task: ChoiceTask, candidate: Candidate, ways: Sequence[Way]) -> list[Answer]:
    """An argument for each option, as if it were the right one, then a judgement of the arguments: k + 1 replies."""
    pleas = [
        (way, _item(task, candidate, way, [], _plea(task, way, place)))
        for way in ways
        for place in range(len(way.row["options"]))
    ]
    greedy = task.model_copy(update={"samples": 1})
    written = _written(greedy, candidate, [item for _, item in pleas], [way for way, _ in pleas])
    arguments = iter(zip(pleas, written, strict=True))
    items, own_tokens = [], []
    for way in ways:
        own = [next(arguments) for _ in way.row["options"]]
        item = _item(task, candidate, way, [], _judgement(task, way, [reply for _, [reply] in own]))
        cut = max(each.cut_tokens for each in (item, *(plea for (_, plea), _ in own)))
        items.append(replace(item, cut_tokens=cut))
        own_tokens.append([reply.tokens for _, [reply] in own])
    judged = _written(task, candidate, items, ways)
    return [
        Answer(item, replies, len(tokens), sum(tokens))
        for item, replies, tokens in zip(items, judged, own_tokens, strict=True)
    ]


def _item(task: ChoiceTask, candidate: Candidate, way: Way, solved: list[Row], frame: Frame) -> Item:
    return fit_prompt(
        task,
        way.row,
        candidate.tokenizer,
        candidate.max_length,
        solved,
        lambda shots: ask(
            task,
            way.row,
            candidate.tokenizer,
            scorer="reply",
            template=way.template,
            order=way.order,
            shots=shots,
            frame=frame,
        ),
    )


def _written(
    task: ChoiceTask, candidate: Candidate, items: Sequence[Item], ways: Sequence[Way]
) -> list[list[Reply]]:
    """A reply ends where a base model would go on to the next question; in a chat the turn's end is its end."""
    plain = [not is_chat(task, way.row) for way in ways]
    ends = [*NEXT_QUESTION, BETWEEN] if task.method == "direct" else NEXT_QUESTION
    found: list[list[Reply]] = [[] for _ in items]
    for is_plain in sorted(set(plain)):
        places = [place for place, each in enumerate(plain) if each == is_plain]
        replies = candidate.write(
            [items[place].pieces[0].ids for place in places],
            max_new_tokens=task.max_new_tokens,
            stop=ends if is_plain else [],
            temperature=task.temperature if task.samples > 1 else 0.0,
            samples=task.samples,
        )
        for place, each in zip(places, replies, strict=True):
            found[place] = each
    return found


def _frame(task: ChoiceTask, row: Row) -> Frame:
    if task.method == "direct":
        return str
    return lambda text: f"{text}\n\n{ALOUD_CHAT}" if is_chat(task, row) else f"{text} {ALOUD}"


def _plea(task: ChoiceTask, way: Way, place: int) -> Frame:
    """Asks for an argument for the option at a place."""
    letter, text = ascii_uppercase[place], _shown(way)[place].strip()
    if is_chat(task, way.row):
        plea = (
            f"Suppose that the answer is {letter}. {text}\nExplain in a few sentences why it would be right."
        )
        return lambda question: f"{question}\n\n{plea}"
    return lambda question: f"{question} {letter}. {text}\nExplanation:"


def _judgement(task: ChoiceTask, way: Way, arguments: Sequence[Reply]) -> Frame:
    """Shows the arguments and asks which holds."""
    listed = "\n".join(
        f"{letter}. {option.strip()}: {' '.join(argument.text.split())}"
        for letter, option, argument in zip(ascii_uppercase, _shown(way), arguments, strict=False)
    )
    if is_chat(task, way.row):
        weigh = 'Compare the arguments. Then end with "Answer:" and the letter of the option that is right.'
        return lambda question: f"{question}\n\nArguments for the options:\n{listed}\n\n{weigh}"
    return lambda question: (
        f"Arguments for the options of the question below, of which one is right:\n{listed}{BETWEEN}{question}"
    )


def _shown(way: Way) -> list[str]:
    """The options in the order shown."""
    options = way.row["options"]
    return [options[index] for index in shown_order(len(options), way.order)]
