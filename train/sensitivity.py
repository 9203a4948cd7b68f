"""Sensitivity dropout (SenD, arXiv 2410.15460): the embedding dimensions that vary most in training are dropped.

Every so many steps some of the stage's own texts are looked at: their sentence embeddings behind the last layer but one
(`residency.train.eigenscore`). A dimension's variability over the last looks is its variance times the sum of its net
changes, averaged over the texts (definitions 3.2 and 3.3). The most variable share is set to 0 in the training passes
until as many looks later, when it is chosen anew. At every look and every checkpoint replies to the texts' beginnings
are sampled, and the mean Efficient EigenScore of the prompts is told as an event: hallucination swings while the loss
falls. Decided here: the texts looked at are trained on too (the paper holds them out); what is left is not scaled up,
since the last layer begins with a norm; nothing is dropped but in training passes.

Looks draw their own random numbers and give no gradient, so that a look changes nothing but what is dropped. With
ZeRO-3 all ranks pass through the same layers together. What a resumed run must know lies in the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import GenerationConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from residency import events
from residency.data.mixture.shards import PackedRows
from residency.errors import ResidencyError
from residency.train.eigenscore import efficient_eigenscore, sentence_embedding
from residency.train.settings.text import SensitivitySettings
from residency.train.watch import Watch

KEPT = "sensitivity.safetensors"
"""File of a checkpoint."""
LOOKS = 12
"""Looks in a stage that does not say how often."""
LONGEST = 256
"""Tokens of a text that are looked at, and of a prompt."""
BEGINNING = 16
"""Tokens of a running text that are its prompt; a dialogue's is all before the first answer."""


