"""Settings of evaluation: tasks, one class per kind, and the `evaluate` stage. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from residency.data.settings import CorpusSettings, Count, Settings
from residency.eval.shipped import shipped_task

Scorer = Literal["option-text", "letter", "reply"]
Method = Literal["direct", "chain-of-thought", "verification-of-choice"]
Domain = Literal["medicine", "general", "safety", "control"]
Positive = Annotated[int, Field(gt=0)]
LM_EVAL = "lm-eval:"  # before the name or the file of a task of lm-evaluation-harness
# Names in the attempt of a curve.
HELD = "held"  # weights of checkpoints that wait to be scored
ENDED = "training-ended"  # the flag that the chain leaves when the ranks have ended


class Task(Settings):
    """One measurement of a model on fixed items."""

    name: str
    """Name in the verdict."""
    title: str = ""
    """What the report calls it."""
    domain: Domain
    """What it speaks for: a gain, forgetting, safety, or a control that must stay at chance."""
    limit: Count | None = None
    """At most so many items, the first ones."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only this share of the items, drawn evenly from every group: a quick suite."""
    margin: Annotated[float, Field(gt=0)] = 0.01
    """Difference that does not matter (absolute for accuracy, relative for bits per byte)."""


class ItemsTask(Task):
    """A task whose items are rows of a corpus."""

    items: CorpusSettings | str
    """Where the items come from: a source, or a corpus of the recipe (its held-out part)."""


class AskedTask(ItemsTask):
    """A task whose items are questions, put to the model through a template."""

    templates: Annotated[list[str], Field(min_length=1)] = ["question"]
    """Wordings of the question: shipped ones by name (`eval/prompts/*.jinja`), or Jinja text. With several, an item's
    score is their mean and the spread is reported, unless `validation` chooses one."""
    instruction: str = ""
    """Said once before everything; Jinja text, `{{ group }}` is the item's subject."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Solved examples before the question, of the item's own group where groups are known."""
    shots_from: CorpusSettings | None = None
    """Where solved examples come from; never from the test items."""
    shots_by: Literal["order", "nearest"] = "order"
    """The first ones of the file, or those nearest to the question by the model's own hidden states."""
    validation: CorpusSettings | None = None
    """Items on which the best template is chosen, for each model by itself."""
    chat: bool = False
    """Ask through the model's chat template; conversations among the items always are."""
    max_new_tokens: Count = 256
    """Longest reply, where one is written."""

    @model_validator(mode="after")
    def _shots_have_a_source(self) -> AskedTask:
        if self.shots and self.shots_from is None:
            raise ValueError("shots needs shots_from: where the solved examples come from")
        if self.validation and len(self.templates) < 2:
            raise ValueError("validation chooses among templates: give two or more")
        return self


class ChoiceTask(AskedTask):
    """Multiple choice, by log-likelihood or by what the model writes."""

    kind: Literal["choice"] = "choice"
    scorers: Annotated[list[Scorer], Field(min_length=1)] = ["option-text"]
    """Mean log-likelihood per byte of each option's text, the letter's log-likelihood, or the written reply. The first
    gives the task's value; the others are shown beside it, with how often they disagree."""
    orders: Positive = 1
    """Orders of the options, each a rotation of the last, backwards from a full turn on; an item's score is their
    mean."""
    method: Method = "direct"
    """How a reply is come to: at once, by reasoning aloud, or by arguing for each option and judging the arguments."""
    samples: Positive = 1
    """Replies for each question; the answer is their majority (self-consistency)."""
    listed: bool = True
    """The question shows its options by letter where a letter or a reply is asked for; else a reply must find one by
    itself, as in reinforcement on questions that are conversations."""
    vote: bool = False
    """One answer for an item, the majority over orders and samples, instead of the mean of its scores."""
    temperature: Annotated[float, Field(gt=0)] = 0.7
    """Of sampled replies; a single one is the likeliest (greedy)."""

    @model_validator(mode="after")
    def _replies_are_written(self) -> ChoiceTask:
        if "reply" not in self.scorers and (self.method != "direct" or self.samples > 1 or self.vote):
            raise ValueError("method, samples and vote are about replies: name reply among scorers")
        if not self.listed and ("letter" in self.scorers or self.method == "verification-of-choice"):
            raise ValueError("letters and verification-of-choice need options that are listed")
        if self.method == "verification-of-choice" and self.shots:
            raise ValueError("verification-of-choice reads the model's own arguments, no shots")
        return self


