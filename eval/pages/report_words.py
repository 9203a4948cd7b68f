"""Numbers and verdicts in words, for the report.

The first sentence is computed, never written by hand: it speaks of the first medicine task of the recipe
(no one picks the prettiest) and of general knowledge; the next ones say how many tasks agree, and of safety
and controls.
"""

from __future__ import annotations

from markupsafe import Markup

from residency.eval.pages.report_run import Run, Score

MOST_PHRASES = 3  # of one sentence; more tasks are counted
WORST_FIRST = ("worse", "undecided", "differs", "equivalent", "better")
MINUS, NARROW = "\u2212", "\u202f"
METRICS = {
    "accuracy": "accuracy",
    "bits_per_byte": "bits per byte, lower is better",
    "preference_accuracy": "pairs ranked rightly",
}

KINDS = {
    "scratch": "new model",
    "pretrain": "pretraining",
    "cpt": "continual pretraining",
    "sft": "instruction tuning",
    "reward": "reward model",
    "preference": "preference alignment",
    "rl": "reinforcement",
    "sample": "sampled replies",
    "tree": "search step by step",
    "vocab": "vocabulary",
    "merge": "merged weights",
    "evaluate": "evaluation",
    "export": "ready to load",
}


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """`0.81`, `\u22120.05`, `+0.52`; an en dash for what is unknown. Never a negative zero."""
    if value is None:
        return "\u2013"
    text = f"{abs(value):,.{digits}f}"
    if not float(text.replace(",", "")):
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def digits(score: Score) -> int:
    """Decimals of a task's numbers."""
    return 3 if score.lower_is_better else 2


def interval(low: float | None, high: float | None, places: int = 2) -> str:
    """`[0.41, 0.62]`, or nothing where there is none; with a digit more if an end beside zero would read as zero."""
    if low is None or high is None:
        return ""
    places += any(end and not round(end, places) for end in (low, high))
    return f"[{number(low, places)}, {number(high, places)}]"


