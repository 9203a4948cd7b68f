"""What stages hand to each other is held together by a plan alone, before any of them has run."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.artifact import RunPaths
from residency.errors import Exit, ResidencyError
from residency.recipes import check
from residency.recipes.plan import Plan
from residency.recipes.schema import load

HEAD = """\
name: small
base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [text]}}
corpora:
  text: {source: "world:medicine", size: 8}
  turns: {source: "world:medicine/dialogues", size: 8}
  pairs: {source: "world:medicine/preferences", size: 8}
stages:
"""
KEEP, MERGE, PROMPT = (
    "lora: {rank: 4, finish: keep}",
    "lora: {rank: 4, finish: merge}",
    "prompt_tuning: {tokens: 4}",
)
ROWS = "max_length: 48, batch_size: 4"


def words(name: str, parent: str = "base") -> str:
    return f"{name}: {{kind: vocab, from: {parent}, corpus: text, tokens: 20}}"


def sft(name: str, parent: str = "base", *more: str) -> str:
    return f"{name}: {{kind: sft, from: {parent}, mixture: {{turns: 1}}, {', '.join((ROWS, *more))}}}"


def preference(name: str, parent: str, *more: str, corpus: str = "pairs") -> str:
    return f"{name}: {{kind: preference, from: {parent}, corpus: {corpus}, {', '.join((ROWS, *more))}}}"


def reward(name: str, parent: str, *more: str, corpus: str = "pairs") -> str:
    return f"{name}: {{kind: reward, from: {parent}, corpus: {corpus}, {', '.join((ROWS, *more))}}}"


def rl(name: str, parent: str, scorer: str, *more: str, corpus: str = "turns") -> str:
    scored = f"rewards: [{{kind: model, stage: {scorer}}}], replies: 2, max_new_tokens: 8, max_length: 40"
    return f"{name}: {{kind: rl, from: {parent}, corpus: {corpus}, {', '.join((scored, *more))}}}"


def merged(parent: str, method: str, models: str) -> str:
    return f"both: {{kind: merge, from: {parent}, method: {method}, models: {{{models}}}}}"


def checked(folder: Path, *stages: str) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(HEAD + "".join(f"  {stage}\n" for stage in stages))
    return check.check(Plan(load(path), RunPaths(folder / "runs" / "small")))


def refusal(folder: Path, *stages: str) -> str:
    with pytest.raises(ResidencyError) as caught:
        checked(folder, *stages)
    assert caught.value.code == Exit.USER_INPUT
    told = str(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize(
    "stages",
    [
        (words("a"), sft("s", "a"), words("b"), merged("a", "linear", "a: 1, b: 1")),
        (sft("s"), reward("scorer", "s"), rl("r", "s", "scorer")),
        (
            sft("s", "base", KEEP),
            sft("t", "s", "adapter: continue", KEEP),
            preference("p", "t", "adapter: merge"),
        ),
        (
            sft(
                "s",
                "base",
                "lora: {rank: 4, also_train: [embed_tokens, norm], targets: [q_proj], finish: merge}",
            ),
        ),
        (sft("s", "base", PROMPT), preference("p", "s", "adapter: continue", PROMPT)),
    ],
)
def test_stages_that_fit_pass(tmp_path: Path, stages: tuple[str, ...]) -> None:
    checked(tmp_path, *stages)


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_models_of_other_tokenizers_are_not_merged(tmp_path: Path, method: str) -> None:
    models = "a: 1, b: 1" if method == "linear" else "b: 1"
    told = refusal(tmp_path, sft("a"), words("more"), sft("b", "more"), merged("a", method, models))
    assert told.startswith("stages.both: b has the tokenizer of more, a that of base")


def test_models_of_other_templates_are_not_merged(tmp_path: Path) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}")
    other = sft("b", "base", f"chat_template: {template}")
    told = refusal(tmp_path, sft("a"), other, merged("a", "slerp", "a: 1, b: 1"))
    assert told.startswith(
        "stages.both: b has another chat template than a. Merge models with one chat template"
    )
    told = refusal(tmp_path, sft("a"), other, reward("scorer", "b"), rl("r", "a", "scorer"))
    assert told.startswith("stages.r: scorer has another chat template than r. Train scorer from a model")


def test_a_reward_model_reads_what_the_model_writes(tmp_path: Path) -> None:
    told = refusal(
        tmp_path, sft("a"), reward("scorer", "a"), words("more"), sft("b", "more"), rl("r", "b", "scorer")
    )
    assert told.startswith("stages.r: scorer has the tokenizer of base, b that of more")


def test_the_reference_is_the_parent_whatever_the_recipe_says(tmp_path: Path) -> None:
    told = refusal(tmp_path, sft("a"), preference("dpo", "a", "reference: base"))
    assert "stages.dpo: reference = base: the reference is the parent, a, always" in told
    told = refusal(tmp_path, sft("a"), reward("scorer", "a"), rl("r", "a", "scorer", "ref_model: base"))
    assert "stages.r: ref_model = base: the reference is the parent, a, always" in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("lora: {rank: 8, finish: keep}", "stages.b.lora.rank = 8: the adapter that is continued has 4"),
        (
            "lora: {rank: 4, dora: true, finish: keep}",
            "stages.b.lora.dora = True: the adapter that is continued",
        ),
        (
            "lora: {rank: 4, targets: [q_proj], finish: keep}",
            "stages.b.lora.targets = ['q_proj']: the adapter that is continued has all-linear. Set",
        ),
        (
            "lora: {rank: 4, also_train: [embed_tokens], finish: keep}",
            "stages.b.lora.also_train = ['embed_tokens']: the adapter that is continued has []",
        ),
    ],
)
def test_an_adapter_is_continued_as_the_stage_above_will_leave_it(
    tmp_path: Path, more: str, message: str
) -> None:
    above = sft("a", "base", KEEP), sft("t", "a", "adapter: continue", KEEP)
    told = refusal(tmp_path, *above, sft("b", "t", "adapter: continue", more))
    assert told.startswith(message)


def test_a_learnt_prompt_is_continued_at_its_length(tmp_path: Path) -> None:
    longer = sft("b", "a", "adapter: continue", "prompt_tuning: {tokens: 8}")
    told = refusal(tmp_path, sft("a", "base", PROMPT), longer)
    assert told == "stages.b.prompt_tuning.tokens = 8: the adapter that is continued has 4. Set tokens to 4"


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ("targets: [q_porj]", "stages.a.lora.targets: the model has no module q_porj"),
        ("targets: []", "stages.a.lora: targets names no module"),
        ("also_train: [wte]", "stages.a.lora.also_train: the model has no module wte"),
        ("dora: true, quantised: true", "stages.a.lora: dora needs the length of whole weights"),
    ],
)
def test_adapters_stand_on_modules_that_are_there(tmp_path: Path, lora: str, message: str) -> None:
    assert message in refusal(tmp_path, sft("a", "base", f"lora: {{finish: keep, {lora}}}"))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "more: {kind: vocab, from: a, corpus: turns}",
            "stages.more: corpus turns holds dialogues (messages). Give",
        ),
        (
            "more: {kind: vocab, from: a, corpus: text, terms: pairs}",
            "stages.more: corpus pairs holds preference",
        ),
        (
            preference("p", "a", corpus="text"),
            "stages.p: corpus text holds running text. Give preference pairs",
        ),
        (
            reward("p", "a", corpus="turns"),
            "stages.p: corpus turns holds dialogues (messages). Give pref",
        ),
        (
            "s: {kind: sample, from: a, corpus: text, max_length: 40, max_new_tokens: 8}",
            "stages.s: corpus text holds",
        ),
        (
            sft("b").replace("turns", "pairs"),
            "stages.b: corpus pairs holds preference pairs. Give running text or",
        ),
    ],
)
def test_corpora_hold_what_a_stage_learns_from(tmp_path: Path, stage: str, message: str) -> None:
    assert refusal(tmp_path, sft("a"), stage).startswith(message)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content }", "stages.a: the chat template cannot be read: line 1: "),
        (
            "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}",
            "stages.a: the chat template writes <|im",
        ),
        (
            "{% for m in messages %}{{ m.content }}.{% endfor %}",
            "stages.a: the chat template writes '.' behind the",
        ),
    ],
)
def test_a_template_is_read_and_its_marks_are_tokens(tmp_path: Path, template: str, message: str) -> None:
    (tmp_path / "own.jinja").write_text(template)
    assert refusal(tmp_path, sft("a", "base", f"chat_template: {tmp_path / 'own.jinja'}")).startswith(message)


def test_a_learnt_prompt_is_never_built_on(tmp_path: Path) -> None:
    for stage, cure in (
        (words("more", "a"), "Start from the parent of a"),
        ("out: {kind: export, from: a}", "Pass on"),
    ):
        told = refusal(tmp_path, sft("a", "base", PROMPT), stage)
        assert "a leaves a learnt prompt" in told
        assert cure in told


@pytest.mark.parametrize(
    "stage",
    [
        "rl: {kind: rl, corpus: turns, rewards: [{kind: correct}], max_new_tokens: 8, max_length: 40}",
        "drawn: {kind: sample, corpus: turns, rewards: [{kind: correct}], max_new_tokens: 8, max_length: 40}",
        "trees: {kind: tree, corpus: turns, depth: 2, max_step_tokens: 4, max_length: 40}",
    ],
)
def test_answers_are_checked_only_where_there_are_some(tmp_path: Path, stage: str) -> None:
    name = stage.partition(":")[0]
    told = refusal(tmp_path, sft("talk"), stage.replace("corpus", "from: talk, corpus", 1))
    assert told.startswith(f"stages.{name}: corpus turns holds dialogues")
    assert "Give exam items or questions with answers" in told


def test_an_export_is_of_what_a_stage_made(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: small\nbase: nobody/nothing\nstages:\n  out: {kind: export, from: base}\n")
    with pytest.raises(
        ResidencyError, match=r"stages\.out: nobody/nothing comes from outside, no stage has made"
    ):
        check.check(Plan(load(path), RunPaths(tmp_path / "runs" / "small")))


def test_a_learnt_prompt_takes_its_part_of_the_window(tmp_path: Path) -> None:
    draws = "draws: {kind: sample, from: a, corpus: turns, max_length: 40, max_new_tokens: 24}"
    checked(tmp_path, sft("a"), draws)
    told = refusal(tmp_path, sft("a", "base", PROMPT), draws)
    assert "more than the 60 tokens that the model reads. Set max_new_tokens to 20 or less" in told


def test_adapters_that_leave_new_rows_untrained_are_told_of(tmp_path: Path) -> None:
    told = "a: its adapters leave the new rows of more as they start"
    assert any(note.startswith(told) for note in checked(tmp_path, words("more"), sft("a", "more", MERGE)))
    both = "lora: {rank: 4, finish: merge, also_train: [embed_tokens]}"
    assert not any(note.startswith(told) for note in checked(tmp_path, words("more"), sft("a", "more", both)))


def test_an_adapter_from_outside_brings_its_tokenizer(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for directory, name in ((base, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        directory.mkdir()
        (directory / name).write_bytes(b"x")
    (base / "config.json").write_text("{}")
    (base / "tokenizer.json").write_text("{}")
    (adapter / "adapter_config.json").write_text(
        f'{{"peft_type": "LORA", "base_model_name_or_path": "{base}"}}'
    )
    merge, text = "m: {kind: merge, from: base, method: adapter}", "text: {source: 'world:medicine', size: 8}"
    cpt = "cpt: {kind: cpt, from: m, mixture: {text: 1}, tokens: 2k, max_length: 48, batch_size: 4}"
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: small\nbase: {adapter}\ncorpora:\n  {text}\nstages:\n  {merge}\n  {cpt}\n")
    with pytest.raises(
        ResidencyError, match=rf"adapter holds no tokenizer\.json, .* Copy .* of {base} into it"
    ):
        check.check(Plan(load(path), RunPaths(tmp_path / "runs" / "small")))
