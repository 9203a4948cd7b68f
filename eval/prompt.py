"""From a row to the text that a model reads: wording, solved examples, order of the options, chat template.

A question is *asked* in one of the task's wordings (Jinja over `question`, `context`, `group` and the listed `options`)
and in one order of its options; what may follow it are its *continuations*. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_uppercase
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, TemplateError

from residency.errors import ResidencyError
from residency.eval.settings import AskedTask, Scorer
from residency.eval.shipped import template_text

Message = dict[str, str]
Row = dict[str, Any]
BETWEEN = "\n\n"  # two solved examples, as in lm-evaluation-harness


@dataclass(frozen=True)
class Asked:
    """A question as a model reads it."""

    prompt: str
    continuations: list[str]
    """As they stand behind the prompt, leading space included, in the order shown."""
    shown: list[int]
    """Index of the option at each place shown: the identity but for rotated orders."""
    chat: bool
    """Whether a chat template wrote the prompt, with its own first token."""


def ask(
    task: AskedTask,
    row: Row,
    tokenizer: Any,
    *,
    scorer: Scorer = "option-text",
    template: str | None = None,
    order: int = 0,
    shots: Sequence[Row] = (),
    frame: Callable[[str], str] = str,
) -> Asked:
    """Ask one row in one wording and order.

    Args:
        row: as `residency.data.rows.schema` has it: `prompt` (text or messages), `options` or `answers`, `context`,
            `group`.
        template: one of the task's wordings; its first unless given.
        order: rotations of the options to the left; from a full turn on, backwards.
        shots: solved examples, oldest first. One with `reasoning` (which ends in the answer) shows it in a reply.
        frame: what a way of replying makes of the worded question, and of those of the solved examples.

    Raises:
        ResidencyError: a wording that is no Jinja or asks for what the row lacks, or a conversation for a model
            without a chat template.
    """
    template = template or task.templates[0]
    shown = shown_order(len(row.get("options", ())), order)
    chat = is_chat(task, row)
    question = _framed(_question(task, row, template, scorer, shown), frame)
    continuations = [_continuation(text, chat) for text in _answers(row, scorer, shown)]
    instruction = _render(task, task.instruction, _fields(row)).strip()
    if chat:
        messages = [{"role": "system", "content": instruction}] if instruction else []
        for shot in shots:
            messages += _messages(_framed(_question(task, shot, template, scorer, None), frame))
            messages.append({"role": "assistant", "content": _solution(shot, scorer).strip()})
        messages += _messages(question)
        return Asked(in_chat(task, tokenizer, messages, reply=True), continuations, shown, True)
    solved = [
        str(_framed(_question(task, shot, template, scorer, None), frame)) + _solution(shot, scorer)
        for shot in shots
    ]
    parts = [*([instruction] if instruction else []), *solved, str(question)]
    return Asked(BETWEEN.join(parts), continuations, shown, False)


def is_chat(task: AskedTask, row: Row) -> bool:
    """Whether a row is asked through the model's chat template."""
    return task.chat or not isinstance(row["prompt"], str)


def in_chat(task: Any, tokenizer: Any, messages: list[Message], *, reply: bool) -> str:
    """Messages in the model's chat template; with `reply`, ready for the assistant to speak.

    Raises:
        ResidencyError: the model has no chat template, or its template refuses the roles.
    """
    if not tokenizer.chat_template:
        raise ResidencyError(
            f"task {task.name}: its prompts are conversations and the model's tokenizer has no chat template",
            cure="Evaluate it after a stage with chat_template, or leave the task out",
        )
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply))
    except TemplateError as error:
        raise ResidencyError(
            f"task {task.name}: the model's chat template refuses the conversation: {error}",
            cure="Leave the instruction out, or ask without chat",
        ) from None


def shown_order(options: int, order: int) -> list[int]:
    """Index of the option at each place: rotated to the left `order` times, from a full turn on backwards."""
    turned = [(place + order) % options for place in range(options)]
    return turned[::-1] if options and order // options % 2 else turned


def _framed(question: str | list[Message], frame: Callable[[str], str]) -> str | list[Message]:
    if isinstance(question, str):
        return frame(question)
    return [*question[:-1], {**question[-1], "content": frame(question[-1]["content"])}]


def _question(
    task: AskedTask, row: Row, template: str, scorer: Scorer, shown: list[int] | None
) -> str | list[Message]:
    """The question in its wording, with the options listed where an answer is a letter."""
    options = row.get("options", [])
    order = range(len(options)) if shown is None else shown
    listed = [
        {"letter": letter, "text": options[index].strip()}
        for letter, index in zip(ascii_uppercase, order, strict=False)
        if scorer != "option-text" and getattr(task, "listed", True)
    ]
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return _render(task, template_text(template), {**_fields(row), "options": listed})
    listing = "".join(f"\n{option['letter']}. {option['text']}" for option in listed)
    return [*prompt[:-1], {**prompt[-1], "content": prompt[-1]["content"] + listing}]


def _answers(row: Row, scorer: Scorer, shown: list[int]) -> list[str]:
    if "options" not in row:
        return [row["answers"][0]] if row.get("answers") else []
    if scorer != "option-text":
        return list(ascii_uppercase[: len(shown)])
    return [str(row["options"][index]) for index in shown]


def _solution(row: Row, scorer: Scorer) -> str:
    """What follows a solved example."""
    if scorer == "reply" and "reasoning" in row:
        return _continuation(row["reasoning"], chat=False)
    places = list(range(len(row.get("options", ()))))
    answers = _answers(row, scorer, places)
    assert answers, f"a solved example without an answer: {row['id']}"
    return _continuation(answers[row.get("answer", 0)], chat=False)


def _continuation(text: str, chat: bool) -> str:
    """In a chat a reply begins at once; elsewhere a space is between, which an option may bring itself."""
    return text.strip() if chat else f" {text.strip()}" if not text[:1].isspace() else text


def _messages(question: str | list[Message]) -> list[Message]:
    return [{"role": "user", "content": question}] if isinstance(question, str) else question


def _fields(row: Row) -> dict[str, Any]:
    question = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    return {"question": question, "context": row.get("context", ""), "group": row.get("group", "")}


def _render(task: AskedTask, text: str, fields: dict[str, Any]) -> str:
    try:
        return _compiled(text).render(fields)
    except TemplateError as error:
        raise ResidencyError(
            f"task {task.name}: templates: {error}",
            cure="Known fields: question, context, group, options (letter and text of each)",
        ) from None


@cache
def _compiled(text: str) -> Template:
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(text)
