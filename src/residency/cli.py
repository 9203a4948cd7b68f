"""The command line: `residency run RECIPE`, and what goes with it.

Only the standard library is imported before a command is chosen, and torch not before a stage needs it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from residency.errors import Exit, ResidencyError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data, or build it: show, build, report.")
app.add_typer(data_app, name="data")
RecipeFile = Annotated[Path, typer.Argument(help="Recipe file (YAML), or the name of a shipped one.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value changes, e.g. stages.sft.epochs=2")]
Runs = Annotated[Path, typer.Option("--runs", help="Directory of all runs.")]
Mirror = Annotated[
    Path | None, typer.Option("--mirror", help="Directory with owner/name/... copies of hub repositories.")
]


@app.command()
def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    mirror: Mirror = None,
    verify: Annotated[
        bool, typer.Option(help="Rehash finished artifacts instead of comparing sizes.")
    ] = False,
) -> None:
    """Run a recipe from its base model to the verdict; finished stages are skipped."""
    from residency.recipes import check, seeds
    from residency.recipes.words import tell

    plan = _plan(recipe, overrides, runs, mirror)
    check.check(plan)
    seeds.run(plan, verify=verify)
    tell(plan)


@app.command(name="check")
def check_command(
    recipe: RecipeFile, overrides: Overrides = None, runs: Runs = Path("runs"), mirror: Mirror = None
) -> None:
    """Validate all that can be known without starting, and print the plan."""
    from residency.recipes import check
    from residency.recipes.words import print_plan

    plan = _plan(recipe, overrides, runs, mirror)
    notes = check.check(plan)
    print_plan(plan, notes)


@app.command()
def status(
    recipe: RecipeFile, overrides: Overrides = None, runs: Runs = Path("runs"), mirror: Mirror = None
) -> None:
    """Which stages are finished, under way, failed or waiting."""
    from residency.recipes.words import print_status

    print_status(_plan(recipe, overrides, runs, mirror))


@app.command()
def report(
    recipe: RecipeFile, overrides: Overrides = None, runs: Runs = Path("runs"), mirror: Mirror = None
) -> None:
    """Write verdict.json and report.html again from what is finished."""
    from residency.recipes import seeds

    plan = _plan(recipe, overrides, runs, mirror)
    if not plan.paths.root.is_dir():
        raise ResidencyError(f"no run in {plan.paths.root}", cure="Run the recipe first")
    seeds.conclude(plan)
    print(plan.paths.report)


@app.command()
def submit(
    recipe: RecipeFile,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    mirror: Mirror = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the scripts, submit nothing.")] = False,
) -> None:
    """Run a recipe as a chain of Slurm jobs, one per stage; with several seeds, a chain for each."""
    from residency.recipes import check, seeds
    from residency.slurm.submit import submit_plan

    plan = _plan(recipe, overrides, runs, mirror)
    check.check(plan, here=False)
    for one in seeds.plans(plan).values():
        for job in submit_plan(one, dry_run=dry_run):
            print(f"{job.job_id or 'not submitted':>13}  {job.name:24}  {job.script}")


@app.command()
def publish(
    recipe: RecipeFile,
    repository: Annotated[str, typer.Argument(help="owner/name on the hub, or in the mirror.")],
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    mirror: Mirror = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Export stage, where there are several.")
    ] = None,
) -> None:
    """Publish a finished export: privately to the Hugging Face hub, or into a mirror."""
    from residency.recipes.publish import publish as publish_export

    print(publish_export(_plan(recipe, overrides, runs, mirror), repository, stage))


@app.command(name="eval")
def eval_command(
    model: Annotated[
        str, typer.Argument(help="Directory, hub id, or finished stage (runs/NAME/sft-1a2b3c4d).")
    ],
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Names between commas; see `residency tasks`.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="medicine, general or all-here: tasks whose data are here.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="Model that it is compared with.")] = None,
    shots: Annotated[int | None, typer.Option("--shots", min=0, help="Solved examples.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="Only the first items.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    template: Annotated[str | None, typer.Option("--template", help="Wording, by name or Jinja.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=2, help="Longest prompt in tokens.")
    ] = None,
    runs: Runs = Path("runs"),
    mirror: Mirror = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on tasks, and say whether it is better than another."""
    from residency.eval.comparison.tables import show
    from residency.recipes import evaluate_command as command

    _use_mirror(mirror)
    asked = command.Asked(shots, limit, chat, template)
    found = command.chosen(tasks, suite, asked)
    records = command.evaluate(model, found, against=against, runs=runs, max_length=max_length)
    show(records, as_json=as_json)


