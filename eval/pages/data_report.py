"""The page on the data of a run: `runs/<recipe>/data.html`, one file that opens offline.

What went in, what each step left out and why, how long the documents are, what the mixtures became, duplicates, exam
items found, the passports, and a sample of what was dropped. How: `data_report_run` reads what finished stages left,
`data_pictures` draws it, `data_report.html.jinja` lays it out in the style of the report, everything escaped."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from residency.artifact import RunPaths
from residency.data.mixture.mixing import LARGEST_DRIFT
from residency.errors import ResidencyError
from residency.eval.pages import charts, data_pictures, report_words
from residency.eval.pages.data_corpus import Corpus
from residency.eval.pages.data_report_run import DataRun, Hit, read

WORDS = ("number", "count", "percent", "size")
SHOWN_HITS, FOLDED_HITS = 8, 100  # of each benchmark
SHOWN_FILES = 12
SHOWN_CHARACTERS, SHOWN_QUESTION = 700, 240


def write(paths: RunPaths, graph: dict[str, Any]) -> Path:
    """Render the page from what is finished of a run; returns the file.

    Args:
        graph: `name` and `stages`, as `recipe.json` holds them.

    Raises:
        ResidencyError: no corpus is finished.
    """
    run = read(paths, graph)
    if not run.corpora:
        raise ResidencyError(
            f"no corpus of {run.name} is finished in {paths.root}", cure="Run the recipe first"
        )
    target = paths.data_report
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    # Half a surrogate pair, which a damaged source may hold, cannot be written otherwise.
    beside.write_text(render(run), encoding="utf-8", errors="replace")
    beside.replace(target)
    return target


def render(run: DataRun) -> str:
    """The page of a run that was read."""
    files = resources.files("residency.eval.pages")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page.filters |= {name: getattr(report_words, name) for name in WORDS}
    page.filters |= {"whole": whole, "reason": reason, "short": short}
    span = data_pictures.span_of(corpus.rows.lengths for corpus in run.corpora)
    widest = max((mixture.drift for mixture in run.mixtures), default=0.0)
    return page.from_string(files.joinpath("data_report.html.jinja").read_text("utf-8")).render(
        run=run,
        css=Markup(files.joinpath("report.css").read_text("utf-8")),
        headline=headline(run),
        supplement=supplement(run),
        totals=totals(run),
        kinds=report_words.KINDS,
        limit=LARGEST_DRIFT,
        share_bar=charts.share_bar,
        tokens=lambda corpus, characters: tokens(run, corpus, characters),
        rates={corpus.name: run.tokens_per_character(corpus.name) for corpus in run.corpora},
        histogram=lambda corpus: histogram(corpus, span),
        files=files_of,
        sizes=lambda corpus: data_pictures.sizes(corpus.clusters),
        drift=lambda name, part: drift(name, part, widest),
        duplicates=[corpus for corpus in run.corpora if corpus.has("duplicates")],
        searched=[corpus for corpus in run.corpora if corpus.has("decontaminate")],
        benchmarks=benchmarks(run),
        hits=(SHOWN_HITS, FOLDED_HITS),
        dropped=[dropped for corpus in run.corpora for dropped in corpus.dropped],
        written=time.strftime("%d %B %Y, %H:%M UTC", time.gmtime()).lstrip("0"),
    )


def headline(run: DataRun) -> Markup:
    """What went in, what stayed, and how near the mixture came to the plan: HTML, escaped."""
    sums = totals(run)
    parts = [
        Markup("<b>{}</b> {} from {} {} went in; <b>{}</b> stayed ({}).").format(
            whole(sums["came"]), plural("document", sums["came"]),
            sums["sources"], plural("source", sums["sources"]),
            whole(sums["kept"]), report_words.percent(sums["kept"] / sums["came"] if sums["came"] else None),
        )
    ]  # fmt: skip
    reasons: Counter[str] = Counter()
    for corpus in run.corpora:
        reasons.update(corpus.reasons)
    if reasons:
        most, documents = reasons.most_common(1)[0]
        told = Markup("The most frequent reason was <b>{}</b> ({}).")
        parts.append(told.format(reason(most), whole(documents)))
    mixed = [mixture for mixture in run.mixtures if mixture.parts]
    if mixed:
        parts.append(_nearness(max(mixture.drift for mixture in mixed)))
    if any(corpus.has("decontaminate") for corpus in run.corpora):
        parts.append(_contamination(run.hits))
    return Markup(" ").join(parts)


def supplement(run: DataRun) -> Markup:
    """What else must be known before one believes the headline."""
    parts = []
    unsearched = [corpus.name for corpus in run.corpora if not corpus.has("decontaminate")]
    if unsearched:
        parts.append(Markup("Not searched for exam items: {}.").format(", ".join(unsearched)))
    waiting = [f"{name} ({why.rstrip('.')})" if why else name for name, why in run.waiting.items()]
    if waiting:
        parts.append(Markup("Not finished, and not on this page: {}.").format(", ".join(waiting)))
    return Markup(" ").join(parts)


def totals(run: DataRun) -> dict[str, int]:
    """Sums over all corpora, for the head of the page."""
    return {
        "came": sum(corpus.came for corpus in run.corpora),
        "kept": sum(corpus.kept for corpus in run.corpora),
        "held_out": sum(corpus.held_out for corpus in run.corpora),
        "characters": sum(corpus.rows.characters for corpus in run.corpora),
        "bytes": sum(corpus.measured["bytes"] for corpus in run.corpora),
        "sources": len({corpus.entry["source"] for corpus in run.corpora}),
        "tokens": sum(mixture.measured["tokens"] for mixture in run.mixtures),
    }


def tokens(run: DataRun, corpus: Corpus, characters: int | None) -> float | None:
    """About how many tokens some characters of a corpus are; None where no stage measured it."""
    rate = run.tokens_per_character(corpus.name)
    return None if rate is None or characters is None else rate[0] * characters


def histogram(corpus: Corpus, span: tuple[int, int]) -> Markup:
    """Lengths of a corpus' training documents."""
    return data_pictures.histogram(
        corpus.rows.lengths, span, f"Documents of {corpus.name} by their characters"
    )