class ContinuationTask(AskedTask):
    """Text whose one right continuation must be the likeliest, token by token (LAMBADA)."""

    kind: Literal["continuation"] = "continuation"


class AnswerTask(AskedTask):
    """Questions that are answered in free text and compared with reference answers."""

    kind: Literal["answer"] = "answer"
    metric: str
    """How a reply is compared with the references (`residency.eval.metrics`)."""
    also: list[str] = []
    """Metrics that are shown beside it."""
    stop: list[str] = []
    """Strings that end a reply."""


class RubricTask(AskedTask):
    """Conversations whose replies a local model judges against criteria with points; never a gate."""

    kind: Literal["rubric"] = "rubric"
    judge: str | None = None
    """Model that judges: a directory or hub id. Without one the task is refused."""


class LikertTask(AskedTask):
    """Statements rated on a scale; the score is the expected value over the scale's steps."""

    kind: Literal["likert"] = "likert"
    scale: Annotated[list[str], Field(min_length=2)]
    """Steps of the scale, lowest first."""


class VarianceTask(AskedTask):
    """How far several sampled replies to one question lie apart (EigenScore): a sign of hallucination."""

    kind: Literal["variance"] = "variance"
    samples: Annotated[int, Field(ge=2)] = 10
    """Replies for each question."""
    temperature: Annotated[float, Field(gt=0)] = 0.7
    """Of the sampled replies."""


class PreferenceTask(ItemsTask):
    """Pairs of replies of which the chosen one must be likelier."""

    kind: Literal["preference"] = "preference"
    aspect: str | None = None
    """Only pairs of this aspect."""


class BitsPerByteTask(ItemsTask):
    """Compression of running text, comparable across tokenizers."""

    kind: Literal["bits-per-byte"] = "bits-per-byte"


class LmEvalTask(Task):
    """A task of lm-evaluation-harness (extra `lm-eval`), its prompts and metrics, scored and written by this engine."""

    kind: Literal["lm-eval"] = "lm-eval"
    task: str
    """Its name, or the path of its YAML file. `lm-eval:NAME` in place of a task is this with `name: lm-eval/NAME` and
    the domain general."""
    include: str | None = None
    """Directory of more YAML files in which the name is looked for first."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Solved examples, drawn as lm-eval draws them; what the YAML file says unless given."""
    metric: str = ""
    """The metric that counts, `acc_norm` or with a filter `exact_match,flexible-extract`: a mean over documents of
    which more is better. The file's first such unless given; bits per byte for rolling log-likelihoods."""
    chat: bool = False
    """Ask through the model's chat template, solved examples as turns."""


ItemsTaskSettings = (
    ChoiceTask
    | ContinuationTask
    | AnswerTask
    | RubricTask
    | LikertTask
    | VarianceTask
    | PreferenceTask
    | BitsPerByteTask
)
TaskSettings = Annotated[ItemsTaskSettings | LmEvalTask, Field(discriminator="kind")]


