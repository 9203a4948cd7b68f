"""The `vocab` stage on a tiny chain: what it leaves, what it refuses, and training behind it under ZeRO-3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from residency.artifact import Manifest, RunPaths, check_files, read_manifest
from residency.data.corpus import rows
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError
from residency.recipes import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load

if TYPE_CHECKING:
    from tests.train.conftest import World

VOCAB = {"kind": "vocab", "from": "base", "corpus": "texts", "tokens": 5}


@pytest.fixture(autouse=True)
def _few_words(world: World) -> None:
    """A tokenizer too small for the words of the texts."""
    world.vocabulary = 290


def table(artifact: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (artifact / "new_tokens.jsonl").read_text("utf-8").splitlines()]


def grown(world: World, **own: Any) -> tuple[Path, Manifest]:
    artifact = world.train_all({"vocab": VOCAB | own})
    return artifact, read_manifest(artifact)


def base_of(world: World) -> Path:
    plan = world.plan({"cpt": {}})
    world._bring(plan, "base")
    return plan.stages["base"].artifact


def test_it_leaves_a_grown_model_and_says_what_was_gained(world: World) -> None:
    artifact, manifest = grown(world)
    measured, new = manifest.measured, table(artifact)
    assert check_files(artifact, rehash=True) == []
    assert 0 < len(new) == measured["tokens_added"] <= measured["tokens_asked"] == 5
    assert [row["id"] for row in new] == list(range(measured["first_new_token"], measured["rows"]))
    assert all(row["count"] >= 5 and len(row["pieces"]) > 1 for row in new)
    assert measured["spare_rows_used"] == 0
    assert measured["after"]["tokens_per_word"] < measured["before"]["tokens_per_word"]
    assert measured["after"]["bits_per_byte"] > 0
    old, tokenizer = (load_tokenizer(directory) for directory in (base_of(world), artifact))
    embedding, former = (
        load_file(directory / "model.safetensors")["model.embed_tokens.weight"]
        for directory in (artifact, base_of(world))
    )
    assert (
        embedding.shape[0]
        == json.loads((artifact / "config.json").read_text())["vocab_size"]
        == len(tokenizer)
    )
    assert torch.equal(embedding[: len(former)], former)
    for row in new:
        assert tokenizer(row["word"], add_special_tokens=False)["input_ids"] == [row["id"]]
        assert old(row["word"], add_special_tokens=False)["input_ids"] == row["pieces"]
        torch.testing.assert_close(embedding[row["id"]], former[row["pieces"]].mean(0))
    assert tokenizer.chat_template == old.chat_template
    corpus = next(world.run.glob("corpus-texts-????????"))
    texts = [row["text"] for row in rows(corpus, "train")]
    assert sum(len(tokenizer(text)["input_ids"]) for text in texts) < sum(
        len(old(text)["input_ids"]) for text in texts
    )
    assert {entry["corpus"] for entry in manifest.passport} == {"texts"}


def test_terms_with_types_decide_which_words_and_where_they_start(world: World) -> None:
    file = world.root / "terms.tsv"
    file.write_text("tired legs\tsign\npale face\tsign\nliver\torgan\nspleen\torgan\nheart\n", "utf-8")
    artifact, manifest = grown(world, terms=str(file), start="type", tokens=50)
    new = table(artifact)
    assert {row["word"].strip() for row in new} <= {
        "tired",
        "legs",
        "pale",
        "face",
        "liver",
        "spleen",
        "heart",
    }
    assert {row["type"] for row in new} == {"sign", "organ", None} - ({None} if len(new) < 5 else set())
    measured = manifest.measured
    assert measured["after"]["tokens_per_term"] < measured["before"]["tokens_per_term"]
    assert measured["after"]["terms_of_one_token"] > measured["before"]["terms_of_one_token"]
    embedding = load_file(artifact / "model.safetensors")["model.embed_tokens.weight"]
    signs = [row["id"] for row in new if row["type"] == "sign"]
    assert len(signs) > 1
    for id in signs[1:]:
        assert torch.equal(embedding[id], embedding[signs[0]])


def test_check_knows_what_the_stage_will_refuse(world: World) -> None:
    notes = check.check(world.plan({"vocab": VOCAB, "cpt": {"from": "vocab"}}))
    assert "vocab: up to 5 words of texts become tokens; cpt will be tokenised with them" in notes
    with pytest.raises(ResidencyError, match=r"stages\.vocab\.start = type: there are no semantic types"):
        check.check(world.plan({"vocab": VOCAB | {"start": "type"}}))
    with pytest.raises(ResidencyError, match=r"stages\.vocab\.terms = .*absent\.txt: no such file"):
        world.plan({"vocab": VOCAB | {"terms": str(world.root / "absent.txt")}})
    lora = {"rank": 4, "alpha": 8.0, "finish": "keep"}
    with pytest.raises(ResidencyError, match=r"stages\.vocab: cpt leaves an adapter"):
        check.check(world.plan({"cpt": {"lora": lora}, "vocab": VOCAB | {"from": "cpt"}}))


def test_check_reads_the_tokenizer_of_a_base_from_outside(world: World) -> None:
    directory = world.root / "base"
    shutil.copytree(base_of(world), directory, ignore=shutil.ignore_patterns("manifest.json"))
    path = world.recipe({"vocab": VOCAB}, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": str(directory)}))
    notes = check.check(Plan(load(path), RunPaths(world.root / "other")))
    assert (
        f"vocab: {directory} has 290 tokens and 290 rows (0 to spare); 5 new tokens make up to 295 rows"
        in notes
    )
    form = json.loads((directory / "tokenizer.json").read_text())
    form |= {"pre_tokenizer": {"type": "Metaspace"}, "decoder": {"type": "Metaspace"}}
    (directory / "tokenizer.json").write_text(json.dumps(form))
    with pytest.raises(ResidencyError, match=r"stages\.vocab: .*base: its BPE does not work on bytes"):
        check.check(Plan(load(path), RunPaths(world.root / "other")))


def test_a_corpus_of_dialogues_and_one_without_new_words_are_refused(world: World) -> None:
    with pytest.raises(ResidencyError, match="corpus dialogues holds rows of kind messages"):
        grown(world, corpus="dialogues")
    file = world.root / "terms.txt"
    file.write_text("xylophone\n")
    with pytest.raises(ResidencyError, match="no word of texts is worth a token"):
        grown(world, terms=str(file))


@pytest.mark.slow
def test_new_rows_are_trained_under_zero_3(world: World) -> None:
    artifact = world.train_all({"vocab": VOCAB, "cpt": {"from": "vocab"}}, zero=3)
    parent = next(world.run.glob("vocab-????????"))
    before, after = (load_file(directory / "model.safetensors") for directory in (parent, artifact))
    assert {name: tensor.shape for name, tensor in after.items()} == {
        name: tensor.shape for name, tensor in before.items()
    }
    assert all(tensor.numel() for tensor in after.values())
    first = read_manifest(parent).measured["first_new_token"]
    name = "model.embed_tokens.weight"
    moved = (after[name] - before[name]).abs().amax(1)
    assert (moved[first:] > 1e-3).all(), "each new word stands in the text, so each row is trained"
    tokens = next(world.run.glob("cpt-tokens-????????"))
    assert read_manifest(tokens).measured["highest_token"] >= first
    word = table(parent)[0]
    assert load_tokenizer(artifact)(word["word"], add_special_tokens=False)["input_ids"] == [word["id"]]
