"""Training on packed token rows: the trainer that pretrain, cpt and sft share.

A row holds whole documents one after another; position ids restart at each, no attention mask is given and no cache
kept, which is how transformers isolates them (with `use_cache=True` documents would leak into each other). Loss is
averaged over all tokens of the global step, whatever the ranks, micro-batches and accumulation steps. Only predictions
that carry loss go through the language model head: the others would cost time and memory and change nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainingArguments

from residency.artifact import StageFile
from residency.data.mixture.balance import attention_weight, placed, row_costs
from residency.data.mixture.shards import IGNORED, PackedRows, padding_squares
from residency.train.adapters.prepare import prepare
from residency.train.batches import whole_batches
from residency.train.engine import training_arguments
from residency.train.saving import TiedOnce
from residency.train.sensitivity import Sensitivity
from residency.train.settings.text import SensitivitySettings
from residency.train.watch import FiniteLoss, Watch


class Rows(Dataset[dict[str, np.ndarray[Any, Any]]]):
    """The rows of a tokens artifact, filled up with empty rows to whole global batches.

    Attributes:
        order: the row at each place; as packed until `balance` has seen the model.
    """

    def __init__(self, tokens: Path, batch_size: int) -> None:
        self.rows = PackedRows(tokens)
        self.length = whole_batches(len(self.rows), batch_size)
        self.order = np.arange(self.length)

    def balance(self, model: Any, arguments: TrainingArguments, batch_size: int) -> None:
        """Place rows so that the ranks have about the same work in every turn."""
        weights = sum(getattr(part, "ds_numel", part.numel()) for part in model.parameters())
        config, length = model.config, self.rows.max_length
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        attention = attention_weight(config.num_hidden_layers, width, weights)
        self.order = placed(
            row_costs(self.rows.squares(), length, attention),
            self.rows.windows,
            float(row_costs(padding_squares(np.array([float(length)])), length, attention)[0]),
            batch_size=batch_size,
            world_size=arguments.world_size,
            micro=arguments.per_device_train_batch_size,
            seed=arguments.seed,
        )

    def tokens_of(self, step: int, batch_size: int) -> tuple[int, int]:
        """Tokens, and tokens with loss, of the batch of a step (the first is 1); padding not counted."""
        at = (step - 1) * batch_size
        counts = [self.rows.count(int(row)) for row in self.order[at : at + batch_size]]
        return sum(tokens for tokens, _ in counts), sum(loss for _, loss in counts)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        return self.rows[int(self.order[index])]


def collate(rows: list[dict[str, np.ndarray[Any, Any]]]) -> dict[str, Any]:
    """Rows as tensors `[rows, max_length]`."""
    batch: dict[str, Any] = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
    return batch | {"use_cache": False}


def flattened(batch: dict[str, Any]) -> dict[str, Any]:
    """All rows as one, `[1, rows * max_length]`, with the documents' bounds.

    Flash attention keeps documents apart in a batch of one row only, and would look for the bounds anew in every layer.
    """
    flat = {key: value.reshape(1, -1) if torch.is_tensor(value) else value for key, value in batch.items()}
    positions = flat["position_ids"][0]
    starts = (positions == 0).nonzero().flatten()
    bounds = torch.cat([starts, torch.tensor([len(positions)])]).to(torch.int32)
    longest = int(bounds.diff().max())
    return flat | {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def with_loss_only(batch: dict[str, Any]) -> dict[str, Any]:
    """Labels moved to the token that predicts them, and the columns that any row has loss in: `[rows, columns]`."""
    shifted = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    columns = (shifted != IGNORED).any(dim=0).nonzero().flatten()
    if not len(
        columns
    ):  # only empty rows: no loss, but a gradient (zero) all the same, as on the other ranks
        columns = torch.zeros(1, dtype=torch.int64)
    labels = shifted[:, columns].contiguous()
    return batch | {"logits_to_keep": columns, "labels": labels, "shift_labels": labels}


class PackedTrainer(FiniteLoss, TiedOnce, Trainer):
    """transformers' Trainer on rows that are already mixed, packed and shuffled."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def packed_trainer(stage: StageFile, attempt: Path, world_size: int) -> tuple[PackedTrainer, Watch]:
    """The trainer of a stage on packed rows, its model loaded (for ZeRO-3: in shards)."""
    rows = Rows(stage.parents["tokens"], stage.settings["batch_size"])
    arguments = TrainingArguments(**training_arguments(stage, attempt, world_size, len(rows)))
    model, tokenizer = prepare(
        stage, attempt
    )  # after the arguments: ZeRO-3 shards the weights while they load
    rows.balance(model, arguments, stage.settings["batch_size"])
    flash = "flash" in model.config._attn_implementation

    def batch(of: list[dict[str, np.ndarray[Any, Any]]]) -> dict[str, Any]:
        return with_loss_only(flattened(collate(of)) if flash else collate(of))

    watch = Watch(attempt, stage, tokens=rows.rows.tokens)
    watch.tokens_of = partial(rows.tokens_of, batch_size=stage.settings["batch_size"])
    trainer = PackedTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=batch,
        processing_class=tokenizer,
        callbacks=[watch, *_sensitivity(stage, rows.rows, model, tokenizer, watch)],
    )
    return trainer, watch


def _sensitivity(
    stage: StageFile, rows: PackedRows, model: Any, tokenizer: Any, watch: Watch
) -> list[Sensitivity]:
    if not stage.settings.get("sensitivity_dropout"):
        return []
    settings = SensitivitySettings.model_validate(stage.settings["sensitivity_dropout"])
    found = Sensitivity(settings, rows, tokenizer, watch, stage.settings["seed"])
    found.attach(model)
    return [found]
