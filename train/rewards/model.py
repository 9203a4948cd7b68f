"""A trained reward model scores replies: for reinforcement learning, sampling and search.

Prompts and replies come as text and are rendered in the reward model's own chat template with its own tokenizer; the
hand-off contract asks that they are those of the model that writes. Each process loads the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from residency.artifact import read_manifest
from residency.data.tokenization.rendering import Message, Renderer
from residency.data.tokenization.step_ends import step_ends
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError
from residency.model import base_of, load_weights
from residency.train.adapters.merging import whole_weights
from residency.train.reward_model.score_head import padded, score_at

TOKENS_AT_ONCE = 16384  # with padding


class RewardModel:
    """What a `reward` stage left, ready to score; the result does not depend on what is scored together.

    Attributes:
        form: `ranked`, a score of any size for a whole reply, or `steps`, a value in [0, 1] for each step (a process
            reward model).
    """

    def __init__(
        self, directory: Path, precision: str = "auto", device: str | torch.device | None = None
    ) -> None:
        """Load the artifact of a `reward` stage; an adapter is merged into the weights it stands on.

        Args:
            precision: `float32`, `bfloat16`, or `auto`: bfloat16 on accelerators, float32 on CPU.
            device: the accelerator, if any, unless given.

        Raises:
            ResidencyError: the directory holds no reward model, or one without a chat template.
        """
        manifest = read_manifest(directory)
        if manifest.stage_kind != "reward":
            raise ResidencyError(
                f"{directory.name} is of kind {manifest.stage_kind} and scores nothing",
                cure="Name a stage of kind reward",
            )
        self.name, self.form = manifest.stage, str(manifest.measured["form"])
        tokenizer = load_tokenizer(directory)
        self.renderer = Renderer(tokenizer, directory.name, None)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        base, adapter = base_of(directory)
        with whole_weights():
            model = load_weights(base, precision=precision, scores=True)
            if adapter:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self.window = getattr(model.config, "max_position_embeddings", None)
        model.score.float()  # bfloat16 would round scores to two or three digits
        self.model = score_at(model.to(self.device).eval().requires_grad_(False))

    def score(
        self,
        prompts: Sequence[list[Message]],
        replies: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]:
        """Score of each reply to the prompt at the same place; of a process reward model, the value of its end, 0 for a
        reply without text.

        Args:
            prompts: the messages before the reply.
            finished: whether a reply ended by itself; one that was cut off is read without its stop token. All did
                unless given.

        Raises:
            ResidencyError: a prompt with its reply is longer than the model reads.
        """
        if self.form == "steps":
            said = [place for place, reply in enumerate(replies) if reply.strip()]
            values = self.score_steps(
                [prompts[place] for place in said], [[replies[place]] for place in said]
            )
            by_place = dict(zip(said, values, strict=True))
            return [by_place.get(place, [0.0])[0] for place in range(len(replies))]
        rows = []
        for prompt, reply, ended in zip(prompts, replies, finished or [True] * len(replies), strict=True):
            chat = [*prompt, {"role": "assistant", "content": reply}]
            ids = self.renderer.conversation(chat, unfinished=not ended and bool(reply.strip()))
            rows.append((ids, [len(ids) - 1]))
        return [scores[0] for scores in self._scores(rows)]

    def score_steps(
        self, prompts: Sequence[list[Message]], steps: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Value in [0, 1] of each step of the replies, seen only up to that step.

        Raises:
            ResidencyError: this is no process reward model, or a reply is too long.
        """
        if self.form != "steps":
            raise ResidencyError(
                f"stage {self.name} scores whole replies, not steps", cure="Train it on a corpus of steps"
            )
        rows = [
            step_ends(self.renderer, prompt, list(told)) for prompt, told in zip(prompts, steps, strict=True)
        ]
        return [torch.tensor(scores).sigmoid().tolist() for scores in self._scores(rows)]

    @torch.inference_mode()
    def _scores(self, rows: list[tuple[list[int], list[int]]]) -> list[list[float]]:
        """Scores at the ends of each row of ids, rows of about one length together."""
        longest = max((len(ids) for ids, _ in rows), default=0)
        if self.window and longest > self.window:
            raise ResidencyError(
                f"a reply with its prompt has {longest} tokens; the reward model of stage {self.name} reads "
                f"{self.window}",
                cure="Lower max_length or max_new_tokens of the stage that uses it",
            )
        found: list[list[float]] = [[]] * len(rows)
        for places in _batches([len(ids) for ids, _ in rows]):
            batch = padded([rows[place] for place in places], self.device)
            scores = iter(self.model(**batch).logits.tolist())
            for place in places:
                found[place] = [next(scores) for _ in rows[place][1]]
        return found


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Places of rows to score together, the longest first."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        many = max(1, TOKENS_AT_ONCE // max(lengths[order[0]], 1))
        yield order[:many]
        order = order[many:]
