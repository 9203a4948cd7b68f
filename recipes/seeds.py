"""Several seeds of training: the chain once for each, on the same corpora and items.

The first seed is the recipe's own and runs in the run directory; seed 7 runs in `seed-7/` inside it, an ordinary run
with its own report. A seed changes the weights that a new base starts with, the order of the data, the adapters and
dropout: all that training draws. Corpora and exams stay, so that what differs between seeds is training's luck alone.
"""

from __future__ import annotations

import os
import shutil

from residency.artifact import RunPaths
from residency.recipes import chain, plan_order
from residency.recipes.plan import Plan
from residency.recipes.schema import Recipe, ScratchBase
from residency.recipes.words import plain_console
from residency.train.settings import TrainingStage, WritingStage


def plans(plan: Plan) -> dict[int, Plan]:
    """Seed to plan; the given one is the first."""
    first, *others = plan.recipe.all_seeds
    root = plan.paths.root
    made = {seed: Plan(with_seed(plan.recipe, seed), RunPaths(root / f"seed-{seed}")) for seed in others}
    return {first: plan, **made}


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe whose training draws from another seed, where a stage has none of its own."""
    stages = {
        name: stage.model_copy(update={"seed": seed})
        if isinstance(stage, TrainingStage | WritingStage) and stage.seed is None
        else stage
        for name, stage in recipe.stages.items()
    }
    base = recipe.base
    if isinstance(base, ScratchBase) and base.scratch.seed is None:
        base = base.model_copy(update={"scratch": base.scratch.model_copy(update={"seed": seed})})
    return recipe.model_copy(update={"stages": stages, "base": base, "seeds": None})


def run(plan: Plan, *, verify: bool = False) -> None:
    """Bring the chain of every seed to its end, then write what they have in common.

    Raises:
        ResidencyError: as `chain.run`; what is finished stays.
    """
    chain.run(plan, verify=verify)
    found = plans(plan)
    for seed, other in list(found.items())[1:]:
        plain_console().print(f"\nseed {seed}", style="bold")
        adopt_corpora(plan, other)
        chain.run(other, verify=verify)
    if len(found) > 1:
        conclude(plan)
    else:
        plan.paths.seeds.unlink(missing_ok=True)


def conclude(plan: Plan) -> None:
    """Write verdict and report of every seed, and `seeds.json` if all of them have a verdict."""
    from residency.eval.comparison import seeds

    found = plans(plan)
    for other in list(found.values())[1:]:
        if other.paths.root.is_dir():
            chain.conclude(other)
    chain.conclude(plan)
    verdicts = {seed: each.paths.verdict for seed, each in found.items()}
    if len(found) > 1 and all(path.exists() for path in verdicts.values()):
        seeds.write(plan.paths.seeds, verdicts)
        chain.conclude(plan)  # its report shows the seeds
    else:
        plan.paths.seeds.unlink(missing_ok=True)


def adopt_corpora(plan: Plan, other: Plan) -> None:
    """Give a seed's run the corpora of the first, as hard links: they are the same, and are made once."""
    for name, stage in other.stages.items():
        made = plan.stages[name]
        if stage.kind == "corpus" and made.finished and not stage.finished:
            if stage.identity != made.identity:  # made of a stage's replies, which go by the seed
                assert plan_order.writers_of(plan.recipe, name.removeprefix("corpus-")), name
                continue
            beside = stage.artifact.with_name(f".{stage.artifact.name}")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(made.artifact, beside, copy_function=_link)
            beside.rename(stage.artifact)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
