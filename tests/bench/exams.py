"""The same questions for lm-evaluation-harness and for us, from the mirror of public data.

lm-eval's own task definitions are included by YAML and pointed at local JSONL, written with the columns of the hub's
copies that they expect; our side has the rows of `residency.data.rows.schema` and a task in the same wording.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.eval.settings import ChoiceTask

Rows = list[dict[str, Any]]
SUBJECTS = (
    "anatomy", "clinical_knowledge", "college_biology", "college_medicine", "high_school_biology", "medical_genetics",
    "nutrition", "professional_medicine", "virology",
)  # fmt: skip
VOCABULARY = 8192
SHOTS = 5


@dataclass(frozen=True)
class Exam:
    """One task on both sides."""

    name: str
    include: str
    """lm-eval's definition, below its `tasks` directory."""
    theirs: Rows
    ours: Rows
    template: str
    scorer: str
    their_shots: Rows = field(default_factory=list)
    our_shots: Rows = field(default_factory=list)
    instruction: str = ""

    def write(self, directory: Path) -> None:
        """The YAML and the data files of lm-eval's side."""
        import lm_eval

        files = {"test": self.theirs, "dev": self.their_shots or self.theirs[:1]}
        for split, rows in files.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (directory / f"{self.name}-{split}.jsonl").write_text(lines, encoding="utf-8")
        data = {split: str(directory / f"{self.name}-{split}.jsonl") for split in files}
        config = {
            "include": str(Path(lm_eval.__file__).parent / "tasks" / self.include),
            "task": self.name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": data, "cache_dir": str(directory / "cache")},
            "training_split": None,
            "validation_split": None,
            "test_split": "test",
            "fewshot_split": "dev",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": len(self.their_shots),
            "description": f"{self.instruction}\n\n" if self.instruction else "",
        }
        (directory / f"{self.name}.yaml").write_text(json.dumps(config), encoding="utf-8")

    def task(self) -> ChoiceTask:
        """Our task."""
        return ChoiceTask.model_validate(
            {
                "name": self.name,
                "domain": "medicine",
                "items": "none",
                "templates": [self.template],
                "scorers": [self.scorer],
                "instruction": self.instruction,
                "shots": len(self.our_shots),
                "shots_from": {"source": "none", "licence": "MIT"},
            }
        )


def lines(mirror: Path, path: str) -> Rows:
    with (mirror / path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _exam(
    name: str,
    include: str,
    rows: Rows,
    convert: Callable[[dict[str, Any]], tuple[Any, Any]],
    *,
    shots: Rows,
    **fields: Any,
) -> Exam:
    def both(some: Rows, part: str) -> tuple[Rows, Rows]:
        pairs = [convert(row) for row in some]
        return [theirs for theirs, _ in pairs], [
            {"id": f"{part}/{place}", **ours} for place, (_, ours) in enumerate(pairs)
        ]

    (theirs, ours), (their_shots, our_shots) = both(rows, "test"), both(shots, "dev")
    return Exam(name, include, theirs, ours, their_shots=their_shots, our_shots=our_shots, **fields)


def mmlu(mirror: Path, subject: str, limit: int, *, shots: int = 0, text: bool = False) -> Exam:
    def convert(row: dict[str, Any]) -> tuple[Any, Any]:
        return row, {"prompt": row["question"].strip(), "options": row["choices"], "answer": row["answer"]}

    include = (
        "mmlu/continuation/_continuation_template_yaml" if text else "mmlu/default/_default_template_yaml"
    )
    about = subject.replace("_", " ")
    return _exam(
        f"{subject}_{'text' if text else 'letters'}",
        include,
        lines(mirror, f"cais/mmlu/{subject}/test.jsonl")[:limit],
        convert,
        shots=lines(mirror, f"cais/mmlu/{subject}/dev.jsonl")[:shots],
        template="question-only" if text else "plain",
        scorer="option-text" if text else "letter",
        instruction=""
        if text
        else f"The following are multiple choice questions (with answers) about {about}.",
    )


def medmcqa(mirror: Path, limit: int, *, shots: int = 0) -> Exam:
    def convert(row: dict[str, Any]) -> tuple[Any, Any]:
        options = [row[column] for column in ("opa", "opb", "opc", "opd")]
        return row, {"prompt": row["question"], "options": options, "answer": row["cop"]}

    rows = lines(mirror, "openlifescienceai/medmcqa/data/validation.jsonl")
    kept = rows[: min(limit, len(rows) - shots)]  # the last ones are the solved examples
    return _exam(
        "medmcqa", "medmcqa/medmcqa.yaml", kept, convert, shots=rows[-shots:] if shots else [],
        template="choices", scorer="letter",
    )  # fmt: skip


def medqa(mirror: Path, limit: int) -> Exam:
    def convert(row: dict[str, Any]) -> tuple[Any, Any]:
        options = [row["options"][letter] for letter in "ABCD"]
        answer = "ABCD".index(row["answer_idx"])
        endings = {f"ending{place}": option for place, option in enumerate(options)}
        ours = {"prompt": row["question"], "options": options, "answer": answer}
        return {"sent1": row["question"], **endings, "label": answer}, ours

    rows = lines(mirror, "GBaker/MedQA-USMLE-4-options/test.jsonl")[:limit]
    return _exam("medqa", "medqa/medqa.yaml", rows, convert, shots=[], template="question", scorer="letter")


def pubmedqa(mirror: Path, limit: int) -> Exam:
    options = ["yes", "no", "maybe"]

    def convert(row: dict[str, Any]) -> tuple[Any, Any]:
        contexts, decision = row["context"]["contexts"], row["final_decision"]
        theirs = {"QUESTION": row["question"], "CONTEXTS": contexts, "final_decision": decision}
        ours = {"prompt": row["question"], "context": "\n".join(contexts)}
        return theirs, {**ours, "options": options, "answer": options.index(decision)}

    rows = lines(mirror, "qiaojin/PubMedQA/pqa_labeled/test.jsonl")[:limit]
    return _exam(
        "pubmedqa",
        "pubmedqa/pubmedqa.yaml",
        rows,
        convert,
        shots=[],
        template="abstract",
        scorer="option-text",
    )


def openbook(mirror: Path, limit: int) -> Exam:
    def convert(row: dict[str, Any]) -> tuple[Any, Any]:
        choices = {"text": row["choices"], "label": list("ABCD")}
        theirs = {"question_stem": row["query"], "choices": choices, "answerKey": "ABCD"[row["gold"]]}
        return theirs, {"prompt": row["query"], "options": row["choices"], "answer": row["gold"]}

    rows = lines(mirror, "mosaicml/eval-gauntlet/openbook_qa/test.jsonl")[:limit]
    return _exam(
        "openbookqa",
        "openbookqa/openbookqa.yaml",
        rows,
        convert,
        shots=[],
        template="cloze",
        scorer="option-text",
    )


def load_theirs(exams: list[Exam], directory: Path) -> dict[str, Any]:
    """lm-eval's tasks by name, their data read."""
    import datasets
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    for exam in exams:
        exam.write(directory)
    manager = TaskManager(include_path=str(directory), include_defaults=False)
    return dict(manager.load([exam.name for exam in exams])["tasks"])


def train_tokenizer(mirror: Path) -> Any:
    """Byte-level BPE of 8,192 tokens from MedQuAD; like Llama's it puts BOS in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|begin|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    answers = (str(row["answer"]) for row in lines(mirror, "lavita/MedQuAD/train.jsonl")[:4000])
    made.train_from_iterator(answers, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair=None, special_tokens=[("<|begin|>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|begin|>", eos_token="<|endoftext|>")
