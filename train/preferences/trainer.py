"""The trainer of preference stages, one for all losses: transformers' own loop around `Objective`.

TRL has a trainer for each family of losses, and none that packs pairs, shares prompts or keeps reference
log-probabilities across stages; their losses, and the gradients, are the same (tests hold them to TRL's).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

from residency.errors import Exit, ResidencyError
from residency.train.preferences import losses, references
from residency.train.preferences.batches import Pairs
from residency.train.preferences.layouts import Layout, laid_out
from residency.train.preferences.losses import Scores
from residency.train.preferences.objective import Objective, sums
from residency.train.saving import TiedOnce
from residency.train.watch import FiniteLoss

NOTED = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "rewards/accuracies")
"""Means over the replies, or pairs, since the last log."""
CLOSE = 1e-3
"""How far from the reference the first step may be, in rewards."""
ROUNDED = 0.5
"""The same for weights in bfloat16, in nats: what a reply scores differs with the rows that it is computed among. A
reference that is another model is off by several."""


class PreferenceTrainer(FiniteLoss, TiedOnce, Trainer):
    """Trains on `Pairs` by an `Objective`.

    Attributes:
        reference: log-probabilities under the model that training started from, `[pairs, replies]`; for KTO those of
            a reply and of the mismatched one.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        pairs: Pairs,
        objective: Objective,
        layout: Layout,
        kept: Path | None,
        reference_with_adapter: bool,
        **arguments: Any,
    ) -> None:
        """`kept`: file of the reference's log-probabilities; None where the loss has none."""
        self.pairs, self.objective, self.layout, self.kept = pairs, objective, layout, kept
        self.reference: Tensor | None = None
        self._reference_with_adapter = reference_with_adapter
        self._noted: Tensor | None = None
        super().__init__(train_dataset=pairs, data_collator=self._batch, **arguments)
        self.model_accepts_loss_kwargs = False
        attention = self.model.config._attn_implementation
        self._attention = {
            "flat": layout == "packed" and "flash" in attention,
            "bias": layout == "shared" and attention == "eager",
        }

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def _batch(self, numbers: Sequence[int]) -> dict[str, Any]:
        return self.pairs.batch(numbers, self.layout, **self._attention)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """The passes of a step, each told what only the whole step knows, over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        objective = self.objective
        if not batches or self._guard.leaves_out(self.state.global_step + 1):
            return batches, None
        if not (objective.likelihood or objective.unpaired):
            return batches, None
        batches = [self._prepare_inputs(batch) for batch in batches]
        totals = torch.zeros(2, device=device)
        for batch in batches:
            totals[0] += objective.likelihood_tokens(batch)
            if objective.unpaired:
                assert self.reference is not None
                reference = self.reference[batch["numbers"].cpu(), 1].to(device)
                totals[1] += objective.divergence(self.model_wrapped, batch, reference)
        torch.distributed.all_reduce(totals)
        passes = len(batches) * self.args.world_size
        items = passes * len(batches[0]["numbers"])
        told = {"likelihood_tokens": (totals[0] / passes).clamp(min=1 / passes)}
        if objective.unpaired:
            told["divergence"] = (totals[1] / items).clamp(min=0)
        return [batch | told for batch in batches], None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Mean of this pass; the passes and ranks of a step are averaged."""
        reference = None
        if self.reference is not None:
            reference = self.reference[inputs["numbers"].cpu(), : self.objective.replies]
        scores, prompts = self.objective.score(model, inputs, reference)
        divergence = inputs.get("divergence")
        self._note(scores, inputs, divergence)
        return self.objective.loss(
            scores,
            prompts,
            inputs,
            likelihood_tokens=inputs.get("likelihood_tokens", 1.0),
            divergence=divergence,
        )

    def _note(self, scores: Scores, batch: dict[str, Any], divergence: Tensor | None) -> None:
        """Add to what `log` tells; sums above, numbers below: `[2, len(NOTED) + 1]`."""
        rewards, good = losses.rewards(self.objective.settings, scores), self.objective.good(batch)
        policy, one = scores.policy.detach(), good.new_ones((), dtype=torch.float64)
        of = [(rewards, good), (rewards, ~good), (policy, good), (policy, ~good)]
        pairs = [(values * among).sum() for values, among in of], [among.sum() for _, among in of]
        paired = not self.objective.unpaired
        pairs[0].append((rewards[:, 0] > rewards[:, -1]).sum())
        pairs[1].append(one * len(rewards) * paired)
        pairs[0].append(one * 0 if divergence is None else divergence.detach())
        pairs[1].append(one * (divergence is not None))
        noted = torch.stack([torch.stack([part.double() for part in row]) for row in pairs])
        self._noted = noted if self._noted is None else self._noted + noted

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """With the rewards and log-probabilities of both sides, over all ranks."""
        if "loss" in logs and self._noted is not None:
            torch.distributed.all_reduce(self._noted)
            (told, numbers), self._noted = self._noted.tolist(), None
            names = (*NOTED, "logps/divergence")  # of whole replies: `kl` is by token
            logs |= {
                name: value / number
                for name, value, number in zip(names, told, numbers, strict=True)
                if number
            }
            if "rewards/chosen" in logs and "rewards/rejected" in logs:
                logs["rewards/margins"] = logs["rewards/chosen"] - logs["rewards/rejected"]
        super().log(logs, *args, **kwargs)

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any
    ) -> Any:
        """The engine; and before a checkpoint's weights replace the parent's, what the parent says of all replies."""
        if self.kept is None:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        shape = (len(self.pairs.lengths), 2)
        self.reference = references.found(self.kept, shape, self.args.device)
        now = resume_from_checkpoint if self.reference is not None else None
        prepared = super()._prepare_for_training(max_steps, train_dataloader, now)
        if self.reference is None:
            self.reference = self._score_all(prepared[0])
            if self.args.process_index == 0:
                references.save(self.kept, self.reference)
            if resume_from_checkpoint:
                peft = hasattr(self.model, "peft_config")
                deepspeed_load_checkpoint(
                    self.model_wrapped, resume_from_checkpoint, load_module_strict=not peft
                )
                self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def _score_all(self, model: Any) -> Tensor:
        """Log-probabilities of all replies under the weights as they are now, `[pairs, 2]`, on the CPU."""
        pairs, unpaired = self.pairs, self.objective.unpaired
        bare = not self._reference_with_adapter and hasattr(self.model, "peft_config")
        prefix, pairs.prefix = pairs.prefix, pairs.prefix[:0] if bare else pairs.prefix
        scored, pairs.prompts_scored = pairs.prompts_scored, False

        def forward(numbers: Sequence[int], mismatched: bool = False) -> Tensor:
            items = pairs.mismatched(numbers) if mismatched else pairs.items(numbers)
            batch = self._prepare_inputs(laid_out(self.layout, items, **self._attention))
            return sums(model, batch, len(items), len(items[0].replies))[0]

        def both(numbers: Sequence[int]) -> Tensor:
            return torch.cat([forward(numbers), forward(numbers, mismatched=True)], dim=1)

        model.eval()
        with torch.no_grad(), self.model.disable_adapter() if bare else nullcontext():
            at_once = self.args.per_device_train_batch_size
            made = references.computed(
                pairs.lengths.tolist(), 2, at_once, both if unpaired else forward, self.args.device
            )
        model.train()
        pairs.prefix, pairs.prompts_scored = prefix, scored
        return made


class FirstStepIsReference(TrainerCallback):
    """The reference of preference training is the parent, exactly: then the first step finds no difference."""

    def __init__(self, loss: float | None, beta: float, *, exact: bool) -> None:
        """`loss`: what the first one must be, where it is known. `exact`: weights are float32; otherwise loss and
        margins alone are held to it, where rounding is averaged."""
        self.loss, self.exact = loss, exact
        self.close = CLOSE if exact else max(CLOSE, beta * ROUNDED)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if state.global_step != 1 or not logs or "loss" not in logs:
            return
        if self.loss is not None and abs(logs["loss"] - self.loss) > self.close:
            raise self._error(f"the first preference loss is {logs['loss']:.6f}, not ln 2 = {self.loss:.6f}")
        sides = ("rewards/chosen", "rewards/rejected") if self.exact else ()
        for name in ("rewards/margins", *sides):
            if abs(logs.get(name, 0.0)) > self.close:
                raise self._error(f"{name} of the first step is {logs[name]:.6f}, not 0")

    def _error(self, seen: str) -> ResidencyError:
        return ResidencyError(f"{seen}: the reference is not the parent", code=Exit.OUR_FAULT)
