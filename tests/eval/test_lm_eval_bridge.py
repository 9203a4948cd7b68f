"""Tasks of lm-evaluation-harness by our engine against its own `hf` backend, item by item, and their records."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.artifact import read_manifest
from residency.errors import ResidencyError
from residency.eval import lm_eval_bridge
from residency.eval.candidate import Candidate
from residency.eval.comparison.compare import compare
from residency.eval.evaluate import run
from residency.eval.measures import lm_eval as bridged
from residency.eval.records import Record, read_records, value_of
from residency.eval.rows import read_items
from residency.eval.settings import LM_EVAL, TASK, LmEvalTask
from residency.recipes.evaluate_command import Asked, chosen, evaluate

lm_eval = pytest.importorskip("lm_eval")

ROWS = [
    {"question": "Which organ filters blood?", "options": ["the kidney", "a tooth", "the ear"], "right": 0},
    {"question": "Which organ pumps blood?", "options": ["the skin", "the heart", "hair"], "right": 1},
    {"question": "What carries oxygen?", "options": ["bone", "the nail", "red cells"], "right": 2},
    {"question": "Who writes prescriptions?", "options": ["a doctor", "a tailor", "a cook"], "right": 0},
    {
        "question": "Where is bile stored? ",
        "options": ["the thumb", "the gallbladder", "the eye"],
        "right": 1,
    },
]
CHOICE = """
task: tiny_choice
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: options
doc_to_target: right
fewshot_split: test
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
"""
FILLED = """
task: tiny_filled
output_type: multiple_choice
doc_to_text: right
doc_to_choice: "{{[options[0] + ' is', options[1] + ' is', options[2] + ' is']}}"
doc_to_target: "what was asked for"
"""
MUTUAL = CHOICE.replace("metric_list:", "metric_list:\n  - {metric: acc_mutual_info, aggregation: mean}")
LAST_WORD = """
task: tiny_last_word
output_type: loglikelihood
doc_to_text: "{{question}} It is"
doc_to_target: "{{' ' + options[right]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
REPLY = """
task: tiny_reply
output_type: generate_until
doc_to_text: "{{question}} Say one letter:"
doc_to_target: "{{options[right][0]}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 12, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - name: strict
    filter: [{function: regex, regex_pattern: "^ *([a-z])$"}, {function: take_first}]
  - name: flexible
    filter: [{function: regex, regex_pattern: "([a-zA-Z])"}, {function: take_first}]
"""
ROLLING = """
task: tiny_rolling
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{(question + ' ' + options[0] + '. ') * (1 + right * 3)}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
Make = Callable[..., LmEvalTask]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a task's YAML beside its documents and returns its settings."""

    def write(text: str, rows: list[dict[str, Any]] = ROWS, **fields: Any) -> LmEvalTask:
        data, file = tmp_path / "documents.jsonl", tmp_path / "task.yaml"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        where = {
            "dataset_path": "json",
            "test_split": "test",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
        }
        file.write_text(text + "".join(f"{key}: {json.dumps(value)}\n" for key, value in where.items()))
        task = TASK.validate_python({"use": f"{LM_EVAL}{file}", **fields})
        assert isinstance(task, LmEvalTask)
        return task

    return write


@pytest.fixture
def candidate(model: Any, tokenizer: Any) -> Candidate:
    return Candidate(model, tokenizer, 128)


def records_of(task: LmEvalTask, candidate: Candidate) -> list[Record]:
    lm_eval_bridge.identify(task)
    return bridged.measure(task, candidate, read_items(task, Path("nowhere")))


