"""What the page on data knows of a run: the corpora with their ledgers and rows, and the mixtures made of them.

Everything comes from what finished stages left: manifests, `dropped.jsonl`, `contamination.jsonl`, and one walk over
the rows for their lengths. Text that must not leave the machine, or from which a later step removes patients'
identifiers, is withheld here, so that a page can be mailed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from residency.artifact import Manifest, RunPaths, read_attempt, read_manifest
from residency.data import contrast, parts, passport
from residency.data.batch import pieces
from residency.eval.report_run import Run, Stage

CORPUS = "corpus-"
SAMPLES = 5  # dropped documents that are shown of each reason
MOST_FILES = 200  # more different beginnings of ids are no files
NUMBERED = re.compile(r"(.+):\d+")
CLUSTERS = "clusters_of_"


@dataclass(frozen=True)
class Level:
    """One line of a corpus' funnel: what was left behind a step, and what it left out."""

    name: str
    documents: int
    characters: int | None
    reasons: dict[str, int]
    """Reason to its number of documents."""
    cut: int = 0
    """Characters that the step took out of documents which stayed."""
    is_part: bool = False
    """Whether it is one side of the split."""


@dataclass(frozen=True)
class Hit:
    """An exam item in a document."""

    corpus: str
    task: str
    item: str
    question: str
    """Text of the item; empty where it is not known."""
    document: str
    coverage: float
    sentence: str
    dropped: bool
    """Whether the document was dropped for it, or only flagged."""
    withheld: str


@dataclass(frozen=True)
class Dropped:
    """Documents that one step dropped for one reason."""

    corpus: str
    step: str
    reason: str
    documents: int
    samples: list[dict[str, str]]
    """`id` and `text` of some."""
    withheld: str
    """Why their text is not shown; empty where it is."""


@dataclass
class Rows:
    """What one walk over a part of a corpus tells."""

    lengths: Counter[int]
    """Characters of a document to the number of such documents."""
    files: Counter[str]
    """File (or method, of synthetic rows) to its documents; empty where the ids do not tell."""

    @property
    def documents(self) -> int:
        return self.lengths.total()

    @property
    def characters(self) -> int:
        return sum(length * times for length, times in self.lengths.items())

    @property
    def median(self) -> int:
        """The lower median of the lengths."""
        seen = 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if 2 * seen >= self.documents:
                return length
        return 0


