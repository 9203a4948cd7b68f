"""Online reinforcement learning on the model's own replies: GRPO or RLOO, tied to the parent.

Each step writes several replies to a few prompts, scores them, and makes the better ones of a prompt likelier; no
update moves a reply's probability ratio further than `clip_range` (arXiv 1707.06347), and `kl` ties the policy to its
parent, which is the reference exactly: the first divergence is 0, and that is asserted. vLLM writes where a GPU and
vLLM are there, transformers elsewhere. Dropout is off, as it would make the reference another model than the parent.
Run by `residency.train.worker` on every rank; leaves `ledger.jsonl`, `held_out.jsonl` and `replies.jsonl` beside the
model (`residency.train.reinforcement`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, RLOOConfig

from residency.artifact import StageFile
from residency.data import prompts
from residency.errors import Exit, ResidencyError
from residency.generation.generate import backend, end_tokens
from residency.train import rewards
from residency.train.adapters.prepare import prepare
from residency.train.engine import training_arguments
from residency.train.reinforcement.held_out import LEDGER, REPLIES, SCORES, HeldOutAnswers
from residency.train.reinforcement.ledger import Ledger
from residency.train.reinforcement.online import GrpoTrainer, RlooTrainer, names_only
from residency.train.replies.room import fit_prompts
from residency.train.settings import RlSettings
from residency.train.watch import Watch

LARGEST_FIRST_KL = 1e-4


def build(stage: StageFile, attempt: Path, world_size: int) -> tuple[GrpoTrainer | RlooTrainer, Watch]:
    """Trainer over whole batches of prompts; every epoch has an order of its own, from the stage's seed.

    Raises:
        ResidencyError: fewer prompts than one batch holds, a prompt without a right answer where a reward looks for
            it, or prompts that leave no room for a reply.
    """
    settings = RlSettings.model_validate(
        {key: value for key, value in stage.settings.items() if key in _fields(RlSettings)}
    )
    tokens = stage.parents["tokens"]
    rows, watched = prompts.load(tokens, "train"), prompts.load(tokens, "held_out")
    scorer = rewards.build(settings.rewards, stage.parents)  # before ZeRO-3 would shard a reward model
    scorer.check(rows, f"stages.{stage.name}.corpus")
    scorer.check(watched, f"stages.{stage.name}.held_out")
    asked = _order(stage, settings, len(rows))
    steps_rows = len(asked) * settings.replies * settings.iterations
    arguments = training_arguments(stage, attempt, world_size, steps_rows)
    config_of: dict[str, Any] = {"grpo": GRPOConfig, "rloo": RLOOConfig}
    config = config_of[settings.algorithm](**arguments, **_config(settings, scorer))
    model, tokenizer = prepare(stage, attempt)
    ends = end_tokens(model, tokenizer)
    model.generation_config.eos_token_id = ends
    _write_with(config, fit_prompts(stage, [row["prompt_ids"] for row in rows + watched]), ends)
    watch = Watch(attempt, stage, tokens=0)
    watch.leaves += [LEDGER, SCORES, REPLIES]
    watch.held_out = attempt / SCORES
    kinds: dict[str, Any] = {"grpo": GrpoTrainer, "rloo": RlooTrainer}
    trainer = kinds[settings.algorithm](
        model=model,
        reward_funcs=names_only(list(scorer.weights)),
        args=config,
        train_dataset=asked,
        processing_class=tokenizer,
        callbacks=[watch, FirstKlIsZero()],
    )
    trainer.equip(stage, rows, scorer, Ledger(attempt / LEDGER))
    trainer.add_callback(HeldOutAnswers(trainer, watch, attempt, watched))
    return trainer, watch


def _fields(settings: Any) -> set[str]:
    return {field.alias or name for name, field in settings.model_fields.items()}


def _order(stage: StageFile, settings: RlSettings, rows: int) -> Any:
    """The numbers of the prompts as they are asked, epoch after epoch, cut to whole batches.

    Epochs are written out, so that a checkpoint's step alone says what comes next.
    """
    at_once = settings.batch_size // settings.replies
    count = round(settings.epochs * rows) // at_once * at_once
    if not count:
        raise ResidencyError(
            f"stages.{stage.name}.batch_size = {settings.batch_size} holds {at_once} prompts, the corpus has only "
            f"{round(settings.epochs * rows)}",
            cure="Lower batch_size, or raise epochs",
        )
    epochs = -(-count // rows)
    order = [
        (int(row), epoch + 1)
        for epoch in range(epochs)
        for row in np.random.default_rng([stage.settings["seed"], epoch]).permutation(rows)
    ][:count]
    return Dataset.from_dict(
        {"prompt": [str(row) for row, _ in order], "epoch": [epoch for _, epoch in order]}
    )


def _config(settings: RlSettings, scorer: rewards.Scorer) -> dict[str, Any]:
    """What TRL's configuration has beside the arguments of all trainers."""
    own: dict[str, Any] = {
        "num_generations": settings.replies,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "beta": settings.kl,
        "epsilon": settings.clip_range,
        "num_iterations": settings.iterations,
        "reward_weights": list(scorer.weights.values()),
        "shuffle_dataset": False,
        "disable_dropout": True,
    }
    if settings.algorithm == "grpo":
        own |= {"loss_type": "grpo", "scale_rewards": "group"}
    return own


def _write_with(config: Any, room: int, ends: list[int]) -> None:
    """Choose what writes the replies, for prompts and replies of `room` tokens at most."""
    config.use_vllm = torch.cuda.is_available() and backend() == "vllm"
    if config.use_vllm:
        config.vllm_mode = "colocate"
        config.vllm_max_model_length = room  # a whole window of keys and values may not fit the memory
        config.generation_kwargs = {"stop_token_ids": ends}
    else:
        config.generation_kwargs = {"use_cache": True}  # the model's own setting is for training


class FirstKlIsZero(TrainerCallback):
    """The reference is the parent, exactly: before the first update the policy does not diverge from it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        first = (logs or {}).get("kl")
        if state.global_step == 1 and first is not None and not abs(first) <= LARGEST_FIRST_KL:
            raise ResidencyError(
                f"the first divergence from the reference is {first:.6g}, not 0: the reference is not the parent",
                code=Exit.OUR_FAULT,
            )
