"""Exam items made of the fields that `exam` names (`exam_settings`), or of a row's own layout with some fields added.

No torch here."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from residency.data.rows.exam_settings import STEM, EntityTags, ExamFields
from residency.data.rows.fields import Row, RowError, messages, text, texts, wrong

WORD = re.compile(r"\w+")


def of_fields(row: Row, exam: ExamFields) -> Row:
    """An item by the fields that are named; `kind` is what the rows of its distractors share.

    Raises:
        RowError: a field is missing or wrong.
    """
    if exam.entities:
        return {"cluster": cluster_of_id(row["id"]), **_tagged(row, exam.entities)}
    assert exam.question is not None
    question = at(row, exam.question)
    flat: Row = {"id": row["id"], exam.question: question}
    prompt = messages(flat, exam.question) if isinstance(question, list) else text(flat, exam.question)
    made: Row = {"cluster": cluster_of_id(row["id"]), "prompt": prompt}
    if exam.distractors:
        assert exam.answer is not None
        kind = at(row, exam.distractors.same)
        made |= {"options": [_text(row, exam.answer).strip()], "answer": 0, "kind": str(kind)}
    elif exam.is_choice:
        assert exam.answer is not None
        letters, options = _options(row, exam)
        place = _place(row, exam, letters, options)
        made |= {"options": options, "answer": place}
    if exam.answers:
        made["answers"] = _answers(row, exam.answers)
    return made


def added(row: Row, made: Row, exam: ExamFields) -> Row:
    """A made item with the other fields that are named: context, group, cluster, facts and id.

    Raises:
        RowError: a field is missing or wrong.
    """
    made = dict(made)
    if exam.id:
        made["id"] = str(at(row, exam.id))
        made["cluster"] = cluster_of_id(made["id"]) if row.get("cluster") is None else made["cluster"]
    if exam.context:
        made["context"] = joined(row, exam.context, at(row, exam.context))
    if exam.group:
        made["group"] = str(at(row, exam.group))
    if exam.cluster:
        made["cluster"] = stem_of(made["prompt"]) if exam.cluster == STEM else str(at(row, exam.cluster))
    facts = {name: at(row, path) for name, path in exam.facts.items()}
    facts = {**made.get("facts", {}), **exam.constants, **facts}
    return made | ({"facts": facts} if facts else {})


def is_asked_for(row: Row, exam: ExamFields | None) -> bool:
    """Whether a row's fields have the values that `only` wants.

    Raises:
        RowError: there is no such field.
    """
    for path, wanted in (exam.only if exam else {}).items():
        if at(row, path) not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def at(row: Row, path: str) -> Any:
    """The value at a dotted path; a list on the way gives the list of its entries' values, or its entry of a number.

    Raises:
        RowError: there is no such field.
    """
    if path in row:
        return row[path]
    value: Any = row
    for place, key in enumerate(names := path.split(".")):
        try:
            if isinstance(value, list) and not key.isdigit():
                value = [entry[key] for entry in value]
            else:
                value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError):
            inner = value if isinstance(value, dict) else None
            held = f"It has {', '.join(sorted(map(str, inner)))}" if inner else f"It is {str(value)[:80]!r}"
            where = f" in {'.'.join(names[:place])!r}" if place else ""
            raise RowError(
                f"row {row['id']}: no field {key!r}{where}, for exam's {path!r}", cure=held
            ) from None
    return value


def cluster_of_id(id: Any) -> str:
    """The id up to its first `/`."""
    return str(id).partition("/")[0]


def stem_of(prompt: Any) -> str:
    """16 hex digits that questions share which differ only in case, spaces and punctuation."""
    said = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    return hashlib.sha256(" ".join(WORD.findall(said.casefold())).encode()).hexdigest()[:16]


def joined(row: Row, key: str, value: Any) -> str:
    """A text, or paragraphs with a line break between; of none an empty text.

    Raises:
        RowError: it is neither.
    """
    return "\n".join(texts(row, key, [value] if isinstance(value, str) else value, least=0))


def _text(row: Row, path: str) -> str:
    return text({"id": row["id"], path: at(row, path)}, path)


def _options(row: Row, exam: ExamFields) -> tuple[list[str], list[str]]:
    """Letters and texts of the options."""
    if exam.choices:
        found: Any = exam.choices
    elif isinstance(exam.options, list):
        found = [_text(row, path) for path in exam.options]
    else:
        assert exam.options is not None
        found = at(row, exam.options)
    if isinstance(found, dict):
        letters = sorted(letter for letter, said in found.items() if said is not None)
        found = [found[letter] for letter in letters]
    else:
        letters = [chr(ord("A") + place) for place in range(len(found) if isinstance(found, list) else 0)]
    options = texts(row, str(exam.options or "choices"), found, least=2)
    return letters, [option.strip() for option in options]


def _place(row: Row, exam: ExamFields, letters: list[str], options: list[str]) -> int:
    assert exam.answer is not None
    value = said = at(row, exam.answer)
    if isinstance(value, bool) and exam.choices:
        value = int(value)
    elif isinstance(value, str):
        value = value.strip()
        if value in letters:
            return letters.index(value)
        if value in options:  # where two read the same, either is right
            return options.index(value)
        value = int(value) - exam.counts_from if value.isdecimal() else value
    elif type(value) is int:
        value -= exam.counts_from
    if type(value) is not int or not 0 <= value < len(options):
        first, last = exam.counts_from, exam.counts_from + len(options) - 1
        expected = f"{first} to {last}, a letter {letters[0]} to {letters[-1]} or an option"
        raise wrong(row, exam.answer, said, expected)
    return value


def _answers(row: Row, path: str) -> list[str]:
    """Reference answers: one text or number, a list of them, or a list of synonyms for each; none where it is null."""
    value = at(row, path)
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    flat = [name for entry in listed for name in (entry if isinstance(entry, list) else [entry])]
    if not all(isinstance(name, str | int | float) and not isinstance(name, bool) for name in flat):
        raise wrong(row, path, value, "a text, a number or a list of them")
    return [str(name) for name in flat]


def _tagged(row: Row, entities: EntityTags) -> Row:
    """Question, answers and facts of a tagged sentence; a stray `I-` begins an entity, as in conlleval."""
    tokens = texts(row, entities.tokens, at(row, entities.tokens))
    tags = at(row, entities.tags)
    if not isinstance(tags, list) or len(tags) != len(tokens):
        raise wrong(row, entities.tags, tags, f"a list of {len(tokens)} tags, as many as tokens")
    spans: list[tuple[int, int, str]] = []
    start, before = 0, "O"
    for token, tag in zip(tokens, tags, strict=True):
        name = entities.names[tag] if isinstance(tag, int) and 0 <= tag < len(entities.names) else tag
        if name not in entities.names:
            raise wrong(
                row, entities.tags, tag, f"0 to {len(entities.names) - 1} or {', '.join(entities.names)}"
            )
        kind, end = name[2:], start + len(token)
        if name.startswith("I-") and before[2:] == kind:
            spans[-1] = (spans[-1][0], end, kind)
        elif kind:
            spans.append((start, end, kind))
        start, before = end + 1, name
    text = " ".join(tokens)
    asked = [span for span in spans if entities.type in (None, span[2])]
    names = "; ".join(dict.fromkeys(text[first:last] for first, last, _ in asked)) or "none"
    return {
        "prompt": text,
        "answers": [names],
        "facts": {"text": text, "spans": [list(span) for span in asked]},
    }
