"""Held-out prompts are answered before training, at every checkpoint and at the end.

A reward that rises while these answers become worse is being exploited. Each time is an event `held_out` (step, score,
reward, correct, kl, length, rewards/NAME) and a line of `held_out.jsonl`; `score` is the share of right answers where
the prompts have one, else the reward. `replies.jsonl` keeps what was answered to the first prompts before and after
training. Both go into the artifact.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.artifact import RunPaths
from residency.data.prompts import has_answer
from residency.generation.decoding import decoded
from residency.train.reinforcement.ledger import Ledger
from residency.train.rewards.correct import is_right

SHOWN = 16
"""Prompts whose replies are kept."""
LEDGER, SCORES, REPLIES = "ledger.jsonl", "held_out.jsonl", "replies.jsonl"


class HeldOutAnswers(TrainerCallback):
    """Asks, scores and tells; also cuts all ledgers of the attempt back to the step that training starts from."""

    def __init__(self, trainer: Any, watch: Any, attempt: Path, rows: list[dict[str, Any]]) -> None:
        """`rows`: the held-out prompts; where there are none, training prompts are shown before and after."""
        self.trainer, self.watch, self.rows = trainer, watch, rows
        self.asked = rows or trainer.rows[:SHOWN]
        self.ledger, self.scores, self.replies = (
            Ledger(attempt / name) for name in (LEDGER, SCORES, REPLIES)
        )
        watch.saves.append(self._sync)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            for ledger in (self.ledger, self.scores, self.replies):
                ledger.cut(state.global_step)
        torch.distributed.barrier()
        if not self._asked_at(state.global_step):
            self._ask(state, show=state.global_step == 0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # How many tokens the stage will have seen is only known step by step.
        self.watch.tokens = round(state.num_input_tokens_seen * state.max_steps / state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.trainer.check_weights()
        if not self.watch.asked_to_stop and state.global_step < state.max_steps:
            self._ask(state, show=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step < state.max_steps:
            return
        if not self._asked_at(state.global_step):
            self._ask(state, show=True)
        self.watch.look_again(state)
        if state.is_world_process_zero:
            self.watch.measured |= self._measured(state)

    def _sync(self, _: Path) -> None:
        if self.trainer.accelerator.is_main_process:
            for ledger in (self.ledger, self.scores, self.replies):
                ledger.sync()

    def _asked_at(self, step: int) -> bool:
        told = self.scores if self.rows else self.replies
        return any(line["step"] == step for line in told.lines())

    def _ask(self, state: TrainerState, *, show: bool) -> None:
        """Answer, score and tell; on every rank, each with its part of the prompts."""
        if not (self.rows or show):
            return
        found = self._answered()
        if not state.is_world_process_zero:
            return
        step = state.global_step
        if show:
            shown = zip(self.asked[:SHOWN], found, strict=False)
            self.replies.add(_shown(step, row, reply) for row, reply in shown)
        if self.rows:
            line = {"step": step, **_means(found)}
            self.scores.add([line | {"each": [reply["reward"] for reply in found]}])
            stage = self.trainer.stage
            events.emit(RunPaths(stage.run).events, "held_out", stage.name, **line)

    def _answered(self) -> list[dict[str, Any]]:
        """Every prompt's greedy reply and what it is worth, in order; all ranks answer as many, for ZeRO-3's sake."""
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        share = -(-len(self.asked) // world)
        mine = [min(at, len(self.asked) - 1) for at in range(rank * share, (rank + 1) * share)]
        size = self.trainer.args.per_device_train_batch_size * self.trainer.args.steps_per_generation
        own: list[dict[str, Any]] = []
        for start in range(0, share, size):
            own += self._batch(mine[start : start + size])
        parts: list[Any] = [None] * world
        torch.distributed.all_gather_object(parts, own)
        return [reply for part in parts for reply in part][: len(self.asked)]

    def _batch(self, places: list[int]) -> list[dict[str, Any]]:
        trainer = self.trainer
        rows = [self.asked[at] for at in places]
        prompts = [row["prompt_ids"] for row in rows]
        replies = trainer.answer(prompts)
        scores = trainer.score(rows, replies)
        divergence = trainer.divergence(prompts, replies)
        found = []
        for at, (row, reply) in enumerate(zip(rows, replies, strict=True)):
            text = decoded(trainer.processing_class, reply)
            cut = not trainer.ended(reply)
            found.append(
                {
                    "text": text,
                    "length": trainer.length(reply),
                    "reward": scores.total[at],
                    "rewards": {name: values[at] for name, values in scores.parts.items()},
                    "correct": is_right(row, text, truncated=cut) if has_answer(row) else None,
                    "kl": divergence[at] if divergence else None,
                }
            )
        return found

    def _measured(self, state: TrainerState) -> dict[str, Any]:
        """For the manifest; first and last rewards are means over a tenth of the steps."""
        lines, logs = list(self.ledger.lines()), state.log_history
        steps = sorted({line["step"] for line in lines})
        tenth = max(1, len(steps) // 10)
        divergences = [log["kl"] for log in logs if log.get("kl") is not None]
        told = list(self.scores.lines())
        scored = [{key: line[key] for key in ("step", "score", "reward", "kl", "length")} for line in told]
        return {
            "prompts": len(lines),
            "replies": sum(len(line["reward"]) for line in lines),
            "generated_tokens": sum(sum(line["tokens"]) for line in lines),
            "generation_seconds": round(generation_seconds(logs, steps), 2),
            "generated_by": "vllm" if self.trainer.use_vllm else "transformers",
            "reward_first": _mean_reward(lines, steps[:tenth]),
            "reward_last": _mean_reward(lines, steps[-tenth:]),
            "kl_last": divergences[-1] if divergences else None,
            "kl_largest": max(divergences, default=None),
            "held_out_first": scored[0] if scored else None,
            "held_out_last": scored[-1] if scored else None,
            "held_out_rise": rise(told[0]["each"], told[-1]["each"], [row["cluster"] for row in self.rows])
            if told
            else None,
        }


def generation_seconds(logs: list[dict[str, Any]], steps: list[int]) -> float:
    """Seconds in which replies were written: what is logged is their mean over the writings since the last log.

    Args:
        steps: those before which replies were written.
    """
    seconds, before = 0.0, 0
    for log in logs:
        if (mean := log.get("generation_seconds")) is not None:
            seconds += mean * sum(before < step <= log["step"] for step in steps)
        before = log["step"]
    return seconds


def rise(first: list[float], last: list[float], clusters: list[str]) -> dict[str, float | None]:
    """How much more the replies to the same prompts are worth at the end, with a 95 % interval over clusters."""
    by_cluster: dict[str, list[float]] = {}
    for before, after, cluster in zip(first, last, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(after - before)
    means = [fmean(differences) for differences in by_cluster.values()]
    middle = fmean(means)
    half = NormalDist().inv_cdf(0.975) * stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    ends = (None, None) if half is None else (middle - half, middle + half)
    return {"mean": middle, "low": ends[0], "high": ends[1], "clusters": len(means)}


def _means(found: list[dict[str, Any]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for key in ("reward", "correct", "kl", "length"):
        values = [float(reply[key]) for reply in found if reply[key] is not None]
        means[key] = fmean(values) if values else None
    for name in found[0]["rewards"]:
        means[f"rewards/{name}"] = fmean(reply["rewards"][name] for reply in found)
    score = means["reward"] if means["correct"] is None else means["correct"]
    return {"score": score, **means}


def _shown(step: int, row: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    kept = {key: reply[key] for key in ("reward", "rewards", "correct")}
    asked = {key: row[key] for key in ("id", "prompt", "reference")}
    return {"step": step, **asked, "reply": reply["text"], "tokens": reply["length"], **kept}


def _mean_reward(lines: list[dict[str, Any]], steps: list[int]) -> float | None:
    values = [reward for line in lines if line["step"] in set(steps) for reward in line["reward"]]
    return fmean(values) if values else None
