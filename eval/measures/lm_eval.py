"""Tasks of lm-evaluation-harness: its prompts, filters and metrics, our engine, one record per document.

Prompts are built for all documents up to the last one that is asked, since lm-eval draws solved examples in one
sequence; so ranks that share the documents ask as one process does.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Item, byte_count, digest_of
from residency.eval.lm_eval_bridge import ROLLING, SHOTS_SEED, Loaded, loaded
from residency.eval.lm_eval_model import ResidencyLM, Told
from residency.eval.prompt import Row
from residency.eval.records import Record, make_record
from residency.eval.settings import LmEvalTask

INVALID = "[invalid]"  # what lm-eval's filters leave where they find nothing


def measure(settings: LmEvalTask, candidate: Candidate, rows: list[Row]) -> list[Record]:
    """Records in the order of rows.

    Raises:
        ResidencyError: the metric is not between 0 and 1, or is missing for a document.
    """
    found, lm = loaded(settings), ResidencyLM(candidate)
    documents = _requests(settings, found.task, lm, [int(row["id"]) for row in rows])
    instances = [each for some in documents.values() for each in some]
    told = _answer(lm, instances)
    found.task._instances = instances
    found.task.apply_filters()
    return [
        _record(
            settings, found, documents[int(row["id"])], [told[id(each)] for each in documents[int(row["id"])]]
        )
        for row in rows
    ]


def _requests(settings: LmEvalTask, task: Any, lm: ResidencyLM, wanted: list[int]) -> dict[int, list[Any]]:
    """Number of a document to lm-eval's requests for it."""
    task.set_fewshot_seed(seed=SHOTS_SEED)
    task.build_all_requests(
        limit=max(wanted) + 1,
        apply_chat_template=settings.chat,
        fewshot_as_multiturn=settings.chat,
        chat_template=lm.apply_chat_template if settings.chat else None,
        tokenizer_name=lm.tokenizer_name if settings.chat else "",
    )
    found: dict[int, list[Any]] = {number: [] for number in wanted}
    for instance in task.instances:
        if instance.doc_id in found:
            found[instance.doc_id].append(instance)
    for some in found.values():
        some.sort(key=lambda each: each.idx)
    return found


def _answer(lm: ResidencyLM, instances: list[Any]) -> dict[int, Told]:
    """Fill the instances' responses; returns what is noted of each, by its id."""
    kinds: dict[str, list[Any]] = defaultdict(list)
    for instance in instances:
        kinds[instance.request_type] += [instance] * (instance.repeats or 1)
    told = {}
    for kind, asked in kinds.items():
        responses = getattr(lm, kind)(asked, disable_tqdm=True)
        for instance, response, note in zip(asked, responses, lm.told, strict=True):
            instance.resps.append(response)
            told[id(instance)] = note
    return told


def _record(settings: LmEvalTask, found: Loaded, instances: list[Any], told: list[Told]) -> Record:
    task, document = found.task, instances[0].doc
    filtered = [each.filtered_resps[found.filter] for each in instances]
    metrics = task.process_results(document, filtered)
    metric = "accuracy" if found.metric == "acc" else found.metric
    fields: dict[str, Any] = {
        "main": True,
        "metric": metric if found.filter == "none" else f"{metric},{found.filter}",
        "tokens": sum(note.tokens for note in told),
        **_own_fields(found, instances, filtered, told),
    }
    if task.OUTPUT_TYPE != ROLLING:
        fields["correct"] = _share(settings, found.metric, metrics)
        numbers = {name: float(value) for name, value in metrics.items() if _is_number(value)}
        fields["parts"] = {f"{name},{found.filter}": value for name, value in numbers.items()}
    item = Item(
        id=str(instances[0].doc_id),
        cluster=str(instances[0].doc_id),
        pieces=[],
        sizes=[fields.pop("bytes")],
        answer=None,
        digest=digest_of(str(argument) for each in instances for argument in each.args),
        cut_tokens=max(note.cut_tokens for note in told),
    )
    return make_record(settings, item, **fields)


def _own_fields(found: Loaded, instances: list[Any], filtered: list[Any], told: list[Told]) -> dict[str, Any]:
    """What each type of request leaves; always `bytes`."""
    task, arguments = found.task, [each.args for each in instances]
    match task.OUTPUT_TYPE:
        case "multiple_choice":
            return _choice(found, instances, [nats for nats, _ in filtered])
        case "loglikelihood":
            nats = -sum(each.resps[0][0] for each in instances)
            return {"nats": nats, "bytes": byte_count(given[1] for given in arguments)}
        case "loglikelihood_rolling":
            return {
                "nats": -sum(each.resps[0] for each in instances),
                "bytes": byte_count(given[0] for given in arguments),
            }
    reply = str(instances[0].resps[0])
    invalid = filtered[0] == INVALID or filtered[0] == [INVALID]
    status = "truncated" if told[0].truncated and invalid else "invalid" if invalid else "answered"
    return {"reply": reply, "bytes": byte_count([reply]), "status": status, "rule": found.filter}


def _choice(found: Loaded, instances: list[Any], nats: list[float]) -> dict[str, Any]:
    """Log-likelihoods of the options, how the metric compares them, and which is right."""
    task, document = found.task, instances[0].doc
    options = [str(option) for option in task.doc_to_choice(document)]
    sums = nats[: len(options)]  # what follows are the options without a context (acc_mutual_info)
    lengths = {"acc_norm": map(len, options), "acc_bytes": (len(option.encode()) for option in options)}
    scores = (
        [total / length for total, length in zip(sums, lengths[found.metric], strict=True)]
        if (found.metric in lengths)
        else sums
    )
    right = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(right, list):
        right = right[0] if len(right) == 1 else None  # several right options have no place in a record
    if isinstance(right, str):
        right = options.index(right) if right in options else None
    return {
        "scores": scores,
        "sums": sums,
        "prediction": int(np.argmax(scores)),
        "answer": right,
        "bytes": byte_count(options),
    }


def _share(settings: LmEvalTask, metric: str, metrics: dict[str, Any]) -> float:
    value: Any = metrics.get(metric)
    if not _is_number(value) or not 0 <= float(value) <= 1:
        raise ResidencyError(
            f"task {settings.name}: metric {metric} of a document is {value!r}, no number between 0 and 1",
            cure=f"Name another metric of {settings.task}",
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)