def files_of(corpus: Corpus) -> list[tuple[str, int]]:
    """Where the training documents come from, the largest first; empty where there is but one file."""
    files = corpus.rows.files.most_common()
    if len(files) < 2:
        return []
    rest = sum(documents for _, documents in files[SHOWN_FILES:])
    others = [(f"{len(files) - SHOWN_FILES} others", rest)] if rest else []
    return files[:SHOWN_FILES] + others


def drift(corpus: str, part: dict[str, Any], widest: float) -> Markup:
    """Picture of one corpus' difference from its planned share."""
    off = part["realised"] - part["planned"]
    told = f"{corpus}: {report_words.number(100 * off, 2, sign=True)} % of the tokens from the plan"
    return data_pictures.drift(part["planned"], part["realised"], widest, told)


@dataclass(frozen=True)
class Benchmark:
    """An evaluation task of which items were found in documents."""

    task: str
    hits: list[Hit]
    """One of each item first, the best covered before the others."""

    @property
    def items(self) -> int:
        return len({hit.item for hit in self.hits})

    @property
    def documents(self) -> int:
        return len({(hit.corpus, hit.document) for hit in self.hits})


def benchmarks(run: DataRun) -> list[Benchmark]:
    """The tasks with hits, the one with the most first."""
    tasks: dict[str, list[Hit]] = {}
    times: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Hit]] = []
    for hit in run.hits:
        ranked.append((times[hit.task, hit.item], hit))
        times[hit.task, hit.item] += 1
    for _, hit in sorted(ranked, key=lambda pair: pair[0]):
        tasks.setdefault(hit.task, []).append(hit)
    return sorted((Benchmark(*pair) for pair in tasks.items()), key=lambda task: -len(task.hits))


def whole(value: float | None) -> str:
    """`16,407`; an en dash for what is unknown."""
    return report_words.number(value, 0)


def plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def reason(name: str) -> str:
    """A reason as a reader says it: `shared paragraphs`."""
    return name.replace("_", " ")


def short(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a text."""
    text = text.strip()
    return text if len(text) <= most else f"{text[:most].rstrip()}\u2026"


def _nearness(widest: float) -> Markup:
    if not widest:
        return Markup("The mixture is exactly as planned.")
    # Rounded up: what is said holds.
    bound = math.ceil(round(widest * 10_000, 6)) / 10_000
    return Markup("The mixture is within <b>{}</b> of its plan.").format(report_words.percent(bound, 2))


def _contamination(hits: list[Hit]) -> Markup:
    dropped = {(hit.corpus, hit.document) for hit in hits if hit.dropped}
    flagged = {(hit.corpus, hit.document) for hit in hits} - dropped
    if not hits:
        return Markup("No document holds an exam item.")
    told = [
        f"{whole(len(some))} {word}"
        for some, word in ((dropped, "dropped"), (flagged, "only flagged"))
        if some
    ]
    many = len(dropped) + len(flagged)
    return Markup("<b>{}</b> {} exam items: {}.").format(
        whole(many), "document holds" if many == 1 else "documents hold", ", ".join(told)
    )