class Sensitivity(TrainerCallback):
    """Looks, chooses and drops; one for a stage, given to the trainer as a callback.

    Attributes:
        dropped: dimensions that are 0 now, ascending.
        trace: step, EigenScore and number of dropped dimensions, oldest first.
    """

    def __init__(
        self, settings: SensitivitySettings, rows: PackedRows, tokenizer: Any, watch: Watch, seed: int
    ) -> None:
        self.settings, self.watch, self.seed = settings, watch, seed
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.group = watch.guard.group
        self.texts, self.prompts = _texts(rows, settings.texts)
        self.embeddings: list[torch.Tensor] = []
        self.dropped: list[int] = []
        self.trace: list[dict[str, Any]] = []
        self._keep: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        watch.saves.append(self.save)
        watch.measured["eigenscore"] = self.trace

    def attach(self, model: Any) -> None:
        """Hang itself into a model, before it is wrapped."""
        penultimate(model).register_forward_hook(self._pass)

    def _pass(self, layer: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if not layer.training:
            self._hidden = hidden
            return None
        if self._keep is None:
            return None
        self._keep = self._keep.to(hidden)
        hidden = hidden * self._keep
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        first = self.settings.looks * self._every(state)
        if self.settings.share and first >= state.max_steps:
            raise ResidencyError(
                f"stages.{self.watch.stage.name}.sensitivity_dropout: nothing is dropped before step {first}, and "
                f"there are {state.max_steps}",
                cure="Lower every or looks; share: 0 only measures",
            )
        if state.global_step:
            self._resume(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        else:
            self._look(model)
            self._score(model, state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        looks, rest = divmod(state.global_step, self._every(state))
        if rest == 0:
            self._look(model)
            if looks % self.settings.looks == 0:
                self._choose()
        if rest == 0 or control.should_save:
            self._score(model, state)

    def _every(self, state: TrainerState) -> int:
        """Steps between two looks."""
        return self.settings.every or max(1, state.max_steps // LOOKS)

    def _look(self, model: Any) -> None:
        with _evaluating(model, self.seed):
            found = self._embed(model, [self.texts[place] for place in self._own()], [0] * len(self._own()))
        every = self._gathered(found)
        self.embeddings = [*self.embeddings, every][-self.settings.looks - 1 :]

    def _choose(self) -> None:
        values = variability(torch.stack(self.embeddings))
        self._drop(values.topk(round(self.settings.share * len(values))).indices.sort().values.tolist())

    def _drop(self, dimensions: list[int]) -> None:
        self.dropped, self._keep = dimensions, None
        if dimensions:
            self._keep = torch.ones(self.embeddings[-1].shape[-1])
            self._keep[dimensions] = 0

    def _score(self, model: Any, state: TrainerState) -> None:
        if self.trace and self.trace[-1]["step"] == state.global_step:
            return
        with _evaluating(model, self.seed):
            scores = [self._score_of(model, self.prompts[place]) for place in self._own()]
        value = fmean(self._gathered(torch.tensor(scores)[:, None]).flatten().tolist())
        self.trace.append({"step": state.global_step, "value": value, "dropped": len(self.dropped)})
        if state.is_world_process_zero:
            events.emit(self.watch.events, "eigenscore", self.watch.stage.name, **self.trace[-1])

    def _score_of(self, model: Any, prompt: list[int]) -> float:
        """EigenScore of sampled replies to one prompt."""
        asked = torch.tensor([prompt], device=model.device)
        config = GenerationConfig(
            do_sample=True,
            temperature=self.settings.temperature,
            num_return_sequences=self.settings.samples,
            max_new_tokens=self.settings.new_tokens,
            pad_token_id=self.pad,
            eos_token_id=model.generation_config.eos_token_id,
            use_cache=True,
        )
        whole = model.generate(asked, attention_mask=torch.ones_like(asked), generation_config=config)
        replies = [_until_end(row, len(prompt), self.pad) for row in whole.tolist()]
        return efficient_eigenscore(self._embed(model, replies, [len(prompt)] * len(replies)), self.seed)

    def _embed(self, model: Any, texts: list[list[int]], starts: list[int]) -> torch.Tensor:
        """Sentence embeddings of the texts from their token `start` on, `[texts, width]`, on the CPU."""
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self.pad, dtype=torch.int64)
        known = torch.zeros_like(ids, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            known[row, : len(text)] = True
        of = known & (torch.arange(longest) >= torch.tensor(starts)[:, None])
        model(
            input_ids=ids.to(model.device),
            attention_mask=known.long().to(model.device),
            use_cache=False,
            logits_to_keep=1,
        )
        assert self._hidden is not None
        found, self._hidden = sentence_embedding(self._hidden, of), None
        return found.cpu()

    def _own(self) -> list[int]:
        """Places of the texts that this rank looks at: as many on each, or ZeRO-3 would wait for ever."""
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        each = -(-len(self.texts) // world)
        return [min(rank * each + at, len(self.texts) - 1) for at in range(each)]

    def _gathered(self, own: torch.Tensor) -> torch.Tensor:
        """What all ranks found, in the order of the texts, `[texts, ...]`."""
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, own, group=self.group)
        return torch.cat(parts)[: len(self.texts)]

    def save(self, checkpoint: Path) -> None:
        if torch.distributed.get_rank() == 0:
            about = {"dropped": json.dumps(self.dropped), "trace": json.dumps(self.trace)}
            save_file({"embeddings": torch.stack(self.embeddings)}, checkpoint / KEPT, metadata=about)

    def _resume(self, checkpoint: Path) -> None:
        with safe_open(checkpoint / KEPT, framework="pt") as file:
            self.embeddings = list(file.get_tensor("embeddings"))
            about = file.metadata()
        self.trace[:] = json.loads(about["trace"])
        self._drop(json.loads(about["dropped"]))


def variability(embeddings: torch.Tensor) -> torch.Tensor:
    """Variance times summed net change of each dimension, averaged over texts, `[width]`.

    Args:
        embeddings: `[looks + 1, texts, width]`, oldest first; the variance is that of all but the oldest.
    """
    changes = (embeddings[1:] - embeddings[:-1]).abs().sum(0)
    return (embeddings[1:].var(0, correction=0) * changes).mean(0)


def penultimate(model: Any) -> Any:
    """The last layer but one (the only one, if there is but one)."""
    count = model.config.num_hidden_layers
    layers = next(
        part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count
    )
    return layers[max(count - 2, 0)]


@contextmanager
def _evaluating(model: Any, seed: int) -> Iterator[None]:
    """Without dropout, gradient, or a trace in the random numbers of training."""
    training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
    model.train(training)


def _texts(rows: PackedRows, count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Texts from all over the stage's rows, and their prompts."""
    texts, prompts = [], []
    for ids, loss in rows.segments(count):
        first = int(loss.argmax()) if loss.any() else len(ids)
        prompt = ids[:first] if first > 1 else ids[: min(BEGINNING, max(1, len(ids) // 2))]
        texts.append([int(id) for id in ids[:LONGEST]])
        prompts.append([int(id) for id in prompt[-LONGEST:]])
    return texts, prompts


def _until_end(reply: list[int], start: int, pad: int) -> list[int]:
    """The reply without padding; its first token stays, whatever it is."""
    end = len(reply)
    while end > start + 1 and reply[end - 1] == pad:
        end -= 1
    return reply[:end]
