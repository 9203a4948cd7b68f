"""Rows made of another corpus's rows: instructions by templates, text gathered about entities, text by a local model,
or a choice among replies (`residency.data.synthesis.selection`).

Every row says so: `synthetic: true`, how it was made (`method`), and which row it was made of (`made_of`), by which the
split into training and held-out rows goes. Only training rows of the other corpus are used. No torch here."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from residency.artifact import StageFile, read_manifest
from residency.data.curation import parts
from residency.data.passport import Entry
from residency.data.settings import CorpusSettings
from residency.data.synthesis.prose import Terms, candidates, nouns, sections, sentences, stands_alone
from residency.data.synthesis.selection import KINDS, selected
from residency.data.synthesis.settings import (
    EntitiesSettings,
    GenerateSettings,
    Selection,
    TemplatesSettings,
)
from residency.data.synthesis.templates import instructions
from residency.data.synthesis.user_function import load
from residency.errors import ResidencyError

Row = dict[str, Any]
FEWEST_SENTENCES = 3  # on an entity


def write(settings: CorpusSettings, stage: StageFile, path: Path) -> Path:
    """Write the rows of a corpus that is made of another to a JSONL file; kept if it is there already.

    Raises:
        ResidencyError: rows that the method cannot use, a file of terms or a function that is not there.
    """
    if not path.exists():
        beside, left_out = path.with_suffix(".part.jsonl"), Counter[str]()
        with beside.open("wb") as file:
            for row in rows(settings, stage, left_out):
                file.write(parts.dump(row))
        parts.note(_notes(path), left_out)
        beside.replace(path)
    return path


def left_out(path: Path) -> Counter[str]:
    """Rows of the other corpus of which `write` made nothing, by reason."""
    return Counter(parts.noted(_notes(path))) if _notes(path).exists() else Counter()


def _notes(path: Path) -> Path:
    return path.with_suffix(".left_out.json")


def rows(settings: CorpusSettings, stage: StageFile, left_out: Counter[str]) -> Iterator[Row]:
    """The rows, in the order of those that they are made of; what gives none is counted."""
    corpus, *like = (stage.parents[f"corpus:{name}"] for name in settings.made_of)
    synthesis, seed = settings.synthesis, settings.seed
    assert seed is not None, "the planner fills the seed in"
    if isinstance(synthesis, TemplatesSettings):
        yield from _by_templates(synthesis, corpus, seed)
    elif isinstance(synthesis, EntitiesSettings):
        yield from _about_entities(synthesis, corpus, like[0] if like else corpus)
    elif isinstance(synthesis, Selection):
        method = f"{synthesis.told} of {settings.made_of[0]}"
        for row, made in selected(synthesis, _load(corpus, KINDS[synthesis.kind]), left_out, corpus.name):
            yield _made(row["id"], made.pop("id"), method) | made
    else:
        assert synthesis is not None
        yield from _by_model(synthesis, corpus, stage.parents.get("writer"), seed)


def sources_of(settings: CorpusSettings, stage: StageFile) -> list[Entry]:
    """Passports of the corpora, and of the model, that a corpus is made of."""
    made_of = [stage.parents[f"corpus:{name}"] for name in settings.made_of]
    writer = stage.parents.get("writer")
    if writer is not None and (writer / "manifest.json").exists():
        made_of.append(writer)
    return [entry for parent in made_of for entry in read_manifest(parent).passport]


def _load(corpus: Path, kinds: tuple[str, ...]) -> Iterator[Row]:
    """Training rows of a corpus artifact."""
    schema = read_manifest(corpus).measured["schema"]
    if schema not in kinds:
        raise ResidencyError(
            f"corpus {corpus.name} holds rows of kind {schema}: this synthesis reads {' or '.join(kinds)}"
        )
    with (corpus / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _by_templates(settings: TemplatesSettings, corpus: Path, seed: int) -> Iterator[Row]:
    kinds = ("text", "choice")
    terms = Terms(row["text"] for row in _load(corpus, kinds) if "text" in row)
    for row in _load(corpus, kinds):
        for number, (template, (asked, answer)) in enumerate(instructions(row, settings, terms, seed)):
            yield _made(row["id"], f"{template}-{number}", f"template {template}") | {
                "messages": [_message("user", asked), _message("assistant", answer)]
            }


def _about_entities(settings: EntitiesSettings, corpus: Path, like: Path) -> Iterator[Row]:
    """One document an entity: what the corpus says of it, document by document."""
    targets = _targets(settings, corpus, like)
    known = {entity.lower(): entity for entity in targets}
    longest = max((len(entity.split()) for entity in known), default=1)
    said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    left = dict.fromkeys(known, settings.sentences)
    for row in _load(corpus, ("text",)):
        for section in sections(row["text"]):
            for paragraph in section.paragraphs:
                for sentence in filter(stands_alone, sentences(paragraph)):
                    for entity in _mentioned(sentence, known, longest):
                        if left[entity]:
                            left[entity] -= 1
                            said[entity][row["id"]].append(sentence)
    for entity, name in known.items():
        if settings.sentences - left[entity] >= FEWEST_SENTENCES:
            paragraphs = [" ".join(told) for told in said[entity].values()]
            text = "\n\n".join([name[:1].upper() + name[1:], *paragraphs])
            yield _made(name, "entity", "text gathered about an entity") | {"text": text}


def _targets(settings: EntitiesSettings, corpus: Path, like: Path) -> list[str]:
    """The entities, the most informative first."""
    if settings.terms:
        path = Path(settings.terms)
        if not path.is_file():
            raise ResidencyError(f"synthesis.terms: no file {path}")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))[: settings.number]
    terms = Terms(row["text"] for row in _load(corpus, ("text",)))
    found: dict[str, float] = defaultdict(float)
    used: set[str] = set()
    for row in _load(corpus, ("text",)):
        used |= nouns(row["text"])
    for row in _load(like, ("text", "choice", "messages")):
        for term in candidates("\n".join(_said(row))):
            # What the corpus tells nothing of cannot be gathered from it.
            if term in used and terms.holding[term] and not terms.is_common(term):
                found[term] += terms.weight(term)
    return sorted(found, key=lambda term: (-found[term], term))[: settings.number]


def _said(row: Row) -> Iterator[str]:
    for key in ("text", "prompt", "messages"):
        value = row.get(key, ())
        yield from [value] if isinstance(value, str) else (message["content"] for message in value)


def _mentioned(sentence: str, known: dict[str, str], longest: int) -> set[str]:
    words = re.findall(r"[\w’'-]+", sentence.lower())
    return {
        entity
        for start in range(len(words))
        for length in range(1, longest + 1)
        if (entity := " ".join(words[start : start + length])) in known
    }


def _by_model(settings: GenerateSettings, corpus: Path, writer: Path | None, seed: int) -> Iterator[Row]:
    if settings.call is not None:
        answer = load(settings.call)
        method = f"generated by {settings.call}"
    else:
        from residency.data.synthesis.model import ModelWriter

        assert writer is not None, "the planner names the model's directory"
        answer, method = ModelWriter(writer, settings, seed), f"generated by {settings.model}"
    batch: list[tuple[str, str]] = []
    for row in _load(corpus, ("text",)):
        title = row["text"].strip().partition("\n")[0].strip()
        asked = settings.prompt.replace("{title}", title).replace("{text}", row["text"])
        batch.append((row["id"], asked))
        if len(batch) == settings.batch_size:
            yield from _answered(batch, answer, settings, method)
            batch = []
    if batch:
        yield from _answered(batch, answer, settings, method)


def _answered(
    batch: list[tuple[str, str]], answer: Any, settings: GenerateSettings, method: str
) -> Iterator[Row]:
    replies = answer([asked for _, asked in batch])
    if not isinstance(replies, list) or [type(reply) for reply in replies] != [str] * len(batch):
        raise ResidencyError(
            f"synthesis.call = {settings.call}: {len(batch)} prompts gave {type(replies).__name__} "
            f"of {len(replies) if hasattr(replies, '__len__') else 'no length'}",
            cure="Return a list with one text for each prompt",
        )
    for (id, asked), reply in zip(batch, replies, strict=True):
        made = _made(id, "reply", method)
        if settings.form == "text":
            yield made | {"text": reply}
        else:
            yield made | {"messages": [_message("user", asked), _message("assistant", reply)]}


def _made(source: str, id: str, method: str) -> Row:
    return {"id": f"{source}/{id}", "synthetic": True, "method": method, "made_of": source}


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
