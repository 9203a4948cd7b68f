"""What evaluation leaves for its readers: the lines of `verdict.json`, and the views of `evaluation.json`.

The one place where their fields are written down; `verdict` writes them, the report and
`residency compare` read them. Differences are candidate less reference in the task's own unit (accuracy as a share, not
in points); where `lower_is_better`, a difference below 0 is the better one. No torch, no numpy here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float, float]
"""Estimate, low and high end of its 95 % interval."""
Named = Literal["better", "equivalent", "worse", "undecided", "differs", "reference"]
"""`differs`: a difference of a value that has no good direction (a mean on an attitude scale)."""
Kept = Literal["kept", "lost", "undecided"]


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Validity(_View):
    """What became of the replies of a task: rows by status. All 0 where nothing was written."""

    answered: int = 0
    invalid: int = 0
    refused: int = 0
    truncated: int = 0

    @property
    def replies(self) -> int:
        return self.answered + self.invalid + self.refused + self.truncated


class Line(_View):
    """One task after one stage, against the reference and the stage before: an entry of `verdict.json`."""

    task: str
    title: str
    domain: str
    metric: str
    lower_is_better: bool = False
    stage: str
    against: str
    verdict: Named
    """By the 95 % interval of `delta`; "equivalent" by its 90 % interval inside the margin."""
    n: int
    """Items."""
    clusters: int
    value: float
    value_low: float
    value_high: float
    reference: float
    delta: float
    ci_low: float
    ci_high: float
    margin: float
    """Difference that does not matter, in the unit of `delta`."""
    non_inferior: bool
    """Whether the interval shows that it is not worse by the margin or more."""
    p: float | None = None
    """Two-sided; None for the reference itself."""
    test: Literal["mcnemar", "sign-flip", "bootstrap"] | None = None
    """McNemar's mid-p where items are 0/1 and independent; else signs of whole clusters are flipped; where the value is
    no mean over items (macro-F1), a normal with the bootstrap's spread."""
    p_holm: float | None = None
    """Adjusted over the stage's tasks: below 0.05, the claim holds for all that are claimed together."""
    p_bh: float | None = None
    """Adjusted for screening: the share of false ones among those below."""
    standard_error: float
    """Of `delta`."""
    detectable: float
    """Difference that this test finds with 80 % power."""
    items_to_decide: int | None = None
    """Items like these with which a difference as large as the margin would be found."""
    gained: int
    """Items that are better answered than by the reference."""
    lost: int
    """Items that are worse answered."""
    chance: float | None = None
    """What guessing gets."""
    constant: float | None = None
    """What always naming the same option gets, at best."""
    longest: float | None = None
    """What naming the longest option gets."""
    validity: Validity = Validity()
    items_cut: int = 0
    """Items whose prompt lost text to fit."""
    too_good: bool = False
    """It rose far above its sisters, the other tasks of its domain: look for the test in the training text."""
    too_good_score: float | None = None
    """Standard errors above its sisters; None where there are too few of them."""
    previous: str | None = None
    delta_previous: float | None = None
    ci_previous_low: float | None = None
    ci_previous_high: float | None = None


class Suite(_View):
    """The mean over the tasks of one domain at one stage. Each task counts once, but for bits per byte and other
    values that are no shares."""

    domain: str
    stage: str
    against: str
    tasks: list[str]
    """Whose mean `delta` is."""
    delta: Interval | None
    """None where no task of the domain is a share."""
    better: int
    equivalent: int
    worse: int
    undecided: int
    """These four count all tasks of the domain (`differs` counts as undecided)."""
    margin: float = 0.0
    """Mean of the tasks' margins."""
    verdict: Named = "undecided"


class Step(_View):
    """What one stage brought, over the stage before."""

    stage: str
    previous: str
    delta: Interval


class Attribution(_View):
    """Contrasts along the chain; the steps' estimates add up to the total's."""

    name: str
    """A task, or a domain (the mean over its tasks)."""
    title: str
    is_suite: bool
    domain: str
    lower_is_better: bool = False
    steps: list[Step]
    total: Interval


class Forgetting(_View):
    """One general task at one stage: was it kept?"""

    task: str
    title: str
    stage: str
    delta: Interval
    margin: float
    lower_is_better: bool = False
    state: Kept
    """kept: shown to be not worse by the margin or more; lost: shown to be worse; else undecided."""


class Exchange(_View):
    """What a stage paid: medical points gained for each general point lost."""

    stage: str
    medicine: Interval
    general: Interval
    rate: float | None
    """None where nothing general was lost."""


class Components(_View):
    """How a task's value depends on the wording and on the order of the options, at one stage."""

    task: str
    stage: str
    templates: list[str]
    orders: list[int]
    cells: list[list[float]]
    """Mean score in each wording (rows) and order (columns)."""
    item: float | None = None
    prompt: float | None = None
    order: float | None = None
    residual: float | None = None
    """Variances of a single cell's difference to the reference; None for the reference itself."""
    standard_error: float | None = None
    """Of the difference, were items, wordings and orders drawn anew."""
    prompt_spread: float
    """Best less worst wording."""
    probability_better: float | None = None
    """That it beats the reference in a wording drawn at random."""
    flip_rate: float | None = None
    """How often two ways of asking give different answers."""
    order_consistent: float | None = None
    """Share of items that are right in every order."""
    positional_bias: float | None = None
    """0 to 1: how far the places chosen are from the places that are right."""


