"""Training goes on with another number of ranks: the optimizer's state of a checkpoint is split anew.

From ZeRO-1 on every rank saves a part of its own. DeepSpeed's converter joins the parts to one file per weight (a
universal checkpoint), and each rank loads its new part of every file. A step holds the same rows on any number of
ranks, so the losses go on as they would have; dropout alone draws anew. Rank 0 converts into a directory of the
attempt that no later run reads: a kill leaves nothing but that directory, and the next run removes it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

DIRECTORY = "resharded"
CARRIED = (".json", "scheduler.pt")
"""Ends of the names of the files that hold for any number of ranks; those of the random streams do not."""


def convert(checkpoint: Path, attempt: Path) -> Path:
    """Join the ranks' parts of a verified checkpoint; returns one that any number of ranks can load. On one rank."""
    from deepspeed.checkpoint import ds_to_universal

    made = attempt / DIRECTORY / checkpoint.name
    made.mkdir(parents=True)
    for path in checkpoint.iterdir():
        if path.name.endswith(CARRIED):
            shutil.copyfile(path, made / path.name)
    (parts,) = checkpoint.glob("global_step*")
    how = Namespace(
        input_folder=os.path.relpath(parts, made),
        output_folder=parts.name,
        num_extract_workers=1,  # in this process
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    silent = io.StringIO()  # it prints its progress, name by name
    # the converter takes paths for patterns: relative ones have no character that would mean something
    with contextlib.chdir(made), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        ds_to_universal.main(how)
    return made


def is_converted(checkpoint: Path) -> bool:
    """Whether `convert` made it."""
    return checkpoint.parent.name == DIRECTORY


def remove(attempt: Path) -> None:
    """Remove what was converted, whole or not."""
    shutil.rmtree(attempt / DIRECTORY, ignore_errors=True)


def prepare(trainer: Any, made: Path) -> None:
    """Have a trainer load what `convert` made. Before its engine is."""
    trainer.args.hf_deepspeed_config.config["checkpoint"] = {"load_universal": True}
    mended, create = Mended(made), trainer.create_optimizer

    def create_optimizer() -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = create()
        mended.decays = [group["weight_decay"] for group in optimizer.param_groups if group["params"]]
        return optimizer

    trainer.create_optimizer = create_optimizer
    trainer.add_callback(mended)


class Mended(TrainerCallback):
    """Mends what DeepSpeed's loader left wrong, and removes what was loaded."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self.decays: list[float] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """The state is loaded; no step is taken yet."""
        mend(of["optimizer"].optimizer.optimizer, self.decays)  # within DeepSpeed's, in accelerate's
        set_seed(args.seed + state.global_step)  # not the draws of the first steps again
        torch.distributed.barrier()
        if args.process_index == 0:
            remove(self.made.parent.parent)


def mend(optimizer: torch.optim.Optimizer, decays: list[float]) -> None:
    """Give every group its own weight decay, in which alone groups differ, and every state its own step.

    Under ZeRO-3 DeepSpeed 0.19 gives all groups that of the first, so norms and biases would decay too, and all
    states one tensor to count steps in, so each step would count once for every group.
    """
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()
