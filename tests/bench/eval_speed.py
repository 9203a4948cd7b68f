"""Benchmark of likelihood scoring: ours beside lm-evaluation-harness' `hf` backend, the same model and questions.

What: five-shot letters (MMLU's medical subjects, MedMCQA) and zero-shot option texts (OpenBookQA, MMLU's medical
subjects) under a Llama with random weights: 20 M of them in float32 on a CPU; 0.6 B in bfloat16, then float32, on a
GPU. In turns in one process, with the same threads; the medians' ratio. Both sides begin with their rows read and end
with every item's prediction, so building prompts and tokenising count; `model_only` counts from token ids to scores.
lm-eval has the best of its batch sizes 1 to 32, found on a part of the items first (on a GPU `auto` too, which on a
CPU takes longer to find a size than the whole run takes). Before every turn of ours what is known of the model is
forgotten, so that the trial which decides about shared prefixes counts. A prediction is the option of the highest
log-likelihood. `cpu` compares CPU seconds of the process, which others' load on the machine touches less.

`ready_seconds`: in a fresh process, from a loaded model to the first scores: our imports, a task file, its items, and
16 of them scored.

    RESIDENCY_MIRROR=DIR python -m tests.bench.eval_speed [--record FILE]
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched, and nothing waits for a hub
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from tests.bench import exams
from tests.bench.exams import SHOTS, Exam
from tests.bench.figures import Figure
from tests.bench.record import mirror, record_option, tell

TURNS = {"few_shot": 3, "option_text": 7}  # the second take seconds each
BATCH_SIZES = (1, 4, 8, 16, 32)
SUBJECTS = ("anatomy", "clinical_knowledge")
SIZES = {
    "cpu": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
            "num_key_value_heads": 6, "vocab_size": exams.VOCABULARY},
    "cuda": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
             "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip
ITEMS = {"cpu": 40, "cuda": 272}  # of each subject and task at most


@dataclass(frozen=True)
class Side:
    """One turn of one side."""

    predictions: dict[str, list[int]]
    """Of each task, the option of every item."""
    whole: Stopwatch
    inner: Stopwatch
    """From token ids to scores."""


class Stopwatch:
    """Adds up the seconds of calls, the device's own work included."""

    seconds = cpu = 0.0

    def timed(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        import torch

        start, cpu = time.perf_counter(), time.process_time()
        found = work(*args, **named)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        self.cpu += time.process_time() - cpu
        return found


def main() -> None:
    """Measure, print, append the record."""
    import torch

    record, load = record_option(__doc__), os.getloadavg()[0]
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, where = exams.train_tokenizer(mirror()), mirror()
    few = [exams.mmlu(where, subject, ITEMS[device], shots=SHOTS) for subject in SUBJECTS]
    few.append(exams.medmcqa(where, 3 * ITEMS[device] // 2, shots=SHOTS))
    texts = [exams.mmlu(where, subject, ITEMS[device], text=True) for subject in SUBJECTS]
    texts.append(exams.openbook(where, 3 * ITEMS[device] // 2))
    figures: list[Figure] = []
    settings: dict[str, Any] = {
        "items_few_shot": _count(few),
        "items_option_text": _count(texts),
        "turns": TURNS,
    }
    for dtype in (torch.bfloat16, torch.float32) if device == "cuda" else (torch.float32,):
        model = make_model(device, dtype)
        settings["weights"] = sum(weight.numel() for weight in model.parameters())
        suffix = "_bfloat16" if dtype is torch.bfloat16 else ""
        for name, subjects, goal in (("few_shot", few, 4.0), ("option_text", texts, 1.5)):
            found, size = compare(f"{name}{{}}{suffix}", subjects, model, tokenizer, goal, TURNS[name])
            figures += found
            settings[f"{name}{suffix}_lm_eval_batch_size"] = size
    figures.append(Figure("ready_seconds", ready_seconds(tokenizer), at_most=3))
    tell(record, "eval_speed", figures, settings, load=load, threads=torch.get_num_threads())


def make_model(device: str, dtype: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    # Weights of the usual size answer nearly uniformly, and then rounding alone decides.
    config = LlamaConfig(**SIZES[device], max_position_embeddings=4096, initializer_range=0.05)
    return LlamaForCausalLM(config).to(device, dtype).eval()


def _count(subjects: list[Exam]) -> int:
    return sum(len(exam.theirs) for exam in subjects)


def compare(
    name: str, subjects: list[Exam], model: Any, tokenizer: Any, goal: float, turns_each: int
) -> tuple[list[Figure], Any]:
    """Figures of one kind of question, and the batch size that lm-eval had."""
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        tasks = exams.load_theirs(subjects, Path(temporary))
        part = max(4, len(subjects[0].theirs) // 10)
        sizes: list[Any] = [*BATCH_SIZES, *(["auto"] if model.device.type == "cuda" else [])]
        best = min(sizes, key=lambda size: theirs(tasks, model, tokenizer, size, part).whole.seconds)
        sides: dict[str, Callable[[], Side]] = {
            "theirs": lambda: theirs(tasks, model, tokenizer, best),
            "ours": lambda: ours(subjects, model, tokenizer),
        }
        turns: dict[str, list[Side]] = {side: [] for side in sides}
        for _ in range(turns_each):
            for side, work in sides.items():
                turns[side].append(work())
    them, us = turns["theirs"], turns["ours"]
    pairs = [
        pair
        for exam in subjects
        for pair in zip(them[0].predictions[exam.name], us[0].predictions[exam.name], strict=True)
    ]

    def ratio(seconds: Callable[[Side], float]) -> float:
        return median(map(seconds, them)) / median(map(seconds, us))

    figures = [
        Figure(name.format("_speedup"), ratio(lambda side: side.whole.seconds), goal),
        Figure(name.format("_cpu_speedup"), ratio(lambda side: side.whole.cpu)),
        Figure(name.format("_model_only_speedup"), ratio(lambda side: side.inner.seconds)),
        Figure(name.format("_items_per_second"), len(pairs) / median(side.whole.seconds for side in us)),
        Figure(
            name.format("_lm_eval_items_per_second"),
            len(pairs) / median(side.whole.seconds for side in them),
        ),
        Figure(
            name.format("_equal_predictions"), sum(one == other for one, other in pairs) / len(pairs), 0.999
        ),
    ]
    return figures, best


def theirs(
    tasks: dict[str, Any], model: Any, tokenizer: Any, batch_size: int | str, limit: int | None = None
) -> Side:
    """lm-eval, from loaded tasks to metrics."""
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=4096)
    inner = Stopwatch()
    scored = backend._loglikelihood_tokens
    backend._loglikelihood_tokens = lambda *args, **named: inner.timed(scored, *args, **named)
    whole = Stopwatch()
    with quiet():
        result = whole.timed(
            evaluator.evaluate,
            backend,
            tasks,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            verbosity="ERROR",
        )
    predictions = {}
    for name, samples in result["samples"].items():
        scores = [
            [option[0] for option in sample["filtered_resps"]]
            for sample in sorted(samples, key=lambda s: s["doc_id"])
        ]
        predictions[name] = [options.index(max(options)) for options in scores]
    return Side(predictions, whole, inner)


def ours(subjects: list[Exam], model: Any, tokenizer: Any) -> Side:
    """Our engine, from rows to records."""
    from residency.eval.candidate import Candidate
    from residency.eval.likelihood import score, sharing
    from residency.eval.measures import choice
    from residency.eval.shots import Shots

    sharing._plans.pop(model, None)
    inner, whole = Stopwatch(), Stopwatch()
    candidate = Candidate(model, tokenizer, 4096)
    scored = score.log_likelihoods
    score.log_likelihoods = lambda *args, **named: inner.timed(scored, *args, **named)

    def run() -> dict[str, list[int]]:
        predictions = {}
        for exam in subjects:
            task = exam.task()
            records = choice.measure(task, candidate, exam.ours, Shots(task.name, task.shots, exam.our_shots))
            predictions[exam.name] = [each["sums"].index(max(each["sums"])) for each in records]
        return predictions

    try:
        return Side(whole.timed(run), whole, inner)
    finally:
        score.log_likelihoods = scored


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    plain = tqdm.__init__

    def disabled(self: Any, *args: Any, **named: Any) -> None:
        plain(self, *args, **{**named, "disable": True})

    tqdm.__init__ = disabled
    try:
        yield
    finally:
        tqdm.__init__ = plain


READY = """
import json, sys, time
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
directory = Path(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(directory).eval()
tokenizer = AutoTokenizer.from_pretrained(directory)
start = time.perf_counter()
from residency.eval.candidate import Candidate
from residency.eval.measures import measure
from residency.eval.rows import read_items
from residency.eval.settings import load_task
from residency.eval.shots import Shots
task = load_task("openstax-anatomy-review", limit=16)
rows = read_items(task, directory / "items")
records = measure(task, Candidate(model, tokenizer, 2048), rows, Shots(task.name), [])
assert len(records) >= 16
print(json.dumps(time.perf_counter() - start))
"""


def ready_seconds(tokenizer: Any) -> float:
    """Median of fresh processes."""
    import torch

    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        directory = Path(temporary)
        make_model("cpu", torch.float32).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        (directory / "items").mkdir()
        rows = [
            {"id": f"{at}", **{key: row[key] for key in ("prompt", "options", "answer")}}
            for at, row in enumerate(exams.openbook(mirror(), 500).ours)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows if len(set(row["options"])) == 4)
        (directory / "items" / "train.jsonl").write_text(text, encoding="utf-8")
        command = [sys.executable, "-c", READY, temporary]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    return median(float(run.split()[-1]) for run in runs)


if __name__ == "__main__":
    main()
