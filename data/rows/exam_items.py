"""Exam items as different data sets write them. No torch here.

Multiple choice: MedMCQA (`opa`..`opd`, `cop`), MMLU (`choices`), MedQA (`options` by letter, `answer_idx`), `query`/
`choices`/`gold`, PubMedQA (`context`, `final_decision`), HeadQA (`qtext`, `answers`, `ra`) and WinoGrande, whose
options are two beginnings of one ending (`context_options`, `continuation`). In free text: `question` and `answers`,
and a `context` with its `continuation` (LAMBADA)."""

from __future__ import annotations

from typing import Any

from residency.data.rows.exam_fields import cluster_of_id, joined
from residency.data.rows.fields import Row, RowError, messages, text, texts, wrong

QUESTIONS = ("prompt", "question", "query")
OPTIONS = ("options", "choices")
ANSWERS = ("answer_idx", "answer", "gold", "cop")
MEDMCQA = ("opa", "opb", "opc", "opd")
GROUPS = ("group", "subject", "subject_name")
DECISIONS = ["yes", "no", "maybe"]


def of_options(row: Row) -> Row:
    """A question, its options (a list, by letter, or `opa`..`opd`) and the answer's place, letter or text."""
    question = next((key for key in QUESTIONS if key in row), None)
    answer = next((key for key in ANSWERS if row.get(key) is not None), None)
    if question is None or answer is None:
        missing = QUESTIONS if question is None else ANSWERS
        raise RowError(f"row {row['id']}: an exam item without {' or '.join(missing)}")
    letters, options = _options(row)
    if question != "prompt":  # a continued sentence (`prompt`) keeps its options' leading space
        options = [option.strip() for option in options]
    prompt = messages(row, question) if isinstance(row[question], list) else text(row, question)
    item = _item(row, prompt, options, _answer(row, answer, letters, options))
    return item | _context(row) | ({"form": text(row, "form")} if row.get("form") is not None else {})


def of_pubmedqa(row: Row) -> Row:
    """`context` (an abstract's paragraphs), `question`, and `final_decision`: yes, no or maybe."""
    context = row["context"]
    context = context.get("contexts") if isinstance(context, dict) else context
    paragraphs = texts(row, "context", [context] if isinstance(context, str) else context)
    decision = row["final_decision"]
    if decision not in DECISIONS:
        raise wrong(row, "final_decision", decision, " or ".join(DECISIONS))
    item = _item(row, text(row, "question"), DECISIONS, DECISIONS.index(decision))
    return item | {"context": "\n".join(paragraphs)}


def of_headqa(row: Row) -> Row:
    """`qtext`, `answers` (`aid` and `atext`, as a list of both or as both lists), and `ra`, the right one's `aid`."""
    answers = row["answers"]
    if isinstance(answers, dict) and all(isinstance(answers.get(key), list) for key in ("aid", "atext")):
        answers = [
            {"aid": aid, "atext": said} for aid, said in zip(answers["aid"], answers["atext"], strict=False)
        ]
    if not isinstance(answers, list) or not all(
        isinstance(entry, dict) and "aid" in entry and isinstance(entry.get("atext"), str)
        for entry in answers
    ):
        raise wrong(row, "answers", row["answers"], "a list of {aid, atext}")
    numbers = [str(entry["aid"]) for entry in answers]
    if numbers.count(str(row["ra"])) != 1 or len(numbers) < 2:
        raise wrong(row, "ra", row["ra"], f"one of {', '.join(numbers)}")
    options = texts(row, "answers", [entry["atext"].strip() for entry in answers], least=2)
    return _item(row, text(row, "qtext"), options, numbers.index(str(row["ra"])))


def of_endings(row: Row) -> Row:
    """`context_options`, of which one (`gold`) goes on with the `continuation`."""
    options = texts(row, "context_options", row["context_options"], least=2)
    if type(row["gold"]) is not int or not 0 <= row["gold"] < len(options):
        raise wrong(row, "gold", row["gold"], f"0 to {len(options) - 1}")
    return _item(row, "", options, row["gold"]) | {"ending": text(row, "continuation")}


def of_continuation(row: Row) -> Row:
    """`context` and the one text that rightly follows it."""
    return _common(row) | {"prompt": text(row, "context"), "answers": [text(row, "continuation")]}


def of_answers(row: Row) -> Row:
    """`question` and `answers`, references in free text; `context` and `facts` where it has them."""
    said = {"prompt": text(row, "question"), "answers": texts(row, "answers", row["answers"])}
    return _common(row) | said | _context(row) | ({"facts": row["facts"]} if row.get("facts") else {})


def _item(row: Row, prompt: Any, options: list[str], answer: int) -> Row:
    return _common(row) | {"prompt": prompt, "options": options, "answer": answer}


def _common(row: Row) -> Row:
    cluster = row.get("cluster")
    group = next((row[key] for key in GROUPS if isinstance(row.get(key), str)), None)
    common = {"cluster": cluster_of_id(row["id"]) if cluster is None else str(cluster)}
    return common | ({"group": group} if group else {})


def _context(row: Row) -> Row:
    context = row.get("context")
    return {"context": joined(row, "context", context)} if context else {}


def _options(row: Row) -> tuple[list[str], list[str]]:
    """Letters and texts of an item's options."""
    key = next((key for key in OPTIONS if key in row), None)
    if key is None:
        found: Any = {name[-1].upper(): text(row, name) for name in MEDMCQA}
        key = "opa"
    else:
        found = row[key]
    if isinstance(found, list):
        found = {chr(ord("A") + place): option for place, option in enumerate(found)}
    fits = (
        isinstance(found, dict) and len(found) > 1 and all(isinstance(said, str) for said in found.values())
    )
    if not fits:
        raise wrong(row, key, row[key], "two or more options, each a text")
    letters = sorted(found)
    return letters, [found[letter] for letter in letters]


def _answer(row: Row, key: str, letters: list[str], options: list[str]) -> int:
    value = row[key]
    if isinstance(value, str):
        # Where two options read the same, either is right.
        places = [letters.index(value)] if value in letters else [options.index(value)] * (value in options)
        value = places[0] if places else value
    if type(value) is not int or not 0 <= value < len(options):
        last = len(options) - 1
        raise wrong(row, key, row[key], f"0 to {last}, a letter {letters[0]} to {letters[-1]} or an option")
    return value
