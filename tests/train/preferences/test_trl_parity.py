"""Losses and gradients are those of TRL's own trainers on the same batch, whatever the layout."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from residency.train.preferences import head, references
from residency.train.preferences.batches import Pairs
from residency.train.preferences.layouts import Layout, laid_out
from residency.train.preferences.objective import Objective, sums
from tests.train.preferences.conftest import VOCABULARY, rows

BETA, SMOOTHING, WEIGHT, TARGET = 0.3, 0.1, 0.7, 0.4
CLOSE = 1e-5
LAYOUTS: list[Layout] = ["padded", "packed", "shared"]
PLAIN = {
    "beta": BETA, "label_smoothing": 0.0, "target_margin": TARGET, "sft_weight": 0.0, "length_normalised": False,
}  # fmt: skip
DPO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dpo": ({"loss": "dpo"}, {"loss_type": "sigmoid"}),
    "ipo": ({"loss": "ipo"}, {"loss_type": "ipo"}),
    "robust": (
        {"loss": "robust", "label_smoothing": SMOOTHING},
        {"loss_type": "robust", "label_smoothing": SMOOTHING},
    ),
    "dpo by length": ({"loss": "dpo", "length_normalised": True}, {"loss_type": "sigmoid_norm"}),
    "dpo and likelihood": (
        {"loss": "dpo", "sft_weight": WEIGHT},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, WEIGHT]},
    ),
}
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "simpo": ({"loss": "simpo"}, {"loss_type": "simpo", "simpo_gamma": TARGET, "cpo_alpha": 0.0}),
    "cpo": ({"loss": "cpo", "sft_weight": WEIGHT}, {"loss_type": "sigmoid", "cpo_alpha": WEIGHT}),
    "orpo": ({"loss": "orpo"}, {}),
}

Step = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Loss, and gradients by the name of the tensor."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words <0>, <1>, ... are the tokens 0, 1, ...; TRL asks for one, though the batch is of ids."""
    made = Tokenizer(
        models.WordLevel({f"<{number}>": number for number in range(VOCABULARY)}, unk_token="<0>")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<0>", eos_token="<1>")


def step(model: Any, loss: torch.Tensor) -> Step:
    model.zero_grad()
    torch.autograd.backward(loss)
    gradients = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    return loss.detach(), gradients


def ours(
    model: Any, reference: Any, settings: dict[str, Any], file: Path, layout: Layout, kept: Path
) -> Step:
    """One pass over all pairs; what the reference says comes from the file where it was kept."""
    objective = Objective(PLAIN | settings)
    pairs = Pairs(file, prompts_scored=objective.prompts_scored)
    known = kept_or_made(kept, reference, pairs) if objective.has_reference else None
    batch = pairs.batch(list(range(len(pairs))), layout)
    model = copy.deepcopy(model)
    head.attach(model, "dense")
    scores, prompts = objective.score(model, batch, None if known is None else known[:, : objective.replies])
    divergence = None
    if known is not None and objective.unpaired:
        divergence = (objective.divergence(model, batch, known[:, 1]) / len(pairs)).clamp(min=0)
    tokens = objective.likelihood_tokens(batch)
    loss = objective.loss(scores, prompts, batch, likelihood_tokens=tokens, divergence=divergence)
    return step(model, loss)


def kept_or_made(kept: Path, reference: Any, pairs: Pairs) -> torch.Tensor:
    """The reference's log-probabilities, from the file where the first layout left them."""
    shape = (len(pairs), 2)
    if references.load(kept, shape) is None:
        references.save(kept, scored_by(reference, pairs))
    known = references.load(kept, shape)
    assert known is not None
    return known


def scored_by(reference: Any, pairs: Pairs) -> torch.Tensor:
    reference = copy.deepcopy(reference)
    head.attach(reference, "dense")

    def forward(numbers: Any) -> torch.Tensor:
        kinds = [pairs.items(numbers), *([pairs.mismatched(numbers)] if pairs.labelled else [])]
        each = [
            sums(
                reference,
                laid_out(
                    "padded",
                    some,
                ),
                len(some),
                pairs.replies,
            )[0]
            for some in kinds
        ]
        return torch.cat(each, dim=1)

    with torch.no_grad():
        return references.computed(pairs.lengths.tolist(), 2, 2, forward, torch.device("cpu"))


def assert_equal(got: Step, expected: Step) -> None:
    assert got[0].item() == pytest.approx(expected[0].item(), abs=CLOSE)
    assert got[1].keys() == expected[1].keys()
    assert max(float(part.abs().max()) for part in expected[1].values()) > 1e-3, "no gradient to compare"
    for name, part in expected[1].items():
        assert torch.allclose(got[1][name], part, atol=CLOSE, rtol=CLOSE), name


def arguments(directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(directory),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "beta": BETA,
        **more,
    }


def told(ids: list[int]) -> str:
    """Ids as words, each with a space behind it: a prompt and a reply are put together without one."""
    return "".join(f"<{number}> " for number in ids)


def trl_dpo(
    model: Any, reference: Any, tokenizer: Any, directory: Path, pairs: list[dict[str, Any]], **own: Any
) -> Step:
    from trl import DPOConfig, DPOTrainer

    texts = Dataset.from_list(
        [
            {
                key.removesuffix("_ids"): told(ids).removesuffix(" " if key != "prompt_ids" else "!")
                for key, ids in row.items()
            }
            for row in pairs
        ]
    )
    trainer = DPOTrainer(
        model=model, ref_model=reference, args=DPOConfig(**arguments(directory, max_length=None, **own)),
        train_dataset=texts, processing_class=tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(len(pairs))])
    return step(trainer.model, trainer.compute_loss(trainer.model, batch))