def by_hf(task: LmEvalTask, candidate: Candidate) -> list[dict[str, Any]]:
    """lm-eval's own samples, through its command's function and its `hf` backend."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    backend = HFLM(pretrained=candidate.model, tokenizer=candidate.tokenizer, batch_size=2, max_length=128)
    results = lm_eval.simple_evaluate(
        model=backend,
        tasks=[task.task],
        num_fewshot=task.shots,
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=task.chat,
        bootstrap_iters=0,
    )
    assert results is not None
    [samples] = results["samples"].values()
    return sorted(samples, key=lambda sample: (sample["filter"], sample["doc_id"]))


@pytest.mark.parametrize("fields", [{}, {"shots": 2, "metric": "acc_norm"}, {"chat": True}])
def test_multiple_choice_equals_the_hf_backend(
    make: Make, candidate: Candidate, fields: dict[str, Any]
) -> None:
    candidate.max_length = 128
    task = make(CHOICE, **fields)
    theirs, ours = by_hf(task, candidate), records_of(task, candidate)
    for sample, record in zip(theirs, ours, strict=True):
        sums = [nats for nats, _ in sample["filtered_resps"]]
        np.testing.assert_allclose(record["sums"], sums, atol=1e-4)
        assert record["correct"] == sample["acc_norm" if "metric" in fields else "acc"]
        assert record["answer"] == ROWS[sample["doc_id"]]["right"]
        assert (record["prediction"] == record["answer"]) == bool(record["correct"])
    assert {record["metric"] for record in ours} == {fields.get("metric", "accuracy")}
    assert {record["cut_tokens"] > 0 for record in ours} == {"shots" in fields}, "two shots exceed the window"


@pytest.mark.parametrize(("text", "metric"), [(FILLED, "acc"), (MUTUAL, "acc_mutual_info")])
def test_options_in_the_context_and_options_alone(
    make: Make, candidate: Candidate, text: str, metric: str
) -> None:
    task = make(text)
    theirs, ours = by_hf(task, candidate), records_of(task, candidate)
    for sample, record in zip(theirs, ours, strict=True):
        sums = [nats for nats, _ in sample["filtered_resps"]][:3]
        np.testing.assert_allclose(record["sums"], sums, atol=1e-4)
        assert record["correct"] == sample[metric]
        assert record["answer"] == ROWS[sample["doc_id"]]["right"]


def test_last_words_equal_the_hf_backend(make: Make, candidate: Candidate) -> None:
    task = make(LAST_WORD)
    theirs, ours = by_hf(task, candidate), records_of(task, candidate)
    for sample, record in zip(theirs, ours, strict=True):
        assert record["nats"] == pytest.approx(-sample["filtered_resps"][0][0], abs=1e-4)
        assert record["correct"] == sample["acc"]
    assert {record["metric"] for record in ours} == {"accuracy"}, "the first metric that is a mean"


@pytest.mark.parametrize("metric", ["", "exact_match,flexible"])
def test_replies_and_filters_equal_the_hf_backend(make: Make, candidate: Candidate, metric: str) -> None:
    # Our replies also end with the tokenizer's end token and the chat template's; lm-eval's go on after one that the
    # model's generation settings do not name.
    candidate.tokenizer, candidate.model = copy.deepcopy((candidate.tokenizer, candidate.model))
    candidate.tokenizer.chat_template = None
    candidate.model.generation_config.eos_token_id = candidate.tokenizer.eos_token_id
    task = make(REPLY, metric=metric)
    chosen = metric.partition(",")[2] or "strict"
    theirs = [sample for sample in by_hf(task, candidate) if sample["filter"] == chosen]
    ours = records_of(task, candidate)
    for sample, record in zip(theirs, ours, strict=True):
        assert record["reply"] == sample["resps"][0][0]
        assert record["correct"] == sample["exact_match"]
        found = sample["filtered_resps"][0] != "[invalid]"
        assert (record["status"] == "answered") == found
    assert {record["metric"] for record in ours} == {f"exact_match,{chosen}"}


def test_rolling_log_likelihoods_equal_the_hf_backend(make: Make, candidate: Candidate) -> None:
    task = make(ROLLING)
    theirs, ours = by_hf(task, candidate), records_of(task, candidate)
    for sample, record in zip(theirs, ours, strict=True):
        assert record["nats"] == pytest.approx(-sample["filtered_resps"][0], abs=1e-4 * record["tokens"])
        assert record["bytes"] == sample["bits_per_byte"][1]
    assert max(record["tokens"] for record in ours) > 128, "a document of several windows"
    total = -sum(sample["bits_per_byte"][0] for sample in theirs) / sum(s["bits_per_byte"][1] for s in theirs)
    assert value_of(ours) == pytest.approx(total / np.log(2))


def test_ranks_that_share_the_documents_ask_as_one_process(make: Make, candidate: Candidate) -> None:
    task = make(CHOICE, shots=1)
    whole = records_of(task, candidate)
    rows = read_items(task, Path("nowhere"))
    parts = [bridged.measure(task, candidate, rows[rank::2]) for rank in range(2)]
    for record in [*parts[0], *parts[1]]:
        alone = whole[int(record["id"])]
        assert record["prompt_digest"] == alone["prompt_digest"]
        np.testing.assert_allclose(record["sums"], alone["sums"], atol=1e-4)


def test_a_task_among_others_in_an_evaluation(
    make: Make, tmp_path: Path, model: Any, tokenizer: Any, make_attempt: Callable[..., Path]
) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    task = make(CHOICE)
    path, identity = lm_eval_bridge.identify(task)
    settings = {"kind": "evaluate", "from": "sft", "tasks": [task.model_dump()]}
    attempt = make_attempt(settings, {"model": tmp_path / "model", "items:lm-eval/task": path})
    with pytest.raises(ResidencyError, match="has changed since"):
        run(attempt)  # planned with another identity
    stage = json.loads((attempt / "stage.json").read_text())
    stage["parent_identities"]["items:lm-eval/task"] = identity
    (attempt / "stage.json").write_text(json.dumps(stage))
    artifact = run(attempt)
    [(name, records)] = read_records(artifact).items()
    assert (name, len(records)) == ("lm-eval/task", 5)
    assert records[0]["parts"].keys() == {"acc,none", "acc_norm,none"}
    [line] = compare(artifact, artifact).lines
    assert (line.task, line.metric, line.delta) == ("lm-eval/task", "accuracy", 0.0)


def test_changed_documents_are_never_served_old_scores(
    make: Make, tmp_path: Path, model: Any, tokenizer: Any
) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def measured() -> tuple[Path, dict[str, Any]]:
        tasks = chosen(f"{LM_EVAL}{tmp_path / 'task.yaml'}", None, Asked(shots=0, limit=4))
        [artifact] = evaluate(
            str(tmp_path / "model"), tasks, against=None, runs=tmp_path / "runs", max_length=None
        )
        return artifact, read_manifest(artifact).measured["tasks"]["lm-eval/task"]

    make(CHOICE)
    first, told = measured()
    assert (told["n"], told["metric"], told["cached"]) == (4, "accuracy", False)
    assert measured()[0] == first
    predicted = [record["prediction"] for record in read_records(first)["lm-eval/task"]]
    rows = [{**row, "right": place} for row, place in zip(ROWS, predicted, strict=False)]
    make(CHOICE, rows)
    second, told = measured()
    assert second != first
    assert (told["value"], told["cached"]) == (1.0, False)
    with pytest.raises(ResidencyError, match="items are of two sources"):
        compare(first, second)


def test_the_identity_is_of_documents_configuration_and_code(make: Make, tmp_path: Path) -> None:
    def identity(*given: Any, **fields: Any) -> str:
        return lm_eval_bridge.identify(make(*given, **fields))[1]

    first = identity(CHOICE)
    assert identity(CHOICE) == first
    changed = [{**ROWS[0], "right": 1}, *ROWS[1:]]
    others = [
        identity(CHOICE, changed),
        identity(CHOICE.replace("Answer:", "Reply:")),
        identity(CHOICE, shots=1),
    ]
    (tmp_path / "utils.py").write_text("LIMIT = 3\n")
    others.append(identity(CHOICE))
    assert len({first, *others}) == 5
    (tmp_path / "utils.py").unlink()
    assert identity(CHOICE) == first


def test_generation_at_a_temperature_samples_each_repeat(make: Make, candidate: Candidate) -> None:
    text = REPLY.replace("do_sample: false", "do_sample: true, temperature: 1.0") + "repeats: 3\n"
    task = make(text)
    records_of(task, candidate)
    instances = lm_eval_bridge.loaded(task).task.instances
    assert {len(instance.resps) for instance in instances} == {3}
    assert any(len(set(instance.resps)) > 1 for instance in instances)


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        (CHOICE, {"metric": "brier_score"}, "Name one of: acc, acc_norm"),
        (REPLY, {"metric": "exact_match,loose"}, "no filter 'loose'. Name one of: strict, flexible"),
        (CHOICE.replace("right\n", "wrong\n").replace("options\n", "nothing\n"), {}, "lm-eval cannot load"),
        (CHOICE + "unsafe_code: true\n", {}, "runs code that a model wrote"),
        (CHOICE, {"task": "no/such.yaml"}, "no file no/such.yaml"),
    ],
)
def test_what_is_refused_before_a_model_is_loaded(
    make: Make, text: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResidencyError, match=message):
        lm_eval_bridge.identify(make(text, **fields))


def test_settings_of_generation_that_we_lack_are_refused(make: Make, candidate: Candidate) -> None:
    with pytest.raises(ResidencyError, match="repetition_penalty is not among"):
        records_of(make(REPLY.replace("do_sample: false", "repetition_penalty: 1.2")), candidate)


def test_names_are_found_among_lm_evals_own_files_and_in_include(make: Make, tmp_path: Path) -> None:
    task = make(CHOICE, task="tiny_choice", include=str(tmp_path))
    assert lm_eval_bridge.identify(task)[0] == (tmp_path / "task.yaml").resolve()
    with pytest.raises(ResidencyError, match="no task 'arc_esay'"):
        lm_eval_bridge.identify(make(CHOICE, task="arc_esay"))
    with pytest.raises(ResidencyError, match=r"ai2_arc is a (group|tag) of tasks"):
        lm_eval_bridge.identify(make(CHOICE, task="ai2_arc"))


def test_data_of_the_hub_offline_get_a_cure(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path / "mirror"))
    task = TASK.validate_python("lm-eval:arc_easy")
    assert isinstance(task, LmEvalTask)
    with pytest.raises(ResidencyError, match="hf download allenai/ai2_arc --repo-type dataset") as caught:
        lm_eval_bridge.identify(task)
    assert "\n" not in str(caught.value)


def test_without_lm_eval_there_is_a_cure(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_bridge, "find_spec", lambda name: None)
    with pytest.raises(ResidencyError, match=r'pip install "residency\[lm-eval\]"'):
        lm_eval_bridge.identify(make(CHOICE))


def test_settings_and_measures_do_not_import_lm_eval() -> None:
    code = (
        "import sys; import residency.eval.measures, residency.eval.evaluate, residency.recipes.plan; "
        "from residency.eval.settings import TASK; TASK.validate_python('lm-eval:arc_easy'); "
        "print('lm_eval' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.slow  # lm-eval's index parses all its files
def test_lm_evals_command_line_knows_the_model(
    make: Make, tmp_path: Path, model: Any, tokenizer: Any
) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    task = make(CHOICE)
    command = [sys.executable, "-m", "residency.eval.lm_eval_model", "run", "--model", "residency"]
    options = ["--model_args", f"pretrained={tmp_path / 'model'}", "--tasks", task.task]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tiny_choice" in done.stdout and "acc_norm" in done.stdout
