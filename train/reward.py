"""Reward models: a language model whose head gives one score, trained on judged replies.

On ranked replies the loss is Bradley-Terry's over all pairs of a prompt, -log sigmoid(better - worse - margin), the
mean over the pairs of a prompt and then over prompts (arXiv 2203.02155, equation 1); a pair is a list of two. On pairs
it is that of TRL's RewardTrainer, which knows no longer lists. On reasoning steps it is the binary cross-entropy of the
score at each step's last token with the step's value (a process reward model; soft labels as in arXiv 2501.12051). Run
by `residency.train.worker` on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.utils.data import SequentialSampler
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from residency.artifact import StageFile
from residency.data import replies
from residency.data.tokenization.tokenizer import template_digest, tokenizer_digest
from residency.errors import ResidencyError
from residency.train.adapters.prepare import prepare
from residency.train.engine import training_arguments
from residency.train.reward_model.judgement import HALF, agreement
from residency.train.reward_model.rows import JudgedRows, Row, collate, sequences
from residency.train.reward_model.score_head import score_at
from residency.train.saving import TiedOnce
from residency.train.watch import FiniteLoss, Watch

READ = ("input_ids", "rows", "ends")
LOGGED = ("accuracies", "margins", "scores")


class RewardTrainer(FiniteLoss, TiedOnce, Trainer):
    """transformers' Trainer on judged replies; logs accuracy and margin of every step.

    Attributes:
        centre: weight of the squared sum of a pair's scores.
    """

    loss_is_scaled_for_ga = False
    centre = 0.0

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Loss of one forward pass, the mean over its rows."""
        outputs = model(**{key: inputs[key] for key in READ})
        scores, weights = outputs.logits, inputs["weights"]
        if "values" in inputs:
            values = inputs["values"]
            loss = (weights * binary_cross_entropy_with_logits(scores, values, reduction="none")).sum()
            seen = (scores >= 0) == (values >= HALF), (scores.sigmoid() - values).abs(), scores
        else:
            better, worse = scores[inputs["better"]], scores[inputs["worse"]]
            loss = (weights * softplus(inputs["margins"] - (better - worse))).sum()
            if self.centre:
                loss = loss + self.centre * (weights * (better + worse) ** 2).sum()
            seen = better > worse, better - worse, (better + worse) / 2
        self._count(weights, seen)
        return (loss, outputs) if return_outputs else loss

    def _count(self, weights: torch.Tensor, seen: Sequence[torch.Tensor]) -> None:
        added = torch.stack([weights.sum(), *((weights * one.detach()).sum() for one in seen)])
        self._sums = added + getattr(self, "_sums", torch.zeros_like(added))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """With the means since the last log, over all ranks. Of steps the margin is the mean error of their values."""
        if "loss" in logs and hasattr(self, "_sums"):
            torch.distributed.all_reduce(self._sums)
            weight, *sums = self._sums.tolist()
            if weight:
                logs |= {f"rewards/{key}": one / weight for key, one in zip(LOGGED, sums, strict=True)}
            del self._sums
        super().log(logs, *args, **kwargs)

    @torch.no_grad()
    def score(self, rows: Sequence[Row]) -> list[list[float]]:
        """Scores of rows by the model as it is now, on all ranks together; every rank gets all."""
        micro, world = self.args.per_device_train_batch_size, self.args.world_size
        order = sorted(range(len(rows)), key=lambda place: -max(map(len, sequences(rows[place]))))
        batches = [order[first : first + micro] for first in range(0, len(order), micro)]
        batches += batches[:1] * (-len(batches) % world)  # under ZeRO-3 all ranks read equally often
        model, mine = self.model_wrapped, {}
        model.eval()
        for places in batches[self.args.process_index :: world]:
            batch = collate([rows[place] for place in places])
            read = {key: batch[key].to(self.args.device) for key in READ}
            scores = iter(model(**read).logits.tolist())
            for place in places:
                many = len(rows[place].get("ends") or rows[place]["ranks"])
                mine[place] = [next(scores) for _ in range(many)]
        model.train()
        every: list[Any] = [None] * world
        torch.distributed.all_gather_object(every, mine)
        found: dict[int, list[float]] = {}
        for part in every:
            found |= part
        return [found[place] for place in range(len(rows))]


class HeldOutJudgements(TrainerCallback):
    """Measures the finished model on the held-out rows, on all ranks."""

    def __init__(self, rows: Sequence[Row], watch: Watch) -> None:
        self.rows, self.watch = rows, watch
        self.trainer: RewardTrainer | None = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.rows and state.global_step >= state.max_steps:
            assert self.trainer is not None
            self.watch.measured |= agreement(self.rows, self.trainer.score(self.rows))


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[RewardTrainer, Watch]:
    """Trainer over all rows of all epochs; the model's head is new, drawn from the stage's seed.

    Raises:
        ResidencyError: `centre` where there are no two replies to weigh.
    """
    settings, tokens = stage.settings, stage.parents["tokens"]
    rows = JudgedRows(
        replies.load(tokens, "train"),
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        seed=settings["seed"],
    )
    form = _form(stage, rows.rows[0])
    arguments = TrainingArguments(**training_arguments(stage, attempt, world_size, len(rows)))
    model, tokenizer = prepare(
        stage, attempt, scores=True
    )  # after the arguments: ZeRO-3 shards while it loads
    _name_padding(model, tokenizer)
    watch = Watch(attempt, stage, tokens=rows.tokens)
    watch.measured |= {
        "form": form,
        "tokenizer_digest": tokenizer_digest(stage.parents["model"]),
        "template_digest": template_digest(tokenizer.chat_template),
    }
    held_out = HeldOutJudgements(list(replies.load(tokens, "held_out")), watch)
    trainer = RewardTrainer(
        model=score_at(model),
        args=arguments,
        train_dataset=rows,
        data_collator=partial(collate, margin=settings["margin"]),
        processing_class=tokenizer,
        callbacks=[watch, held_out],
    )
    trainer.centre = settings["centre"]
    held_out.trainer = trainer
    return trainer, watch


def _form(stage: StageFile, row: Row) -> str:
    """What the corpus holds, `ranked` replies or `steps`; `centre` is of the first."""
    if "values" not in row:
        return "ranked"
    if stage.settings["centre"]:
        raise ResidencyError(
            f"stages.{stage.name}.centre weighs the scores of two replies, and the corpus holds reasoning steps",
            cure="Leave centre out",
        )
    return "steps"


def _name_padding(model: Any, tokenizer: Any) -> None:
    """transformers scores the last token that is not padding; a padding token that also ends replies would mislead
    it, so then none is named and it refuses to read several rows at once."""
    padding = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = None if padding == tokenizer.eos_token_id else padding
