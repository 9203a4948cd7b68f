"""TRL's GRPO and RLOO trainers on prompts that are ids already, scored by our rewards, with a ledger.

What is changed in TRL's trainers, and why:
* prompts are looked up, not rendered: the ids are those of the `prompts` stage;
* all rewards are asked at once, and what they said is written to the ledger;
* replies that several updates share travel with a checkpoint, so that a resumed run consumes what an unbroken one does;
* the weights that write are compared with the policy's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from trl import GRPOTrainer, RLOOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import pad

from residency import events
from residency.artifact import RunPaths, StageFile
from residency.errors import Exit, ResidencyError
from residency.generation.decoding import decoded
from residency.train.guard import FiniteLoss
from residency.train.reinforcement import digest
from residency.train.reinforcement.ledger import Ledger
from residency.train.rewards import Scorer, Scores
from residency.train.saving import TiedOnce

Row = dict[str, Any]
BUFFER = "replies-{rank}-of-{world}.pt"


def names_only(names: list[str]) -> list[Callable[..., list[float]]]:
    """What TRL takes as reward functions: only their names are used, see `Online._calculate_rewards`."""

    def named(name: str) -> Callable[..., list[float]]:
        def unused(**_: Any) -> list[float]:
            raise AssertionError("rewards are asked all at once")

        unused.__name__ = name
        return unused

    return [named(name) for name in names]


class Online:
    """Mixed into a TRL trainer whose data set holds `prompt` (the number of a row, as text) and `epoch`."""

    def equip(self, stage: StageFile, rows: list[Row], scorer: Scorer, ledger: Ledger) -> None:
        """Give what TRL's constructor does not take; before training."""
        self.stage, self.rows, self.scorer, self.ledger = stage, rows, scorer, ledger
        self._checked = False

    # What TRL calls.

    def _tokenize_prompts(self: Any, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.rows[int(prompt)]["prompt_ids"] for prompt in prompts], None, {}

    def _generate_single_turn(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        found = super()._generate_single_turn(*args, **kwargs)  # type: ignore[misc]
        self._metrics["train"]["generation_seconds"].append(time.monotonic() - started)
        if not self._checked:
            self.check_weights()
            self._checked = True
        return found

    def _calculate_rewards(
        self: Any, inputs: list[Row], prompts: list[str], completions: Any, completion_ids: list[list[int]]
    ) -> torch.Tensor:
        """Rewards of all ranks' replies, `[replies, rewards]`; rank 0 writes them to the ledger."""
        rows = [self.rows[int(prompt)] for prompt in prompts]
        scores = self.score(rows, completion_ids)
        parts = [list(values) for values in zip(*scores.parts.values(), strict=True)]
        told = [
            {"epoch": asked["epoch"], "id": row["id"], "total": total, "parts": values, "ids": ids}
            for asked, row, total, values, ids in zip(
                inputs, rows, scores.total, parts, completion_ids, strict=True
            )
        ]
        everything = gather_object(told)
        if self.accelerator.is_main_process:
            self.ledger.add(self._lines(everything))
        local = torch.tensor(parts, dtype=torch.float32, device=self.accelerator.device)
        return torch.as_tensor(gather(local))

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every and self._buffered_inputs is not None:
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            torch.save(self._buffered_inputs, checkpoint / self._buffer)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        kept = Path(checkpoint) / self._buffer
        if kept.exists():
            device = self.accelerator.device
            self._buffered_inputs = torch.load(kept, map_location=device, weights_only=True)

    # What the stage asks.

    def score(self: Any, rows: list[Row], reply_ids: list[list[int]]) -> Scores:
        """What replies are worth; `rows` repeat for each reply."""
        texts = [decoded(self.processing_class, ids) for ids in reply_ids]
        tokens, cut = [self.length(ids) for ids in reply_ids], [not self.ended(ids) for ids in reply_ids]
        scorer: Scorer = self.scorer
        return scorer.score(rows, texts, tokens, cut)

    def ended(self: Any, reply: list[int]) -> bool:
        """Whether the model ended a reply itself."""
        return bool(reply) and reply[-1] in self.eos_token_ids

    def length(self: Any, reply: list[int]) -> int:
        """Tokens of a reply without the one that ends it."""
        return len(reply) - int(self.ended(reply))

    def answer(self: Any, prompts: list[list[int]]) -> list[list[int]]:
        """Greedy replies, ids with the end of turn; every rank must ask, with as many prompts."""
        with self._greedy():
            found = super()._generate_single_turn(prompts, None, {}, *self._one_reply)  # type: ignore[misc]
        replies: list[list[int]] = found[0] if isinstance(found, tuple) else found
        return replies

    def divergence(self: Any, prompts: list[list[int]], replies: list[list[int]]) -> list[float] | None:
        """Each reply's mean KL to the parent, nats a token (k3 of http://joschu.net/blog/kl-approx.html); None without
        a reference. Every rank must ask, with as many replies."""
        if not self.beta:
            return None
        device, blank = self.accelerator.device, self._tokenizer.pad_token_id
        left = [torch.tensor(ids) for ids in prompts]
        right = [torch.tensor(ids or [blank]) for ids in replies]
        ids = torch.cat([pad(left, blank, "left"), pad(right, blank, "right")], 1).to(device)
        masks = [pad([torch.ones_like(part) for part in side], 0, where)
                 for side, where in ((left, "left"), (right, "right"))]  # fmt: skip
        mask, kept = torch.cat(masks, 1).to(device), masks[1].to(device)
        with torch.no_grad():
            own = self._log_probabilities(self.model, ids, mask, kept.shape[1])
            if self.ref_model is not None:
                parent = self._log_probabilities(self.ref_model, ids, mask, kept.shape[1])
            else:
                from trl.trainer.utils import use_adapter

                bare = self.accelerator.unwrap_model(self.model)
                with use_adapter(bare, adapter_name="ref" if "ref" in bare.peft_config else None):
                    parent = self._log_probabilities(self.model, ids, mask, kept.shape[1])
        ratio = parent - own
        return [float(value) for value in ((ratio.exp() - ratio - 1) * kept).sum(1) / kept.sum(1)]

    def check_weights(self: Any) -> None:
        """Compare the weights that write with the policy's; every rank must ask. Tells an event.

        Raises:
            ResidencyError: they differ.
        """
        policy = self._of_policy_for_vllm() if self.use_vllm else digest.of_policy(self.model_wrapped)
        writing: list[Any] = [None] * self.accelerator.num_processes
        torch.distributed.all_gather_object(writing, self._of_writer())
        if any(found != policy for found in writing):
            raise ResidencyError(
                f"stage {self.stage.name}: replies of step {self.state.global_step + 1} are written with other weights "
                f"than the policy's ({', '.join(f'{found:016x}' for found in writing)}, not {policy:016x})",
                code=Exit.OUR_FAULT,
            )
        if self.accelerator.is_main_process:
            by = "vllm" if self.use_vllm else "transformers"
            events.emit(
                RunPaths(self.stage.run).events, "weights_checked", self.stage.name,
                step=self.state.global_step, digest=f"{policy:016x}", by=by,
            )  # fmt: skip

    # Parts.

    @property
    def _buffer(self: Any) -> str:
        return BUFFER.format(rank=self.args.process_index, world=self.args.world_size)

    @property
    def _one_reply(self) -> tuple[int, ...]:
        return (1,) if isinstance(self, GRPOTrainer) else ()

    def _lines(self: Any, told: list[Row]) -> Iterator[Row]:
        """Ledger lines of one generation: a prompt's replies stand one after another."""
        names = list(self.scorer.weights)
        for at in range(0, len(told), self.num_generations):
            group = told[at : at + self.num_generations]
            assert len({reply["id"] for reply in group}) == 1, "replies to different prompts in one group"
            yield {
                "step": self.state.global_step + 1,
                "epoch": group[0]["epoch"],
                "id": group[0]["id"],
                "reward": [reply["total"] for reply in group],
                "rewards": {
                    name: [reply["parts"][place] for reply in group] for place, name in enumerate(names)
                },
                "tokens": [self.length(reply["ids"]) for reply in group],
                "truncated": [not self.ended(reply["ids"]) for reply in group],
            }

    def _log_probabilities(
        self: Any, model: Any, ids: torch.Tensor, mask: torch.Tensor, kept: int
    ) -> torch.Tensor:
        found = self._get_per_token_logps_and_entropies(model, ids, mask, kept)
        return torch.as_tensor(found[0])

    @contextmanager
    def _greedy(self: Any) -> Iterator[None]:
        """Within, the likeliest token is taken at every place."""
        if self.use_vllm:
            writer = self.vllm_generation
            before, writer.temperature = writer.temperature, 0.0
            try:
                yield
            finally:
                writer.temperature = before
            return
        before = self.generation_config
        self.generation_config = type(before)(
            max_new_tokens=self.max_completion_length, do_sample=False, use_cache=True, disable_compile=True,
            eos_token_id=self.eos_token_ids, pad_token_id=self._tokenizer.pad_token_id,
        )  # fmt: skip
        try:
            yield
        finally:
            self.generation_config = before

    def _of_writer(self: Any) -> int:
        """Digest of the weights that write on this rank."""
        if self.use_vllm:
            if self.state.global_step != self._last_loaded_step:  # as before the next replies
                self.vllm_generation.sync_weights()
                self._last_loaded_step = self.state.global_step
            return digest.digest(digest.parameters(self._vllm_model()))
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gather_deepspeed3_params=self.args.ds3_gather_for_generation
        ) as model:
            return digest.digest(digest.parameters(model))

    def _of_policy_for_vllm(self: Any) -> int:
        """Digest of the policy with its adapters merged, in the type that vLLM computes in."""
        dtype = next(self._vllm_model().parameters()).dtype
        named = self.vllm_generation._iter_named_params()
        return sum(digest.digest([part.to(dtype)]) for _, part in named) % (1 << 64)

    def _vllm_model(self: Any) -> Any:
        return self.vllm_generation.llm.llm_engine.model_executor.driver_worker.model_runner.model


class GrpoTrainer(FiniteLoss, TiedOnce, Online, GRPOTrainer):
    """GRPO (arXiv 2402.03300)."""


class RlooTrainer(FiniteLoss, TiedOnce, Online, RLOOTrainer):
    """RLOO (arXiv 2402.14740)."""