class UsedTask(BaseModel):
    """A shipped task, changed; other keys are those of its kind."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    use: str
    """Its name."""


def _written_out(value: Any) -> Any:
    """A shipped task by its name, or changed (`{use: medqa, shots: 5, name: medqa-5-shots}`), as its fields."""
    if isinstance(value, str):
        return _fields(value)
    if isinstance(value, dict) and isinstance(value.get("use"), str):
        changes = {key: change for key, change in value.items() if key != "use"}
        return {**_fields(value["use"]), **changes}
    return value


def _fields(name: str) -> dict[str, Any]:
    if not name.startswith(LM_EVAL):
        return {"name": name, **shipped_task(name)}
    task = name.removeprefix(LM_EVAL)
    stem = Path(task).stem if task.endswith((".yaml", ".yml")) else task
    return {"kind": "lm-eval", "name": f"lm-eval/{stem}", "domain": "general", "task": task}


NamedTask = Annotated[
    TaskSettings,
    BeforeValidator(_written_out, json_schema_input_type=str | UsedTask | TaskSettings),
]


TASK: TypeAdapter[TaskSettings] = TypeAdapter(NamedTask)


def load_task(name: str, **changes: Any) -> ItemsTaskSettings:
    """A shipped task, with some of its fields changed.

    Raises:
        ResidencyError: no task of this name; the nearest ones are named.
        ValidationError: a change that does not fit.
    """
    task = TASK.validate_python({**_fields(name), **changes})
    assert not isinstance(task, LmEvalTask), "none is shipped"
    return task


class EvaluateSettings(Settings):
    """Scores one model on every task; leaves one record per item and way of asking."""

    kind: Literal["evaluate"] = "evaluate"
    parent: str = Field(alias="from")
    """Stage whose model is evaluated."""
    tasks: list[NamedTask]
    """What is measured."""
    max_length: Annotated[int, Field(gt=1)] = 2048
    """Longest prompt in tokens, and the window of bits per byte."""


class CurveSettings(Settings):
    """Scores the checkpoints of a training stage; leaves their records, one point of the curve for each."""

    kind: Literal["curve"] = "curve"
    parent: str = Field(alias="from")
    """Stage whose checkpoints are scored."""
    tasks: list[NamedTask]
    """What is measured."""
    every: Positive
    """Every which checkpoint is scored."""
    save_every: Positive | None
    """Optimizer steps between checkpoints; a quarter of the stage unless given."""
    chat_template: str | None = None
    """Text of the chat template that the stage brings; its parent is asked in it too."""
    max_length: Annotated[int, Field(gt=1)] = 2048
    """Longest prompt in tokens, and the window of bits per byte."""


class DuringSettings(Settings):
    """A quick suite on the checkpoints of training stages, scored by a process of its own while they train."""

    stages: Annotated[list[str], Field(min_length=1)]
    """Training stages; their `save_every` says how often there is a checkpoint."""
    tasks: list[str] = []
    """Names among `evaluation.tasks`; all of them unless given."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of each task's items, drawn evenly from every group."""
    every: Positive = 1
    """Every which checkpoint is scored; the last one always is."""
    devices: str = ""
    """Accelerators of the scoring process, as CUDA_VISIBLE_DEVICES names them (`7`). Without any it takes nothing from
    the ranks but cores, at low priority. On devices of the ranks it needs room beside them."""


class GateSettings(Settings):
    """Stops the chain behind a stage, unless its verdict against the reference is as required."""

    after: str
    """Evaluated stage that is judged; what follows it starts only when it passes."""
    require: Annotated[dict[str, Literal["better", "non-inferior"]], Field(min_length=1)]
    """Task or domain (medicine, general, safety) to what it must be: `better`, or `non-inferior` within the margin, as
    its 95 % interval shows. A domain is judged by the mean over its tasks; one whose value is no share (bits per byte)
    by itself. What a judge model scored never counts."""


class EvaluationSettings(Settings):
    """The recipe's evaluation: which tasks, after which stages, against which stage."""

    tasks: list[NamedTask] = []
    """Shipped tasks by name (`eval/tasks/*.yaml`), changed (`use:`), or tasks written out."""
    after: list[str] = []
    """Stages whose models are evaluated; `base` is the model that the chain starts from."""
    against: str | None = None
    """Stage that the others are compared with; the first of `after` unless given."""
    during: DuringSettings | None = None
    """A quick suite on checkpoints, while a stage trains."""
    processes: Positive | None = None
    """Local processes that share each task's items; all accelerators of the machine unless given, 1 on a machine
    without. Records do not depend on it."""
    max_length: Annotated[int, Field(gt=1)] = 2048
    """Longest prompt in tokens, and the window of bits per byte."""
    resamples: Count = 10_000
    """Bootstrap resamples for the intervals."""
    gates: list[GateSettings] = []
    """Where the chain stops unless a stage was worth it."""

    @model_validator(mode="after")
    def _during_knows_its_tasks(self) -> EvaluationSettings:
        known = [task.name for task in self.tasks]
        for name in self.during.tasks if self.during else []:
            if name not in known:
                raise ValueError(f"during.tasks: {name!r} is none of tasks ({', '.join(known) or 'empty'})")
        if self.during and not self.tasks:
            raise ValueError("during needs tasks to take its quick suite from")
        return self
