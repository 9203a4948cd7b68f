"""The tokenizer of a new base: corpora as a list, or each with how often it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from residency.artifact import RunPaths, read_manifest
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError
from residency.recipes.plan import Plan
from residency.recipes.schema import load

if TYPE_CHECKING:
    from tests.train.conftest import World


def with_tokenizer(world: World, tokenizer: Any) -> Path:
    """A recipe without stages whose base's tokenizer reads these corpora; `words` is one more of them."""
    path = world.recipe({}, {})
    recipe = json.loads(path.read_text())
    words = world.root / "words.jsonl"
    words.write_text('{"text": "zygomatic arch, zygomatic bone"}\n')
    recipe["corpora"]["words"] = {"source": str(words), "licence": "CC0-1.0"}
    recipe["base"]["scratch"] |= {"tokenizer": tokenizer, "vocabulary": 300}
    path.write_text(json.dumps(recipe))
    return path


def base(world: World, tokenizer: Any) -> Path:
    plan = Plan(load(with_tokenizer(world, tokenizer)), RunPaths(world.run))
    world._bring(plan, "base")
    return plan.stages["base"].artifact


def test_a_small_corpus_that_is_read_often_gets_words_of_its_own(world: World) -> None:
    once = base(world, {"texts": 1, "words": 1})
    often = base(world, {"texts": 1, "words": 200})
    assert load_tokenizer(base(world, ["texts", "words"])).get_vocab() == load_tokenizer(once).get_vocab()
    lengths = [
        len(load_tokenizer(made)(" zygomatic", add_special_tokens=False)["input_ids"])
        for made in (once, often)
    ]
    assert lengths[1] == 1 < lengths[0]
    manifest = read_manifest(often)
    assert manifest.settings["tokenizer"] == {"texts": 1, "words": 200}
    assert {entry["corpus"] for entry in manifest.passport} == {"texts", "words"}


@pytest.mark.parametrize("tokenizer", [[], {}, {"texts": 0}, {"texts": 1.5}])
def test_no_corpora_and_no_whole_repetitions_are_refused(world: World, tokenizer: Any) -> None:
    with pytest.raises(ResidencyError, match=r"base\.scratch\.tokenizer"):
        load(with_tokenizer(world, tokenizer))


def test_a_corpus_that_is_not_here_or_no_text_is_refused(world: World) -> None:
    with pytest.raises(ResidencyError, match=r"base\.scratch\.tokenizer: no corpus 'absent'"):
        Plan(load(with_tokenizer(world, {"absent": 2})), RunPaths(world.run))
    with pytest.raises(ResidencyError, match="corpus dialogues holds rows of kind messages"):
        base(world, ["dialogues"])