@dataclass
class Corpus:
    """One finished corpus of the recipe."""

    name: str
    artifact: Path
    manifest: Manifest

    @property
    def measured(self) -> dict[str, Any]:
        return self.manifest.measured

    @property
    def entry(self) -> dict[str, Any]:
        """Its passport."""
        return self.manifest.passport[0]

    @property
    def train(self) -> int:
        return int(self.measured["documents"])

    @property
    def held_out(self) -> int:
        return int(self.measured["held_out_documents"])

    @property
    def kept(self) -> int:
        return self.train + self.held_out

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What was read and what each step left; empty without steps."""
        return list(self.measured.get("curation", []))

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.ledger[1:]

    @property
    def unpaired(self) -> int:
        """Rows for which no wrong answer was found."""
        return int(self.measured["dropped"].get(contrast.DROPPED, 0))

    @property
    def unread(self) -> dict[str, int]:
        """Reason to rows that were left out while the source was read."""
        return {
            reason: rows for reason, rows in self.measured["dropped"].items() if reason != contrast.DROPPED
        }

    @property
    def read(self) -> int:
        """Documents that were read."""
        return int(self.ledger[0]["documents"]) if self.ledger else self.kept + self.unpaired

    @property
    def came(self) -> int:
        """Documents of the source."""
        return self.read + sum(self.unread.values())

    @property
    def reasons(self) -> Counter[str]:
        """Reason to documents, over reading and all steps."""
        told = Counter(self.measured["dropped"])
        for step in self.steps:
            told.update(step["dropped"])
        return told

    @cached_property
    def rows(self) -> Rows:
        """Of the part that is trained on."""
        return _walk(self.artifact / "train.jsonl")

    @cached_property
    def held_out_rows(self) -> Rows:
        path = self.artifact / "held_out.jsonl"
        return _walk(path) if path.exists() else Rows(Counter(), Counter())

    @cached_property
    def funnel(self) -> list[Level]:
        """Reading, the steps, and the two sides of the split."""
        levels = [Level("source", self.came, None, {})] if self.unread else []
        levels.append(Level("read", self.read, self._read_characters(), self.unread))
        for before, step in zip(self.ledger, self.steps, strict=False):
            lost = before["characters"] - step["characters"] - sum(step["dropped_characters"].values())
            reasons = dict(Counter(step["dropped"]).most_common())
            levels.append(
                Level(step["step"], step["documents"], step["characters"], reasons, cut=max(0, lost))
            )
        beyond = levels[-1].documents - self.kept - self.unpaired
        left = {contrast.DROPPED: self.unpaired, "over the limit": beyond}
        told = {reason: documents for reason, documents in left.items() if documents > 0}
        levels.append(Level("training", self.train, self.rows.characters, told, is_part=True))
        if self.held_out:
            characters = self.held_out_rows.characters
            levels.append(Level("held out", self.held_out, characters, {}, is_part=True))
        return levels

    def _read_characters(self) -> int | None:
        """Characters of what was read; without steps nobody counted those of rows that were left out later."""
        if self.ledger:
            return int(self.ledger[0]["characters"])
        known = self.read == self.kept and not self.manifest.settings.get("rejected")
        return self.rows.characters + self.held_out_rows.characters if known else None

    def has(self, kind: str) -> bool:
        """Whether a step of this kind ran."""
        return any(_kind(step["step"]) == kind for step in self.steps)

    @property
    def clusters(self) -> Counter[int]:
        """Documents of a cluster of duplicates to the number of such clusters."""
        sizes: Counter[int] = Counter()
        for step in self.steps:
            for key, clusters in step["counts"].items():
                if key.startswith(CLUSTERS):
                    sizes[int(key.removeprefix(CLUSTERS))] += clusters
        return sizes

    @cached_property
    def dropped(self) -> list[Dropped]:
        """By step and reason, with a sample of each."""
        path = self.artifact / "dropped.jsonl"
        samples: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in parts.load(path) if path.exists() else ():
            shown = samples.setdefault((row["step"], row["reason"]), [])
            if len(shown) < SAMPLES:
                shown.append({"id": str(row["id"]), "text": row["text"]})
        return [
            Dropped(
                self.name,
                step["step"],
                reason,
                documents,
                samples.get((step["step"], reason), []),
                self.withheld(step["step"]),
            )
            for step in self.steps
            for reason, documents in Counter(step["dropped"]).most_common()
        ]

    def withheld(self, step: str) -> str:
        """Why the text of documents, as it was at a step, is not shown; empty where it may be."""
        names = [told["step"] for told in self.steps]
        if any(_kind(name) == "phi" for name in names[names.index(step) :]):
            return "patients’ identifiers had not been removed from it yet"
        return passport.forbidden([self.entry], "text-logging") or ""


@dataclass(frozen=True)
class Mixture:
    """What a training stage learns from."""

    stage: str
    kind: str
    measured: dict[str, Any]

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Corpus to planned and realised share, tokens, documents and epochs; empty for preference pairs."""
        return dict(self.measured.get("mixture", {}))

    @property
    def drift(self) -> float:
        """The largest difference of a share from its plan."""
        return max((abs(part["realised"] - part["planned"]) for part in self.parts.values()), default=0.0)


@dataclass
class DataRun:
    """A run, as far as its data go."""

    name: str
    corpora: list[Corpus]
    exams: list[Corpus]
    """Items of evaluation tasks that are no corpora of the recipe."""
    mixtures: list[Mixture]
    waiting: dict[str, str]
    """Corpora and mixtures that are not finished, with the reason where they failed."""
    uses: dict[str, list[str]]
    """Corpus to what it is used for."""

    @cached_property
    def hits(self) -> list[Hit]:
        """Exam items found in documents, the best covered first."""
        found = [hit for corpus in self.corpora for hit in _hits(corpus)]
        return sorted(found, key=lambda hit: -hit.coverage)

    def tokens_per_character(self, name: str) -> tuple[float, str] | None:
        """Measured by the stage that took most of a corpus, and that stage's name; None where none did.

        What was cut off long dialogues is counted in, as its characters are.
        """
        corpus = next(corpus for corpus in self.corpora if corpus.name == name)
        taken = [(mixture, mixture.parts[name]) for mixture in self.mixtures if name in mixture.parts]
        if not taken or not corpus.rows.characters:
            return None
        mixture, part = max(taken, key=lambda pair: pair[1]["epochs"])
        documents = part["epochs"] * corpus.train
        cut = part.get("truncated_tokens", 0) * documents / part["documents"]
        return (part["tokens"] + cut) / (part["epochs"] * corpus.rows.characters), mixture.stage