class Bin(_View):
    """Items of similar confidence."""

    confidence: float
    accuracy: float
    low: float
    high: float
    items: int


class Calibration(_View):
    """Does the model know what it knows: softmax over the options' scores, first wording and order."""

    task: str
    stage: str
    ece: float
    """Expected calibration error, debiased."""
    brier: float
    nll: float
    """Nats."""
    aurc: float
    """Area under the risk-coverage curve; less is better."""
    accuracy_at_80: float
    """Accuracy on the surest 80 % of the items."""
    bins: list[Bin]


class Group(_View):
    """One subject of a task."""

    task: str
    stage: str
    group: str
    items: int
    value: float
    reference: float
    delta: Interval | None
    """None where the subject has one cluster only."""


class Scored(_View):
    """The same items by another scorer than the one that makes the value."""

    task: str
    stage: str
    scorer: str
    main: bool
    value: float
    disagreement: float
    """Share of items whose answer differs from the main scorer's."""
    validity: Validity


class Flip(_View):
    """An item whose answer changed between the reference and the stage."""

    task: str
    stage: str
    item: str
    group: str
    kind: Literal["lost", "gained"]
    """lost: the reference had it right; gained: the stage has."""
    answer: int | None
    prediction: int | None
    reference_prediction: int | None
    reply: str | None = None
    reference_reply: str | None = None
    question: str = ""
    """Empty where the item's text may not be shown."""
    options: list[str] = []


class Contamination(_View):
    """A task's difference on items found in the training text, and on the others."""

    task: str
    stage: str
    flagged_items: int
    clean_items: int
    flagged: Interval | None
    clean: Interval | None
    """None where a side is too small."""
    interaction: Interval | None
    """Flagged less clean: above 0, the stage gained where it may have seen the items."""
    p: float | None


class CurvePoint(_View):
    """One checkpoint on the quick suite."""

    step: int
    """Optimizer steps; 0 is the stage's parent."""
    value: float
    low: float
    high: float
    delta: Interval | None
    """To step 0, on the same items; None for step 0 itself."""


class Curve(_View):
    """One task along the checkpoints of one stage; `curves.json` is a list of these."""

    stage: str
    task: str
    title: str
    domain: str
    metric: str
    lower_is_better: bool = False
    margin: float
    n: int
    """Items of the quick suite."""
    clusters: int
    points: list[CurvePoint]
    bottom: int
    """Step of the worst point before the best: the stability gap (arXiv 2406.14833)."""
    recovery: int | None
    """First step after the bottom that is as good as step 0; None where there is none."""
    best: int
    """Step of the best point."""
    gap: float
    """How much worse than step 0 the bottom is; 0 or less where it is not."""
    slope: Interval
    """Of a step, the median over pairs of points (Theil-Sen)."""
    first_to_last: Interval
    gain: Interval
    """Of the best point over step 0, less what choosing the best adds by chance."""
    selection_bias: float
    missing: list[int] = []
    """Steps whose checkpoint was not there to be scored."""


class SeedScores(_View):
    """One task after one stage, over several seeds of training; an entry of `seeds.json`."""

    task: str
    title: str
    domain: str
    metric: str
    lower_is_better: bool = False
    stage: str
    against: str
    margin: float
    seeds: list[int]
    values: list[float]
    deltas: list[float]
    verdicts: list[Named]
    """These three seed by seed."""
    value: float
    """Mean over the seeds."""
    value_deviation: float | None
    """Standard deviation between seeds; None, unknown, with one."""
    delta: Interval | None
    """Mean over the seeds with its interval between seeds alone (Student's t); None with one."""
    delta_mean: float
    deviation: float | None
    """Standard deviation of `deltas` between seeds; None, unknown, with one."""
    item_error: float
    """Standard error of one seed's difference from its items, on average."""
    seed_share: float | None
    """Share of the variance of one seed's difference that comes from the seed; the rest is the items'."""
    whole: Interval | None
    """Mean difference with an interval for other items and other seeds; None with one seed."""


class GateResult(_View):
    """What a gate of the recipe found."""

    after: str
    of: str
    """Task or domain."""
    wanted: str
    passed: bool
    message: str


class Evaluation(_View):
    """`evaluation.json`: all views but the verdict."""

    against: str
    stages: list[str]
    """In the order of the chain; the reference is among them."""
    suites: list[Suite] = []
    attribution: list[Attribution] = []
    forgetting: list[Forgetting] = []
    exchange: list[Exchange] = []
    components: list[Components] = []
    calibration: list[Calibration] = []
    groups: list[Group] = []
    scorers: list[Scored] = []
    """Of tasks that more than one scorer looked at."""
    flips: list[Flip] = []
    """At most 20 of a task and stage, lost ones first."""
    contamination: list[Contamination] = []
    gates: list[GateResult] = []


class Comparison(_View):
    """What `residency compare A B` says."""

    candidate: str
    reference: str
    lines: list[Line]
    suites: list[Suite]
    only_candidate: list[str] = []
    only_reference: list[str] = []
    """Tasks that the other one was not asked."""
