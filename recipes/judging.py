"""Judges what a run has measured: the verdict from the records of its finished stages, and the recipe's gates.

A gate stops the chain behind a stage whose verdict against the reference is not as wanted. Nothing that was made is
lost: with other settings, or without the gate, the same command goes on from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency import events
from residency.errors import Exit, ResidencyError
from residency.eval.settings import GateSettings, TaskSettings
from residency.recipes.plan import Plan, PlannedStage

if TYPE_CHECKING:
    from residency.eval.comparison.views import GateResult, Line, Suite

MEASURES = ("evaluate", "curve")
POINTS = 100  # a share in points
DOMAINS = ("medicine", "general", "safety")


def write_verdict(plan: Plan) -> None:
    """Write `verdict.json` and `evaluation.json`, if the reference has been evaluated.

    Raises:
        ResidencyError: the stages hold different items of a task.
    """
    from residency.eval.comparison import verdict

    records, against = _records(plan), _against(plan)
    if against not in records:
        return
    verdict.write(
        plan.paths.verdict,
        records,
        against=against,
        resamples=plan.recipe.evaluation.resamples,
        previous=_previous(plan, records),
        corpora=[
            stage.artifact for stage in plan.stages.values() if stage.kind == "corpus" and stage.finished
        ],
        gates=[result for gate in plan.recipe.evaluation.gates for result in results(plan, gate)],
    )


def check_gates(plan: Plan) -> None:
    """Refuse gates that can never be judged, before anything runs.

    Raises:
        ResidencyError: a stage that is not evaluated, or only before the reference is; an unknown task; a judge's task.
    """
    evaluation = plan.recipe.evaluation
    for gate in evaluation.gates:
        evaluated = _evaluated(plan)
        if gate.after not in evaluated:
            raise ResidencyError(
                f"evaluation.gates: {gate.after} is not evaluated", cure="Add it to evaluation.after"
            )
        against = _against(plan)
        if evaluated.index(against) >= evaluated.index(gate.after):
            raise ResidencyError(
                f"evaluation.gates: {gate.after} is judged against {against}, which is not evaluated before it",
                cure="Set evaluation.against to an earlier stage",
            )
        for name in gate.require:
            _check_subject(list(evaluation.tasks), name)


def pass_gates(plan: Plan, stage: PlannedStage) -> None:
    """Judge the gates behind a stage, once it and the reference have been evaluated.

    Raises:
        ResidencyError: exit code 3; a gate refuses, and says which task failed by how much.
    """
    judged = (stage.serves or stage.name) if stage.kind == "evaluate" else None
    for gate in plan.recipe.evaluation.gates:
        failed = [] if gate.after != judged else [each for each in results(plan, gate) if not each.passed]
        if failed:
            message = f"gate after {gate.after}: {'; '.join(each.message for each in failed)}"
            code = Exit.GATE_REFUSED
            events.emit(plan.paths.events, "gate_refused", gate.after, reason=message, exit_code=int(code))
            write_verdict(plan)
            cure = "What was made is kept; change the stage or the gate and run again"
            raise ResidencyError(message, cure=cure, code=code)


def gate_jobs(plan: Plan, stage: PlannedStage) -> list[str]:
    """Evaluations that must have ended well before a stage may start: those that a gate before it looks at."""
    found = []
    for gate in plan.recipe.evaluation.gates:
        judged, reference = (_evaluation_of(plan, name) for name in (gate.after, _against(plan)))
        if stage.name == judged:
            found.append(reference)
        elif stage.kind not in MEASURES and gate.after in stage.parents.values():
            found.append(judged)
    return [name for name in dict.fromkeys(found) if name != stage.name]


def results(plan: Plan, gate: GateSettings) -> list[GateResult]:
    """What a gate finds; nothing while its stage or the reference is not evaluated."""
    from residency.eval.comparison.compare import compare

    records = _records(plan)
    if gate.after not in records or _against(plan) not in records:
        return []
    resamples = plan.recipe.evaluation.resamples
    found = compare(records[gate.after], records[_against(plan)], resamples=resamples)
    lines, suites = {each.task: each for each in found.lines}, {each.domain: each for each in found.suites}
    made = []
    for name, wanted in gate.require.items():
        if name in lines:
            made.append(_of_task(gate, lines[name], wanted))
            continue
        judged = {task.name for task in plan.recipe.evaluation.tasks if task.kind == "rubric"}
        if name in suites and suites[name].delta:
            made.append(_of_suite(gate, suites[name], wanted))
        beside = [each for each in found.lines if each.domain == name and each.task not in judged]
        apart = [each for each in beside if name not in suites or each.task not in suites[name].tasks]
        made += [_of_task(gate, each, wanted) for each in apart]
    return made


def _of_task(gate: GateSettings, line: Line, wanted: str) -> GateResult:
    passed = line.verdict == "better" if wanted == "better" else line.non_inferior
    return _result(
        gate, line.task, wanted, passed, (line.delta, line.ci_low, line.ci_high), line.margin, line.metric
    )


def _of_suite(gate: GateSettings, suite: Suite, wanted: str) -> GateResult:
    assert suite.delta
    passed = suite.delta[1] > (0 if wanted == "better" else -suite.margin)
    return _result(gate, suite.domain, wanted, passed, suite.delta, suite.margin, "accuracy")


def _result(
    gate: GateSettings, of: str, wanted: str, passed: bool, delta: Any, margin: float, metric: str
) -> GateResult:
    from residency.eval.comparison.views import GateResult

    scale, unit = (POINTS, " points") if metric.endswith("accuracy") else (1, f" {metric.replace('_', ' ')}")
    value, low, high = (scale * number for number in delta)
    said = f"{of} {'is' if passed else 'is not'} {wanted}: {value:+.3g}{unit} [{low:+.3g}, {high:+.3g}]"
    if wanted == "non-inferior":
        said += f", margin {scale * margin:.3g}"
    return GateResult(after=gate.after, of=of, wanted=wanted, passed=passed, message=said)


def _check_subject(tasks: list[TaskSettings], name: str) -> None:
    known = {task.name: task for task in tasks}
    if name in known:
        if known[name].kind == "rubric":
            raise ResidencyError(
                f"evaluation.gates: {name} is scored by a judge, and a judge's opinion stops no chain",
                cure="Name a task with a right answer, or a domain",
            )
        return
    if name not in DOMAINS or not any(task.domain == name and task.kind != "rubric" for task in tasks):
        domains = [domain for domain in DOMAINS if any(task.domain == domain for task in tasks)]
        raise ResidencyError(
            f"evaluation.gates: {name!r} is no task or domain of this evaluation",
            cure=f"Known: {', '.join([*domains, *known])}",
        )


def _records(plan: Plan) -> dict[str, Path]:
    """Evaluated stages that are finished, in the order of the chain, and their records."""
    return {
        stage.serves or stage.name: stage.artifact
        for stage in plan.stages.values()
        if stage.kind == "evaluate" and stage.finished
    }


def _evaluated(plan: Plan) -> list[str]:
    return [stage.serves or stage.name for stage in plan.stages.values() if stage.kind == "evaluate"]


def _evaluation_of(plan: Plan, name: str) -> str:
    """The evaluation stage of a stage."""
    found = (s.name for s in plan.stages.values() if s.kind == "evaluate" and name in (s.serves, s.name))
    return next(found)


def _against(plan: Plan) -> str:
    evaluation, evaluated = plan.recipe.evaluation, _evaluated(plan)
    known = (
        [evaluation.against]
        if evaluation.against
        else [name for name in evaluated if name in evaluation.after]
    )
    return next(iter([*known, *evaluated]), "")


def _previous(plan: Plan, records: dict[str, Path]) -> dict[str, str]:
    """Each evaluated stage's nearest ancestor that was evaluated too."""
    found = {}
    for name in records:
        at = _parent(plan, name)
        while at and at not in records:
            at = _parent(plan, at)
        if at:
            found[name] = at
    return found


def _parent(plan: Plan, name: str) -> str | None:
    stage = plan.recipe.stages.get(name)
    return stage.parent if stage else None
