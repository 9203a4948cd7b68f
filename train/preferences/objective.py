"""From a laid-out forward pass to the loss of a preference stage. It knows no ranks, accumulation or trainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from residency.train.preferences import losses
from residency.train.preferences.losses import Scores

INPUTS = (
    "input_ids", "position_ids", "attention_mask", "rows", "columns", "targets",
    "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
)  # fmt: skip
"""Keys of a batch that the model takes."""


def sums(model: Any, batch: dict[str, Any], items: int, replies: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities by owner, in nats, and tokens: `[items, replies]`, with ORPO's prompts one column more.

    `model` has a head of `residency.train.preferences.head`.
    """
    each = model(**{key: batch[key] for key in INPUTS if key in batch}, use_cache=False)
    owners, places = batch["owners"], items * replies
    summed = each.new_zeros(batch["sums"]).index_add(0, owners, each)
    tokens = torch.zeros_like(summed).index_add(0, owners, torch.ones_like(each))
    return _by_item(summed, places, replies), _by_item(tokens, places, replies)


def _by_item(flat: Tensor, places: int, replies: int) -> Tensor:
    each = flat[:places].view(-1, replies)
    return each if len(flat) == places else torch.cat([each, flat[places:, None]], dim=1)


class Objective:
    """The loss of a stage, by its settings.

    Attributes:
        replies: to each prompt; 1 for KTO, else 2.
        likelihood: weight of the chosen tokens' mean negative log-likelihood.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.unpaired = settings["loss"] == "kto"
        self.replies = 1 if self.unpaired else 2
        self.prompts_scored = settings["loss"] == "orpo"
        self.likelihood = losses.likelihood_weight(settings)
        self.has_reference = losses.has_reference(settings)

    def score(self, model: Any, batch: dict[str, Any], reference: Tensor | None) -> tuple[Scores, Tensor]:
        """What a pass scores, and ORPO's scores of the prompts (else nothing): `[items, 0 or 1]` of sums.

        Args:
            reference: `[items, replies]`; zeros without.
        """
        items = len(batch["numbers"])
        summed, tokens = sums(model, batch, items, self.replies)
        policy = summed[:, : self.replies]
        known = torch.zeros_like(policy) if reference is None else reference.to(policy)
        return Scores(policy, known, tokens[:, : self.replies]), summed[:, self.replies :]

    def good(self, batch: dict[str, Any]) -> Tensor:
        """Which replies are good ones, `[items, replies]`."""
        if self.unpaired:
            labels: Tensor = batch["good"][:, None]
            return labels
        return torch.tensor([[True, False]], device=batch["owners"].device).expand(len(batch["numbers"]), 2)

    def likelihood_tokens(self, batch: dict[str, Any]) -> Tensor:
        """Tokens of this pass whose likelihood is part of the loss."""
        owners = batch["owners"]
        places = len(batch["numbers"]) * self.replies
        good = self.good(batch).reshape(-1)
        counted: Tensor = good[owners.clamp(max=places - 1)] | (owners >= places)
        return counted.sum()

    def loss(
        self,
        scores: Scores,
        prompts: Tensor,
        batch: dict[str, Any],
        *,
        likelihood_tokens: Tensor | float,
        divergence: Tensor | None = None,
    ) -> Tensor:
        """Mean over the items of this pass, and the likelihood term over so many tokens.

        Args:
            likelihood_tokens: `likelihood_tokens` of the step, by pass and rank.
            divergence: KTO's estimate for the step, without gradient.
        """
        if self.unpaired:
            assert divergence is not None
            each = losses.kto(scores.ratios[:, 0], batch["good"], divergence, self.settings["beta"])
        else:
            each = losses.pair_losses(self.settings, scores)
        loss = each.mean()
        if self.likelihood:
            summed = (scores.policy * self.good(batch)).sum() + prompts.sum()
            loss = loss - self.likelihood * summed / likelihood_tokens
        return loss

    def divergence(self, model: Any, batch: dict[str, Any], reference: Tensor) -> Tensor:
        """Sum over the items of how much likelier replies to other prompts have become (KTO).

        Args:
            reference: of the mismatched replies, `[items]`.
        """
        with torch.no_grad():
            summed, _ = sums(model, batch["mismatched"], len(batch["numbers"]), 1)
        return (summed[:, 0] - reference.to(summed)).sum()
