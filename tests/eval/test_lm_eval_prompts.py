"""The shipped exams ask in the very words of lm-evaluation-harness 0.4.13, whose own definitions are read here and
pointed at the mirror's files; so scores may be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import RunPaths, StageFile, identity_of, open_attempt
from residency.data import corpus
from residency.data.settings import CorpusSettings
from residency.eval.prompt import ask
from residency.eval.rows import read_items
from residency.eval.settings import AskedTask, ChoiceTask, load_task
from residency.eval.shots import Shots

pytestmark = pytest.mark.slow  # about 30 s: the harness and `datasets` take long to load
Rows = list[dict[str, Any]]
STEP = 7  # every seventh item


def as_medqa_hf(row: dict[str, Any]) -> dict[str, Any]:
    """A row of GBaker/MedQA-USMLE-4-options as its copy for the harness has it."""
    endings = {f"ending{place}": row["options"][letter] for place, letter in enumerate("ABCD")}
    return {"sent1": row["question"], **endings, "label": "ABCD".index(row["answer_idx"])}


def as_bigbio(row: dict[str, Any]) -> dict[str, Any]:
    contexts = row["context"]["contexts"]
    return {"QUESTION": row["question"], "CONTEXTS": contexts, "final_decision": row["final_decision"]}


def as_it_is(row: dict[str, Any]) -> dict[str, Any]:
    return row


def read(path: Path) -> Rows:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def their_task(definition: str, splits: dict[str, Rows], directory: Path) -> Any:
    """The harness's task object, its splits read from JSON lines."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    files = {}
    for split, rows in splits.items():
        files[split] = str(directory / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / definition)
    config |= {"dataset_path": "json", "dataset_name": None}
    config |= {"dataset_kwargs": {"data_files": files, "cache_dir": str(directory / "cache")}}
    config |= {"training_split": None, "validation_split": None, "test_split": "test"}
    config |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
    return ConfigurableTask(config=config)


@pytest.fixture
def read_ours(tmp_path: Path) -> Callable[[CorpusSettings], Path]:
    def make(settings: CorpusSettings) -> Path:
        filled = settings.model_dump() | {"seed": 0}
        identity = identity_of(settings=filled)
        run = tmp_path / "run"
        stage = StageFile(
            name="corpus-x", kind="corpus", identity=identity, settings=filled, parents={}, run=run
        )
        return corpus.run(open_attempt(RunPaths(run), stage))

    return make


def trimmed(text: str) -> str:
    return re.sub(r"(?<=^[A-D]\. ) +| +$", "", text, flags=re.MULTILINE)


def compare(ours: AskedTask, rows: Rows, shots: Shots, theirs: Any) -> None:
    """Each prompt and each continuation is the same string, but for spaces around options: ours lose them (6 items)."""
    docs = list(theirs.test_docs())
    assert len(rows) == len(docs)
    scorer = ours.scorers[0] if isinstance(ours, ChoiceTask) else "option-text"
    for row, doc in list(zip(rows, docs, strict=True))[::STEP]:
        asked = ask(ours, row, None, scorer=scorer, shots=shots.of(row))
        assert trimmed(asked.prompt) == trimmed(theirs.fewshot_context(doc, shots.count))
        delimiter = theirs.config.target_delimiter
        assert asked.continuations == [delimiter + choice for choice in theirs.doc_to_choice(doc)]
        target = theirs.doc_to_target(doc)
        assert row["answer"] == (
            target if isinstance(target, int) else theirs.doc_to_choice(doc).index(target)
        )


@pytest.mark.parametrize(
    ("name", "definition", "test", "dev", "convert"),
    [
        ("medqa", "medqa/medqa.yaml", "GBaker/MedQA-USMLE-4-options/test.jsonl", None, as_medqa_hf),
        ("medmcqa", "medmcqa/medmcqa.yaml", "openlifescienceai/medmcqa/data/validation.jsonl", None, as_it_is),
        ("pubmedqa", "pubmedqa/pubmedqa.yaml", "qiaojin/PubMedQA/pqa_labeled/test.jsonl",
         "qiaojin/PubMedQA/pqa_labeled/train.jsonl", as_bigbio),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 5])
def test_exam(
    name: str, definition: str, test: str, dev: str | None, convert: Callable[[dict[str, Any]], dict[str, Any]],
    count: int, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_ours: Callable[..., Path],
) -> None:  # fmt: skip
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    task = load_task(name, shots=count)
    assert isinstance(task, AskedTask) and isinstance(task.items, CorpusSettings)
    rows = read_items(task, read_ours(task.items))
    # The mirror has no training part of the first two: their first test items are the solved ones, on both sides.
    found = [convert(row) for row in read(mirror / test)]
    solved = [convert(row) for row in read(mirror / dev)[:count]] if dev else found[:count]
    if dev and count:
        assert task.shots_from
        shots = Shots(name, count, read_items(task, read_ours(task.shots_from), solved=True))
    else:
        shots = Shots(name, count, rows[:count])
    theirs = their_task(definition, {"test": found, "dev": solved or found[:1]}, tmp_path)
    if not dev and count:
        rows, theirs = (
            rows[count:],
            their_task(definition, {"test": found[count:], "dev": solved}, tmp_path),
        )
    for row in [*rows, *shots.rows]:
        row.pop("group", None)  # MedMCQA's subjects do not choose the examples there
    compare(task, rows, Shots(name, count, shots.rows), theirs)


@pytest.mark.parametrize("count", [0, 5])
def test_mmlu(
    count: int, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_ours: Callable[..., Path]
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    task = load_task("mmlu-medical", shots=count)
    assert isinstance(task, AskedTask) and isinstance(task.items, CorpusSettings) and task.shots_from
    rows = read_items(task, read_ours(task.items))
    dev = read_items(task, read_ours(task.shots_from), solved=True)
    shots = Shots(task.name, count, dev)
    for subject in sorted({row["group"] for row in rows}):
        splits = {"test": read(mirror / f"cais/mmlu/{subject}/test.jsonl")}
        splits["dev"] = read(mirror / f"cais/mmlu/{subject}/dev.jsonl")
        (tmp_path / subject).mkdir()
        theirs = their_task(f"mmlu/default/mmlu_{subject}.yaml", splits, tmp_path / subject)
        compare(task, [row for row in rows if row["group"] == subject], shots, theirs)
