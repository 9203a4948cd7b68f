"""The loss of reward models: TRL's RewardTrainer on pairs, and by its definition on lists and steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification, TrainingArguments

from residency.data.tokenization.tokenizer import train_tokenizer
from residency.train.reward import RewardTrainer
from residency.train.reward_model.rows import NONE, JudgedRows, collate
from residency.train.reward_model.score_head import score_at

PAIRS: list[dict[str, Any]] = [
    {
        "prompt_ids": [1, 5, 6][: 1 + number % 3],
        "replies_ids": [
            [7 + number, 8, 9][: 1 + number % 2 + 1],
            [10, 11 + number, 12, 13][: 2 + number % 3],
        ],
        "ranks": [1, 2],
        "scores": [1.5 * number, 0.0],
    }
    for number in range(4)
]
LIST: dict[str, Any] = {
    "prompt_ids": [1, 5],
    "replies_ids": [[7], [8, 9], [10], [11, 4]],
    "ranks": [1, 2, 2, 4],
    "scores": None,
}
STEPS: dict[str, Any] = {"ids": [1, 5, 6, 7, 8], "ends": [2, 4], "values": [1.0, 0.3]}
PADDING = 3


def model() -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": PADDING}
    return LlamaForSequenceClassification(LlamaConfig(**shape, **heads, num_labels=1))


def ours(directory: Path, **settings: Any) -> RewardTrainer:
    arguments = TrainingArguments(str(directory), use_cpu=True, report_to=[])
    trainer = RewardTrainer(model=score_at(model()), args=arguments, train_dataset=Dataset.from_list(PAIRS))
    trainer.centre = settings.get("centre", 0.0)
    return trainer


def gradients(trainer: Any, batch: Any) -> tuple[float, dict[str, torch.Tensor]]:
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), {name: part.grad for name, part in trainer.model.named_parameters()}


@pytest.mark.parametrize(("centre", "margin"), [(0.0, 0.0), (0.0, 1.0), (0.01, 1.0)])
def test_pairs_have_the_loss_and_gradients_of_trl(tmp_path: Path, centre: float, margin: float) -> None:
    from trl import RewardConfig
    from trl import RewardTrainer as Theirs

    rows = [
        {
            "chosen_ids": row["prompt_ids"] + row["replies_ids"][0],
            "rejected_ids": row["prompt_ids"] + row["replies_ids"][1],
            **({"margin": row["scores"][0]} if margin else {}),
        }
        for row in PAIRS
    ]
    train_tokenizer(iter(["a"]), 264, 64).save_pretrained(tmp_path / "tokenizer")
    config = RewardConfig(
        str(tmp_path / "theirs"),
        use_cpu=True,
        report_to=[],
        center_rewards_coefficient=centre or None,
        bf16=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    theirs = Theirs(
        model=model(), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    theirs.model.config.pad_token_id = theirs.data_collator.pad_token_id = PADDING
    theirs.model.eval()  # TRL leaves dropout out, and there is none
    expected, slopes = gradients(theirs, theirs.data_collator(rows))
    loss, found = gradients(ours(tmp_path / "ours", centre=centre), collate(PAIRS, margin))
    assert loss == pytest.approx(expected, abs=1e-6)
    assert found.keys() == slopes.keys()
    assert max(slope.abs().max() for slope in slopes.values()) > 1e-2
    assert max((found[name] - slopes[name]).abs().max() for name in slopes) <= 1e-6


def test_a_list_is_read_once_and_all_its_pairs_count(tmp_path: Path) -> None:
    batch = collate([LIST, PAIRS[0]])
    assert batch["input_ids"].shape == (4 + 2, 4)
    found = list(zip(batch["better"].tolist(), batch["worse"].tolist(), strict=True))
    assert found == [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (4, 5)]
    assert batch["weights"].tolist() == pytest.approx([1 / 10] * 5 + [1 / 2])
    trainer = ours(tmp_path)
    both = trainer.compute_loss(trainer.model, batch)
    each = [trainer.compute_loss(trainer.model, collate([row])) for row in (LIST, PAIRS[0])]
    assert both.item() == pytest.approx((each[0] + each[1]).item() / 2, abs=1e-6)


def test_steps_have_the_cross_entropy_of_their_values(tmp_path: Path) -> None:
    trainer = ours(tmp_path)
    plain = model()
    scores = [plain(input_ids=torch.tensor([STEPS["ids"][: end + 1]])).logits.item() for end in STEPS["ends"]]
    likely = torch.tensor(scores).sigmoid()
    values = torch.tensor(STEPS["values"])
    expected = -(values * likely.log() + (1 - values) * (1 - likely).log()).mean()
    assert trainer.compute_loss(trainer.model, collate([STEPS])).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_padding_changes_nothing(tmp_path: Path) -> None:
    long = STEPS | {"ids": [1] + [9] * 20, "ends": [20], "values": [0.5]}
    trainer = ours(tmp_path)
    alone, beside = (
        trainer.model(**{key: collate(rows)[key] for key in ("input_ids", "rows", "ends")}).logits[:2]
        for rows in ([STEPS], [STEPS, long])
    )
    assert torch.allclose(alone, beside, atol=1e-6)


def test_every_epoch_has_its_order_and_the_last_step_its_weight() -> None:
    rows = JudgedRows(Dataset.from_list(PAIRS), batch_size=4, epochs=2.5, seed=1)
    assert len(rows) == 12
    assert sorted(rows.order[:4]) == sorted(rows.order[4:8]) == [0, 1, 2, 3]
    assert list(rows.order[10:]) == [NONE, NONE]
    assert [rows[place]["weight"] for place in range(12)] == [1.0] * 8 + [2.0, 2.0, 0.0, 0.0]
    lengths = [sum(len(row["prompt_ids"] + ids) for ids in row["replies_ids"]) for row in PAIRS]
    assert rows.tokens == 2 * sum(lengths) + sum(lengths[place] for place in rows.order[8:10])
    again = JudgedRows(Dataset.from_list(PAIRS), batch_size=4, epochs=2.5, seed=1)
    assert list(again.order) == list(rows.order)
    few = JudgedRows(Dataset.from_list(PAIRS), batch_size=8, epochs=1.0, seed=1)
    assert sum(few[place]["weight"] for place in range(8)) == 8