@app.command()
def compare(
    candidate: Annotated[Path, typer.Argument(help="Records, or a model or stage that was measured.")],
    reference: Annotated[Path, typer.Argument(help="What it is compared with.")],
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The verdict of one measured model against another, from their records."""
    from residency.eval.comparison.beside import records_at
    from residency.eval.comparison.tables import show

    show([records_at(candidate), records_at(reference)], resamples=resamples, as_json=as_json)


@app.command(name="tasks")
def tasks_command(
    here: Annotated[bool, typer.Option("--here", help="Only those whose data are here.")] = False,
    mirror: Mirror = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The tasks that Residency ships, and what each needs."""
    from residency.eval.comparison.tables import print_tasks
    from residency.recipes.evaluate_command import listing

    _use_mirror(mirror)
    print_tasks(listing(here=here), as_json=as_json)


@app.command()
def chat(
    model: Annotated[
        Path, typer.Argument(help="Directory of a finished stage, e.g. runs/NAME/sft-1a2b3c4d.")
    ],
) -> None:
    """Talk to the model of a finished stage, in its own chat template."""
    from residency.eval.chat import chat as talk

    talk(model)


@app.command()
def rank(
    replies: Annotated[
        Path,
        typer.Argument(help="Directory of a finished sample stage, or a JSONL file of prompts and replies."),
    ],
    rankings: Annotated[Path, typer.Argument(help="JSONL file that the rankings are added to.")],
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8765,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the orders in which things are shown.")] = 0,
) -> None:
    """Open a local page on which clinicians rank replies blind; a reward stage learns from the file."""
    from residency.data.ranking.server import serve

    serve(replies, rankings, port=port, seed=seed)


@app.command()
def stage(
    attempt: Annotated[Path, typer.Argument(help="Attempt directory of a stage without ranks.")],
) -> None:
    """Run one prepared stage that needs no ranks (what a Slurm job of such a stage calls)."""
    from residency.artifact import read_manifest
    from residency.recipes.chain import conclude_run, run_in_process

    artifact = run_in_process(attempt.resolve())
    print(artifact)
    if read_manifest(artifact).kind == "records":
        conclude_run(artifact.parent)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from residency.recipes.schema import json_schema

    print(json_schema(), end="")


@app.command()
def doctor(mirror: Mirror = None) -> None:
    """What this machine offers: accelerators, attention, DeepSpeed ops, Slurm, mirror."""
    from residency.recipes.doctor import print_doctor

    if mirror:
        os.environ["RESIDENCY_MIRROR"] = str(mirror.resolve())
    print_doctor()


@data_app.command()
def build(
    recipe: RecipeFile, overrides: Overrides = None, runs: Runs = Path("runs"), mirror: Mirror = None
) -> None:
    """Read and curate the corpora of a recipe, and nothing else."""
    from residency.recipes import chain, check

    plan = _plan(recipe, overrides, runs, mirror)
    check.check(plan)
    chain.build_corpora(plan)


@data_app.command()
def show(
    source: Annotated[
        str,
        typer.Argument(help="File, directory, data set id, world:NAME, shipped:FILE/NAME or RECIPE:CORPUS."),
    ],
    file: Annotated[str | None, typer.Option("--file", help="File inside the source, or a pattern.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows that are printed.")] = 3,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Directory or hub id of a model: also count tokens.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Print which tokens carry loss.")] = False,
    chat_template: Annotated[
        str | None, typer.Option("--chat-template", help="Jinja file or shipped template.")
    ] = None,
    mirror: Mirror = None,
) -> None:
    """Print what a source holds: its schema, lengths, damaged rows, the first rows, and where the loss is."""
    from residency.data.reading.show import show as print_source
    from residency.recipes.looking import corpus_of, tokenizer_of
    from residency.recipes.plan_stages import read_template
    from residency.recipes.words import plain_console

    _use_mirror(mirror)
    if mask and not tokenizer:
        raise ResidencyError("--mask needs a tokenizer", cure="Give --tokenizer DIRECTORY_OR_ID")
    print_source(
        plain_console(),
        corpus_of(source, file),
        rows=rows,
        tokenizer=tokenizer_of(tokenizer) if tokenizer else None,
        template=read_template("show", chat_template) if chat_template else None,
        mask=mask,
    )


@data_app.command(name="report")
def data_report(
    recipe: RecipeFile, overrides: Overrides = None, runs: Runs = Path("runs"), mirror: Mirror = None
) -> None:
    """Write data.html: what went into the corpora, what was left out and why, and what the mixtures became."""
    from residency.eval.pages import data_report as page
    from residency.recipes.chain import describe

    plan = _plan(recipe, overrides, runs, mirror)
    if not plan.paths.root.is_dir():
        raise ResidencyError(f"no run in {plan.paths.root}", cure="Run the recipe first")
    print(page.write(plan.paths, describe(plan)))


def _use_mirror(mirror: Path | None) -> None:
    if mirror:
        if not mirror.is_dir():
            raise ResidencyError(f"--mirror {mirror}: no such directory")
        os.environ["RESIDENCY_MIRROR"] = str(mirror.resolve())


def _plan(recipe: Path, overrides: list[str] | None, runs: Path, mirror: Path | None):  # type: ignore[no-untyped-def]
    from residency.artifact import RunPaths
    from residency.recipes.plan import Plan
    from residency.recipes.schema import load

    _use_mirror(mirror)
    loaded = load(recipe, overrides)
    return Plan(loaded, RunPaths((runs / loaded.name).resolve()))


def main() -> None:
    """Entry of the console script; a user's mistake is one line on stderr and an exit code."""
    try:
        app(standalone_mode=False)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except ResidencyError as error:
        print(f"residency: {error}", file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        print("residency: interrupted; the same command continues", file=sys.stderr)
        sys.exit(Exit.RUN_AGAIN)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            error.show()  # type: ignore[attr-defined]
            sys.exit(Exit.USER_INPUT)
        raise


if __name__ == "__main__":
    main()