def trl_kto(model: Any, reference: Any, tokenizer: Any, directory: Path, file: Path) -> Step:
    from trl import KTOConfig, KTOTrainer

    read = Dataset.load_from_disk(str(file))
    single = Dataset.from_list(
        [
            {
                "prompt": told(row["prompt_ids"]),
                "completion": told(row["reply_ids"]).strip(),
                "label": row["label"],
            }
            for row in read
        ]
    )
    own = arguments(directory, max_length=None, per_device_train_batch_size=len(single))
    trainer = KTOTrainer(
        model=model,
        ref_model=reference,
        args=KTOConfig(**own),
        train_dataset=single,
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(len(single))])
    return step(trainer.model, trainer.compute_loss(trainer.model, batch))


def trl_others(name: str, model: Any, tokenizer: Any, directory: Path, **own: Any) -> Step:
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config, make = (ORPOConfig, ORPOTrainer) if name == "orpo" else (CPOConfig, CPOTrainer)
    said = Dataset.from_list([{"prompt": "<3> ", "chosen": "<4>", "rejected": "<5>"}])
    given = arguments(directory, max_length=64, **own)
    trainer: Any = make(model=model, args=config(**given), train_dataset=said, processing_class=tokenizer)
    batch = trainer.data_collator([sides(row) for row in rows()])
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    return step(trainer.model, loss)


def sides(row: dict[str, Any]) -> dict[str, Any]:
    """A pair as CPO's and ORPO's collator takes it."""
    made: dict[str, Any] = {
        "prompt_input_ids": row["prompt_ids"],
        "prompt_attention_mask": [1] * len(row["prompt_ids"]),
    }
    for side in ("chosen", "rejected"):
        ids = row["prompt_ids"] + row[f"{side}_ids"]
        made |= {
            f"{side}_input_ids": ids,
            f"{side}_attention_mask": [1] * len(ids),
            f"{side}_labels": [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"],
        }
    return made


@pytest.mark.parametrize("name", DPO)
def test_dpo_and_its_kin(
    name: str, policy: Any, reference: Any, tokenizer: Any, pairs_file: Path, tmp_path: Path
) -> None:
    settings, own = DPO[name]
    expected = trl_dpo(copy.deepcopy(policy), copy.deepcopy(reference), tokenizer, tmp_path, rows(), **own)
    for layout in LAYOUTS:
        assert_equal(ours(policy, reference, settings, pairs_file, layout, tmp_path / "kept"), expected)


def test_kto(policy: Any, reference: Any, tokenizer: Any, replies_file: Path, tmp_path: Path) -> None:
    expected = trl_kto(copy.deepcopy(policy), copy.deepcopy(reference), tokenizer, tmp_path, replies_file)
    for layout in LAYOUTS:
        assert_equal(
            ours(policy, reference, {"loss": "kto"}, replies_file, layout, tmp_path / "kept"), expected
        )


@pytest.mark.parametrize("name", OTHERS)
def test_losses_without_a_reference(
    name: str, policy: Any, reference: Any, tokenizer: Any, pairs_file: Path, tmp_path: Path
) -> None:
    settings, own = OTHERS[name]
    expected = trl_others(name, copy.deepcopy(policy), tokenizer, tmp_path, **own)
    for layout in LAYOUTS:
        assert_equal(ours(policy, reference, settings, pairs_file, layout, tmp_path / "kept"), expected)


def test_cdpo_is_trls_aot_on_one_pair(policy: Any, reference: Any, tokenizer: Any, tmp_path: Path) -> None:
    """AOT sorts a batch before it compares (arXiv 2406.05882); with one pair nothing is left of it but cDPO."""
    one = rows()[1:2]
    Dataset.from_list(one).save_to_disk(tmp_path / "pairs")
    own = {"loss_type": "aot", "label_smoothing": SMOOTHING}
    expected = trl_dpo(copy.deepcopy(policy), copy.deepcopy(reference), tokenizer, tmp_path, one, **own)
    settings = {"loss": "cdpo", "label_smoothing": SMOOTHING}
    assert_equal(ours(policy, reference, settings, tmp_path / "pairs", "shared", tmp_path / "kept"), expected)
