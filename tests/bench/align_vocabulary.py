"""Benchmark of the vocabulary stage: what 500 words of anatomy as tokens do to terms, to the base, and to training.

What: `recipes/openstax-vocabulary.yaml`, whole and with its own seeds: a base on philosophy; words of the glossary's
terms that a textbook of anatomy repeats become tokens; then the same continual pretraining with and without them, the
same mixture, token budget, steps and learning rate. Terms are those of the glossary, as they stand within a text. Bits
per byte of all the text's tokens, so that vocabularies can be compared; before training on the stage's own sample of
held-out anatomy, behind it by the evaluation. `same_text` has read no more text than the arm without the words, in
fewer steps.

    RESIDENCY_MIRROR=DIR python -m tests.bench.align_vocabulary [--record FILE]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from residency.artifact import RunPaths, read_manifest
from residency.recipes import chain
from residency.recipes.plan import Plan
from residency.recipes.schema import load
from tests.bench.figures import Figure
from tests.bench.record import ROOT, mirror, record_option, tell

RECIPE = ROOT / "recipes" / "openstax-vocabulary.yaml"


def main() -> None:
    """Run the chain, print, append the record."""
    record, busy = record_option(__doc__), os.getloadavg()[0]
    os.environ["RESIDENCY_MIRROR"] = str(mirror())
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as temporary:
        recipe = load(RECIPE)
        plan = Plan(recipe, RunPaths(Path(temporary) / recipe.name))
        chain.run(plan)
        figures = measured(plan)
    words = recipe.stages["vocabulary"].model_dump(mode="json", exclude_none=True)
    settings = {"recipe": RECIPE.name, "vocabulary": words}
    tell(record, "align_vocabulary", figures, settings, load=busy, threads=len(os.sched_getaffinity(0)))


def measured(plan: Plan) -> list[Figure]:
    """The figures of a finished run."""
    stage = read_manifest(plan.stages["vocabulary"].artifact).measured
    before, after = stage["before"], stage["after"]
    anatomy = {name: bits(plan, name, "anatomy-held-out") for name in ("without", "cpt", "same-text")}
    philosophy = {name: bits(plan, name, "philosophy-held-out") for name in ("without", "cpt")}
    return [
        Figure("vocabulary_tokens_added", stage["tokens_added"]),
        Figure(
            "vocabulary_tokens_per_term_fall", 1 - after["tokens_per_term"] / before["tokens_per_term"], 0.2
        ),
        Figure("vocabulary_tokens_per_word_fall", 1 - after["tokens_per_word"] / before["tokens_per_word"]),
        Figure(
            "vocabulary_untrained_bits_ratio", after["bits_per_byte"] / before["bits_per_byte"], at_most=1.15
        ),
        Figure("vocabulary_trained_bits_ratio", anatomy["cpt"] / anatomy["without"], at_most=1),
        Figure("vocabulary_trained_bits_ratio_same_text", anatomy["same-text"] / anatomy["without"]),
        Figure("vocabulary_trained_bits_ratio_general", philosophy["cpt"] / philosophy["without"]),
        Figure("vocabulary_anatomy_bits_per_byte", anatomy["cpt"]),
    ]


def bits(plan: Plan, stage: str, task: str) -> float:
    """Bits per byte of held-out text after a stage."""
    found = read_manifest(plan.stages[f"{stage}-evaluation"].artifact).measured["tasks"][task]["value"]
    return float(found)


if __name__ == "__main__":
    main()
