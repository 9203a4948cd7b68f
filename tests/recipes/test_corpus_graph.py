"""What corpora need of each other, and what can be known of their steps before they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.errors import ResidencyError
from residency.recipes.check import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load

RECIPE = """
name: graph
base: {{scratch: {{layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [book]}}}}
corpora:
  web:
    source: world:general
    steps: [{steps}]
  book: {{source: world:medicine}}
  town: {{source: world:general}}
stages:
  cpt: {{kind: cpt, from: base, mixture: {{web: 1}}, tokens: 1k, max_length: 64, batch_size: 2, learning_rate: 1e-3}}
evaluation: {{after: [cpt], tasks: [{tasks}]}}
"""


def plan(tmp_path: Path, steps: str, tasks: str = "world-exam") -> Plan:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(steps=steps, tasks=tasks))
    return Plan(load(path), RunPaths(tmp_path / "run"))


def test_a_reference_comes_first_and_is_a_parent(tmp_path: Path) -> None:
    made = plan(tmp_path, "{kind: rank, like: book, keep: 0.5}")
    assert list(made.stages)[:3] == ["corpus-book", "corpus-town", "corpus-web"]
    assert made.stages["corpus-web"].parents == {"corpus:book": "corpus-book"}
    both = plan(tmp_path, "{kind: domain, like: book, unlike: town}")
    assert both.stages["corpus-web"].parents == {"corpus:book": "corpus-book", "corpus:town": "corpus-town"}


def test_exams_are_parents_of_what_is_decontaminated(tmp_path: Path) -> None:
    made = plan(tmp_path, "{kind: decontaminate}")
    assert made.stages["corpus-web"].parents == {"exam:world-exam": "task-world-exam"}
    assert next(iter(made.stages)) == "task-world-exam"
    assert not made.stages["corpus-book"].parents


def test_a_step_changes_the_corpus_and_what_hangs_on_it(tmp_path: Path) -> None:
    without, with_step = plan(tmp_path, ""), plan(tmp_path, "{kind: duplicates}")
    changed = {
        name for name, stage in without.stages.items() if with_step.stages[name].identity != stage.identity
    }
    assert changed == {"corpus-web", "cpt-tokens", "cpt", "cpt-evaluation"}


@pytest.mark.parametrize(
    ("steps", "tasks", "complaint"),
    [
        (
            "{kind: rank, like: absent, keep: 0.5}",
            "",
            r"corpora.web: no corpus 'absent'. Known corpora: web, book, town",
        ),
        ("{kind: rank, like: web, keep: 0.5}", "", r"corpora.web: a cycle through web"),
        (
            "{kind: decontaminate}",
            "",
            r"corpora.web.steps.0 \(decontaminate\): the recipe evaluates no questions",
        ),
        ("{kind: function, call: 'nowhere:f'}", "", r"call = nowhere:f: No module"),
        ("{kind: rank, kenlm: absent.arpa, keep: 0.5}", "", r"no file absent.arpa"),
        ("{kind: phi, names_model: absent_model}", "", r"the spaCy model absent_model is not installed"),
        ("{kind: rank, keep: 0.5}", "", r"give either like \(a corpus\) or kenlm"),
        ("{kind: rank, like: book}", "", r"give either keep \(a share\) or keep_words"),
        ("{kind: dupliactes}", "", r"'dupliactes'. Did you mean duplicates"),
        ("{kind: quality, minimum_word: 3}", "", r"minimum_word. Did you mean minimum_words"),
    ],
)
def test_what_is_refused_before_anything_runs(tmp_path: Path, steps: str, tasks: str, complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        check(plan(tmp_path, steps, tasks))


def test_the_bytes_of_a_named_file_are_part_of_the_identity(tmp_path: Path) -> None:
    model = tmp_path / "model.arpa"
    identities = []
    for content in ("one", "two", "one"):
        model.write_text(content)
        made = plan(tmp_path, f"{{kind: rank, kenlm: {model}, keep: 0.5}}")
        identities.append(made.stages["corpus-web"].identity)
    assert identities[0] == identities[2] != identities[1]