def read(paths: RunPaths, graph: dict[str, Any]) -> DataRun:
    """Everything that the page needs.

    Args:
        graph: `name` and `stages` as in `recipe.json`; only artifacts of these identities count.
    """
    stages = [_stage(paths, fields) for fields in graph["stages"]]
    run = Run(paths.root, graph["name"], stages, [])
    made = [
        Corpus(stage.name.removeprefix(CORPUS), paths.artifact(stage.name, stage.identity), stage.manifest)
        for stage in stages
        if stage.kind == "corpus" and stage.manifest
    ]
    mixtures = [
        Mixture(stage.name, stage.kind, tokens.measured)
        for stage in run.training
        if (tokens := run.helper(stage, "tokens", "pairs")) and tokens.manifest
    ]
    wanted = [stage for stage in stages if stage.kind in ("corpus", "tokens", "pairs")]
    return DataRun(
        name=run.name,
        corpora=[corpus for corpus in made if corpus.manifest.stage.startswith(CORPUS)],
        exams=[corpus for corpus in made if not corpus.manifest.stage.startswith(CORPUS)],
        mixtures=mixtures,
        waiting={stage.name: stage.reason for stage in wanted if not stage.manifest},
        uses=_uses(stages),
    )


def _stage(paths: RunPaths, fields: dict[str, Any]) -> Stage:
    stage = Stage(
        fields["name"], fields["kind"], fields["identity"], fields.get("parents") or {}, fields.get("for")
    )
    artifact = paths.artifact(stage.name, stage.identity)
    if (artifact / "manifest.json").exists():
        stage.manifest = read_manifest(artifact)
    else:
        attempt = read_attempt(paths.attempt(stage.name, stage.identity))
        stage.reason = str(attempt.get("reason") or "") if attempt.get("status") == "failed" else ""
    return stage


def _uses(stages: list[Stage]) -> dict[str, list[str]]:
    """Corpus to training stages, and to what else needs it."""
    uses: dict[str, list[str]] = {}
    for stage in stages:
        for role, parent in stage.parents.items():
            match stage.kind:
                case "tokens" | "pairs" if role.startswith("corpus:"):
                    use = stage.serves or stage.name
                case "scratch":
                    use = "tokenizer"
                case "evaluate" if role.startswith("items:"):
                    use = "evaluation"
                case "corpus" if role.startswith("corpus:"):
                    use = stage.name.removeprefix(CORPUS)
                case _:
                    continue
            known = uses.setdefault(parent.removeprefix(CORPUS), [])
            if use not in known:
                known.append(use)
    return uses


def _walk(path: Path) -> Rows:
    lengths: Counter[int] = Counter()
    files: Counter[str] = Counter()
    told = True
    for row in parts.load(path):
        lengths[sum(map(len, pieces(row)))] += 1
        if told:
            numbered = NUMBERED.fullmatch(str(row["id"]))
            origin = row.get("method") or (numbered and numbered[1])
            told = bool(origin) and len(files) <= MOST_FILES
            files[str(origin)] += 1
    return Rows(lengths, files if told else Counter())


def _hits(corpus: Corpus) -> Iterator[Hit]:
    path = corpus.artifact / "contamination.jsonl"
    steps = [step["step"] for step in corpus.steps if _kind(step["step"]) == "decontaminate"]
    if not path.exists() or not steps:
        return
    modes = [step["mode"] for step in corpus.manifest.settings["steps"] if step["kind"] == "decontaminate"]
    withheld, questions = corpus.withheld(steps[0]), _questions(corpus)
    for row in parts.load(path):
        question = questions.get((row["task"], row["item"]), "")
        yield Hit(corpus.name, question=question, dropped="drop" in modes, withheld=withheld, **row)


def _questions(corpus: Corpus) -> dict[tuple[str, str], str]:
    """Task and item to the question, of the exams that a corpus was searched for and that may be shown."""
    found = {}
    for role, place in corpus.manifest.parent_paths.items():
        exam = corpus.artifact / place
        task = role.removeprefix("exam:")
        if task == role or not (exam / "manifest.json").exists():
            continue
        if passport.forbidden(read_manifest(exam).passport, "text-logging"):
            continue
        for path in (exam / "train.jsonl", exam / "held_out.jsonl"):
            for row in parts.load(path) if path.exists() else ():
                found[task, str(row["id"])] = next(iter(pieces(row)), "")
    return found


def _kind(step: str) -> str:
    """`duplicates` of `2-duplicates`."""
    return step.partition("-")[2]