def count(value: float | None) -> str:
    """`940`, `12.8k`, `600k`, `1.2M`."""
    if value is None:
        return "\u2013"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `48 s`, `4 min 12 s`, `3 h 05 min`."""
    if seconds is None:
        return "\u2013"
    if seconds < 59.5:
        return f"{seconds:.1f}{NARROW}s" if seconds < 9.95 else f"{seconds:.0f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest:02d}{NARROW}s"
    return f"{minutes // 60}{NARROW}h {minutes % 60:02d}{NARROW}min"


def size(value: float | None) -> str:
    """Bytes as `1.6 MB` or `12.4 GB` (decimal units)."""
    if value is None:
        return "\u2013"
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return f"{value / scale:.3g}{NARROW}{unit}"
    return f"{value:.0f}{NARROW}B"


def percent(share: float | None, places: int = 1) -> str:
    return "\u2013" if share is None else f"{100 * share:.{places}f}{NARROW}%"


def chance_of_it(p: float | None) -> str:
    """A p-value."""
    return "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def within(score: Score) -> str:
    """The margin of equivalence: absolute for shares, relative for bits per byte and other values."""
    return (
        percent(score.band, 0 if score.band >= 0.0095 else 1) if score.scale != 1.0 else f"{score.margin:g}"
    )


def headline(run: Run) -> Markup:
    """The verdict in one or two plain sentences: HTML, escaped."""
    if not run.scores:
        return Markup("This run has no evaluation yet, so there is no verdict.")
    medicine = [score for score in run.last if score.domain == "medicine"] or run.last
    general = _group("General knowledge", [score for score in run.last if score.domain == "general"])
    return Markup(" ").join(part for part in (_opening(medicine[0]), general) if part)


def supplement(run: Run) -> Markup:
    """What else must be known before one believes the headline: the other tasks, safety, and the controls."""
    medicine = [score for score in run.last if score.domain == "medicine" and not score.is_reference]
    parts = [_group("Safety", [score for score in run.last if score.domain == "safety"]), controls(run)]
    if len(medicine) > 1:
        better = sum(score.verdict == "better" for score in medicine)
        text = Markup("Medicine in all: {} of {} tasks better.").format(better, len(medicine))
        parts.insert(0, text)
    return Markup(" ").join(part for part in parts if part)


def controls(run: Run) -> Markup:
    """One sentence on the controls, which tell knowledge from guessing."""
    rows = [score for score in run.last if score.domain == "control" and score.chance is not None]
    off = [score for score in rows if score.mark == "above chance"]
    if not rows:
        return Markup()
    shown = off or rows
    listed = ", ".join(f"{s.name} {number(s.value)} (chance {number(s.chance)})" for s in shown)
    if off:
        return Markup("Above chance where it should not be: {}. Read the gains with care.").format(listed)
    where = "at chance" if all(score.mark == "at chance" for score in rows) else "not above chance"
    return Markup("Controls {}, as they should be: {}.").format(where, listed)


def _opening(score: Score) -> Markup:
    value = number(score.value, digits(score))
    if score.lower_is_better:
        told = Markup("After {} the model needs <b>{}</b> bits per byte on \u201c{}\u201d").format(
            score.stage, value, score.name
        )
    elif score.metric == "preference_accuracy":
        told = Markup("After {} the model prefers the right reply in <b>{}</b> of \u201c{}\u201d").format(
            score.stage, value, score.name
        )
    else:
        told = Markup("After {} the model scores <b>{}</b> on \u201c{}\u201d").format(
            score.stage, value, score.name
        )
    if score.is_reference or score.delta is None:
        chance = f" (chance {number(score.chance)})" if score.chance is not None else ""
        return told + Markup("{}. It is the reference: there is nothing to compare it with yet.").format(
            chance
        )
    change, less = number(abs(score.delta), digits(score)), "fewer" if score.lower_is_better else "less"
    compared = f"{change} {'more' if score.delta >= 0 else less} than" if float(change) else "the same as"
    return told + Markup(", {} {} <span class=ci>{}</span>: <b class='word {}'>{}</b>.").format(
        compared,
        score.against,
        interval(score.ci_low, score.ci_high, digits(score)),
        score.verdict,
        score.verdict,
    )


def _group(title: str, rows: list[Score]) -> Markup:
    rows = [score for score in rows if not score.is_reference]
    if not rows:
        return Markup()
    if len(rows) > 1 and len({score.verdict for score in rows}) == 1:
        text = Markup("<b class='word {0}'>{0}</b> on all {1} tasks").format(rows[0].verdict, len(rows))
    elif len(rows) > MOST_PHRASES:
        text = Markup(", ").join(_share(word, rows) for word in WORST_FIRST if _of(word, rows))
    else:
        text = Markup("; ").join(_phrase(score, named=len(rows) > 1) for score in rows)
    return Markup("{}: {}.").format(title, text)


def _of(word: str, rows: list[Score]) -> list[Score]:
    return [score for score in rows if score.verdict == word]


def _share(word: str, rows: list[Score]) -> Markup:
    """On how many tasks; those that are worse are named."""
    found = _of(word, rows)
    more = ", \u2026" if found[MOST_PHRASES:] else ""
    names = f" ({', '.join(score.name for score in found[:MOST_PHRASES])}{more})"
    text = Markup("<b class='word {0}'>{0}</b> on {1} of {2}").format(word, len(found), len(rows))
    return text + (names if word == "worse" else "")


def _phrase(score: Score, *, named: bool) -> Markup:
    where = f" on {score.name}" if named else ""
    word = Markup("<b class='word {0}'>{0}</b>").format(score.verdict)
    if score.verdict == "equivalent":
        return word + Markup("{} within {}").format(where, within(score))
    places = digits(score)
    change, bounds = number(score.delta, places, sign=True), interval(score.ci_low, score.ci_high, places)
    return word + Markup("{}, {} <span class=ci>{}</span>").format(where, change, bounds)
