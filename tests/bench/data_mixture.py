"""Benchmark of mixtures: how far what was taken is from what was planned, on public text.

What: the tokens stage with six plans over three textbooks of OpenStax and the dialogues of MedQuAD. The plan is worked
out here once more, from the shares or from the corpora's sizes, and not read from the stage's receipt. Drift is the
largest difference of any corpus' share of the tokens.

    RESIDENCY_MIRROR=DIR python tests/bench/data_mixture.py [--record FILE]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.artifact import read_manifest
from residency.data import corpus, tokens
from residency.data.settings import CorpusSettings, TokensSettings, Turns
from residency.data.tokenization.tokenizer import train_tokenizer
from tests.bench.data_tokens import documents
from tests.bench.figures import Figure
from tests.bench.record import mirror, record_option, tell
from tests.bench.workload import stage

BOOKS = {"anatomy": "anatomy-physiology", "microbiology": "microbiology", "philosophy": "philosophy"}
BUDGET = 600_000
HEAT = 3.0
LARGEST_DRIFT = 0.005
PLANS: dict[str, dict[str, Any]] = {
    "shares": {"anatomy": 0.4, "microbiology": 0.4, "philosophy": 0.2},
    "replay": {"shares": {"anatomy": 0.5, "microbiology": 0.5}, "replay": {"philosophy": 0.1}},
    "temperature": {"corpora": list(BOOKS), "sampling": {"temperature": HEAT}},
    "unimax": {"corpora": list(BOOKS), "sampling": "unimax", "max_epochs": 0.5},
    "proportional_interleaved": {"corpora": list(BOOKS), "order": "interleaved"},
    "dialogues": {"shares": {"questions": 0.7, "anatomy": 0.3}, "max_epochs": 4.0},
}


def main() -> None:
    """Measure, print, append the record."""
    record, load = record_option(__doc__), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        run = Path(temporary)
        base = run / "base"
        train_tokenizer(iter(documents()), 8000, 8192).save_pretrained(base)
        (base / "config.json").write_text("{}")
        parents = {f"corpus:{name}": path for name, path in corpora(run).items()} | {"model": base}
        sizes = taken(run, "sizes", {"epochs": dict.fromkeys(BOOKS, 1.0)}, None, parents)
        figures = []
        for name, mixture in PLANS.items():
            found = taken(run, name, mixture, BUDGET, parents)
            planned, total = planned_shares(name, sizes), sum(found.values())
            drift = max(abs(found[corpus] / total - share) for corpus, share in planned.items())
            figures.append(Figure(f"mixture_drift_{name}", drift, at_most=LARGEST_DRIFT))
    settings = {"budget": BUDGET, **{f"tokens_{name}": size for name, size in sizes.items()}}
    tell(record, "data_mixture", figures, settings, load=load, threads=len(os.sched_getaffinity(0)))


def planned_shares(name: str, sizes: dict[str, int]) -> dict[str, float]:
    """Each corpus' share of the tokens by the plan."""
    match name:
        case "shares":
            return dict(PLANS[name])
        case "replay":
            return {"anatomy": 0.45, "microbiology": 0.45, "philosophy": 0.1}
        case "dialogues":
            return {"questions": 0.7, "anatomy": 0.3}
        case "unimax":
            return _even(sizes, PLANS[name]["max_epochs"])
    heat = HEAT if name == "temperature" else 1.0
    weights = {corpus: size ** (1 / heat) for corpus, size in sizes.items()}
    return {corpus: weight / sum(weights.values()) for corpus, weight in weights.items()}


def _even(sizes: dict[str, int], epochs: float) -> dict[str, float]:
    """Equal tokens but for corpora that end earlier: the level at which the budget is just used up, by bisection."""
    low, high = 0.0, float(BUDGET)
    for _ in range(60):
        level = (low + high) / 2
        used = sum(min(level, size * epochs) for size in sizes.values())
        low, high = (level, high) if used < BUDGET else (low, level)
    return {corpus: min(low, size * epochs) / BUDGET for corpus, size in sizes.items()}


def corpora(run: Path) -> dict[str, Path]:
    """The corpus artifacts."""
    root = mirror()
    found = {
        name: CorpusSettings(
            source=str(root / "openstax" / book / "text" / "train.jsonl"), seed=0, licence="CC-BY-4.0"
        )
        for name, book in BOOKS.items()
    }
    found["questions"] = CorpusSettings(
        source=str(root / "lavita/MedQuAD/train.jsonl"),
        seed=0,
        licence="CC-BY-4.0",
        turns=Turns(user="question", assistant="answer"),
    )
    return {
        name: corpus.run(stage(run, f"corpus-{name}", "corpus", settings.model_dump(), {}))
        for name, settings in found.items()
    }


def taken(
    run: Path, name: str, mixture: dict[str, Any], budget: int | None, parents: dict[str, Path]
) -> dict[str, int]:
    """Tokens of each corpus in what the stage made."""
    settings = TokensSettings.model_validate({"mixture": mixture, "tokens": budget, "max_length": 8192})
    used = {f"corpus:{corpus}" for corpus in settings.mixture.names} | {"model"}
    attempt = stage(
        run, f"{name}-tokens", "tokens", settings.model_dump(), {role: parents[role] for role in used}
    )
    receipt = read_manifest(tokens.run(attempt)).measured["mixture"]
    return {corpus: part["tokens"] for corpus, part in receipt.items()}


if __name__ == "__main__":
    main()
