"""Multiple-choice questions as different data sets write them. No torch here.

MedMCQA (`opa`..`opd`, `cop`), MMLU (`choices`), MedQA (`options` by letter, `answer_idx`), `query`/`choices`/`gold`,
PubMedQA (`context`, `final_decision`) and HeadQA (`qtext`, `answers`, `ra`)."""

from __future__ import annotations

from typing import Any

from residency.data.fields import Row, RowError, messages, text, texts, wrong

QUESTIONS = ("prompt", "question", "query")
OPTIONS = ("options", "choices")
ANSWERS = ("answer_idx", "answer", "gold", "cop")
MEDMCQA = ("opa", "opb", "opc", "opd")
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
    return item | ({"form": text(row, "form")} if row.get("form") is not None else {})


def of_pubmedqa(row: Row) -> Row:
    """`context` (an abstract's paragraphs), `question`, and `final_decision`: yes, no or maybe."""
    context = row["context"]
    context = context.get("contexts") if isinstance(context, dict) else context
    paragraphs = texts(row, "context", [context] if isinstance(context, str) else context)
    decision = row["final_decision"]
    if decision not in DECISIONS:
        raise wrong(row, "final_decision", decision, " or ".join(DECISIONS))
    prompt = "\n".join(paragraphs) + "\n\n" + text(row, "question")
    return _item(row, prompt, DECISIONS, DECISIONS.index(decision))


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


def _item(row: Row, prompt: Any, options: list[str], answer: int) -> Row:
    cluster = row.get("cluster")
    cluster = str(row["id"]).partition("/")[0] if cluster is None else str(cluster)
    return {"cluster": cluster, "prompt": prompt, "options": options, "answer": answer}


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
        same = [place for place, option in enumerate(options) if option == value]
        places = [letters.index(value)] if value in letters else same
        value = places[0] if len(places) == 1 else value
    if type(value) is not int or not 0 <= value < len(options):
        last = len(options) - 1
        raise wrong(row, key, row[key], f"0 to {last}, a letter {letters[0]} to {letters[-1]} or an option")
    return value
