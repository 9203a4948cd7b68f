"""Every shipped task: that it loads, that those whose data a mirror holds are read and asked, and what is said
where they are absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import RunPaths, StageFile, identity_of, open_attempt
from residency.data import corpus
from residency.data.reading import sources
from residency.data.rows.exam_fields import is_asked_for
from residency.data.rows.schema import normalise, recognise
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.eval.measures.choice import is_right
from residency.eval.prompt import ask
from residency.eval.rows import read_items
from residency.eval.settings import AskedTask, ChoiceTask, Scorer, load_task
from residency.eval.shipped import task_names

# Items of each task whose data are in the mirror (`share` aside), and its independent clusters.
SIZES = {
    "aci-bench": (20, 20),
    "bits-per-byte-general": (9, 9),
    "bits-per-byte-medicine": (16, 16),
    "bits-per-byte-microbiology": (14, 14),
    "copa": (100, 100),
    "glianorex-book": (67, 67),
    "hallucination-variance": (11532, 3953),
    "lambada": (5153, 5153),
    "medmcqa": (4183, 4163),
    "medqa": (1273, 1273),
    "medqa-stem-removed": (1273, 1273),
    "medquad-ranking": (11531, 3953),
    "mmlu-general": (10660, 10583),
    "mmlu-medical": (1871, 1784),
    "mmlu-medical-stem-removed": (1871, 1784),
    "openbookqa": (500, 500),
    "openstax-anatomy-review": (708, 169),
    "openstax-glossary": (3127, 2977),
    "openstax-microbiology-review": (441, 124),
    "philosophy-glossary": (281, 265),
    "piqa": (1838, 1838),
    "pubmedqa": (500, 500),
    "pubmedqa-question-only": (500, 500),
    "svamp": (300, 300),
    "winogrande": (1267, 1267),
}
TASKS = [name for name in task_names() if not name.startswith("world-")]
MADE_OF = {
    name for name in TASKS if name.endswith(("-medprompt", "-reasoned", "-verification"))
}  # a task asked otherwise


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[CorpusSettings], Path]:
    """Runs the corpus stage once for each source."""
    made: dict[str, Path] = {}
    directory = tmp_path_factory.mktemp("tasks")

    def make(settings: CorpusSettings) -> Path:
        filled = settings.model_dump() | {"seed": settings.seed or 0}
        identity = identity_of(settings=filled)
        if identity not in made:
            stage = StageFile(
                name=f"corpus-{len(made)}", kind="corpus", identity=identity, settings=filled, parents={}, run=directory
            )  # fmt: skip
            made[identity] = corpus.run(open_attempt(RunPaths(directory), stage))
        return made[identity]

    return make


@pytest.mark.parametrize("name", TASKS)
def test_task_states_what_it_is(name: str) -> None:
    task = load_task(name)
    assert task.title and isinstance(task.items, CorpusSettings)
    used = [task.items, *([task.shots_from] if isinstance(task, AskedTask) and task.shots_from else [])]
    for settings in used:
        assert settings.licence and settings.languages and settings.phi and settings.files


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "mmlu-general")) for name in SIZES]
)
def test_task_is_read_and_every_item_asked(
    name: str,
    mirror: Path,
    corpora: Callable[[CorpusSettings], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    task = load_task(name, share=None)
    assert isinstance(task.items, CorpusSettings)
    assert task.items.sha256, "the mirror's file is pinned"
    rows = read_items(task, corpora(task.items))
    assert (len(rows), len({row.get("cluster", row["id"]) for row in rows})) == SIZES[name]
    if not isinstance(task, AskedTask):
        return
    for row in rows:
        for template in task.templates:
            scorers: list[Scorer] = task.scorers if isinstance(task, ChoiceTask) else ["reply"]
            for scorer in scorers:
                asked = ask(task, row, None, scorer=scorer, template=template)
                assert asked.prompt or "ending" in row
                assert len(asked.continuations) == len(row["options"] if "options" in row else row["answers"])


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(SIZES) - MADE_OF))
def test_data_that_a_user_brings_are_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path))
    settings = load_task(name).items
    assert isinstance(settings, CorpusSettings)
    with pytest.raises(ResidencyError) as error:
        sources.identity(settings)
    said = str(error.value)
    assert "\n" not in said
    assert all(
        part in said for part in (settings.source, settings.files[0], str(settings.licence), str(tmp_path))
    )


# A row as the data's authors have it (what the mirror lacks), and what becomes of it.
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mmlu-pro-health": (
        {"question": "Q", "options": ["x", "y", "z"], "answer": "C", "answer_index": 2, "category": "health"},
        {"options": ["x", "y", "z"], "answer": 2, "group": "health"},
    ),
    "careqa-en": (
        {"exam_id": 1, "question": "Q", "op1": "x", "op2": "y", "op3": "z", "op4": "w", "cop": 4, "category": "Nursing",
         "unique_id": "u", "year": 2024},
        {"id": "u", "options": ["x", "y", "z", "w"], "answer": 3, "group": "Nursing"},
    ),
    "bioasq-yesno": (
        {"id": "u", "type": "yesno", "body": "Q", "exact_answer": "no", "snippets": [{"text": "S1"}, {"text": "S2"}]},
        {"options": ["yes", "no"], "answer": 1, "context": "S1\nS2"},
    ),
    "bioasq-factoid": (
        {"id": "u", "type": "factoid", "body": "Q", "exact_answer": [["x", "y"]], "snippets": []},
        {"answers": ["x", "y"]},
    ),
    "bioasq-list": (
        {"id": "u", "type": "list", "body": "Q", "exact_answer": [["x", "y"], ["z"]], "snippets": [{"text": "S"}]},
        {"answers": ["x", "y", "z"], "facts": {"entities": [["x", "y"], ["z"]]}},
    ),
    "medxpertqa": (
        {"id": "u", "question": "Q\nAnswer Choices: (A) x (B) y", "options": {"A": "x", "B": "y"}, "label": "B",
         "body_system": "Skin"},
        {"options": ["x", "y"], "answer": 1, "group": "Skin"},
    ),
    "headqa": (
        {"qid": "1", "category": "biology", "qtext": "Q", "ra": 2,
         "answers": [{"aid": 1, "atext": "x"}, {"aid": 2, "atext": "y"}]},
        {"options": ["x", "y"], "answer": 1, "group": "biology"},
    ),
    "empec": (
        {"question": "Q A.x B.y C.z D.w", "answer": "D", "profession_en": "Nurse"},
        {"options": ["A", "B", "C", "D"], "answer": 3, "group": "Nurse"},
    ),
    "glianorex": (
        {"question": "Q", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B", "language": "fr"},
        {"options": ["x", "y"], "answer": 1, "group": "fr"},
    ),
    "medec": (
        {"text_id": "u", "sentences": "0 | S", "error_flag": False, "error_type": "NA", "error_sentence_id": -1,
         "corrected_sentence": None},
        {"answers": [], "facts": {"error_sentence_id": -1, "corrected_sentence": None}},
    ),
    "meqsum": ({"CHQ": "Long", "Summary": "Short"}, {"prompt": "Long", "answers": ["Short"]}),
    "ner-bc5cdr-disease": (
        {"tokens": ["no", "gout"], "tags": [0, 2]},
        {"prompt": "no gout", "answers": ["gout"], "facts": {"text": "no gout", "spans": [[3, 7, "Disease"]]}},
    ),
    "ner-ncbi-disease": (
        {"id": "u", "tokens": ["no", "gout"], "ner_tags": [0, 0]},
        {"answers": ["none"], "facts": {"text": "no gout", "spans": []}},
    ),
    "mednli": (
        {"sentence1": "P", "sentence2": "H", "gold_label": "neutral", "pairID": "u"},
        {"context": "P", "prompt": "H", "options": ["entailment", "neutral", "contradiction"], "answer": 1},
    ),
    "pubmed-rct": ({"abstract_id": 7, "label": "results", "text": "S"}, {"answer": 3, "cluster": "7"}),
    "ddxplus": (
        {"patient": "P", "pathology": "gout", "differential": ["gout", "sprain"]},
        {"answers": ["gout"], "facts": {"pathology": "gout", "differential": ["gout", "sprain"]}},
    ),
    "arc-easy": (
        {"id": "u", "question": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        {"options": ["x", "y"], "answer": 1},
    ),
    "gsm8k": ({"question": "Q", "answer": "2 + 2 = 4\n#### 4"}, {"answers": ["2 + 2 = 4\n#### 4"]}),
    "boolq": (
        {"question": "is it", "answer": True, "passage": "P"},
        {"options": ["no", "yes"], "answer": 1, "context": "P"},
    ),
    "healthbench": (
        {"prompt_id": "u", "prompt": [{"role": "user", "content": "Q"}], "rubrics": [{"criterion": "c", "points": 5}]},
        {"prompt": [{"role": "user", "content": "Q"}], "facts": {"criteria": [{"criterion": "c", "points": 5}]}},
    ),
    "attitude-scale": ({"statement": "S", "reversed": True}, {"prompt": "S", "facts": {"reversed": True}}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_the_authors_become_items(name: str) -> None:
    row, wanted = ROWS[name]
    task = load_task(name)
    assert isinstance(task.items, CorpusSettings) and isinstance(task, AskedTask)
    exam = task.items.exam
    row = {"id": "test:1", **row}
    assert is_asked_for(row, exam)
    made = normalise(row, recognise(row, None, exam), None, exam)
    assert {key: made[key] for key in wanted} == wanted
    if task.chat or not isinstance(made["prompt"], str):
        return
    for template in task.templates:
        asked = ask(task, made, None, scorer="letter" if "options" in made else "reply", template=template)
        assert asked.prompt and "Answer Choices" not in asked.prompt


def test_options_that_read_the_same_are_both_right(
    mirror: Path, corpora: Callable[[CorpusSettings], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_MIRROR", str(mirror))
    task = load_task("medmcqa")
    assert isinstance(task.items, CorpusSettings)
    rows = {row["id"]: row for row in read_items(task, corpora(task.items))}
    row = rows["0447b9a2-22ec-449c-8a23-a52c28ac6b34"]
    assert len(set(row["options"])) == 1 and all(is_right(row, place) for place in range(4))
