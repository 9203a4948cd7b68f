"""Losses on preferences: pure functions of log-probabilities of replies, their tokens, and the reference's.

Every function returns one loss for each pair (or reply), to be averaged over the optimizer step. They are those of
TRL's trainers (huggingface.co/docs/trl), to which tests hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from residency.train.settings.alignment import REFERENCE_FREE


@dataclass(frozen=True)
class Scores:
    """What a batch of pairs scored, chosen before rejected: `[pairs, 2]` each; of single replies `[replies, 1]`."""

    policy: Tensor
    """Sum of the log-probabilities of a reply's tokens, in nats."""
    reference: Tensor
    """The same under the model that training started from; zeros where the loss has no reference."""
    tokens: Tensor
    """Tokens of a reply, its stop token among them."""

    @property
    def ratios(self) -> Tensor:
        """How much likelier a reply has become, as a log-probability ratio."""
        return self.policy - self.reference


def dpo(margins: Tensor, beta: float) -> Tensor:
    """Direct preference optimisation (arXiv 2305.18290, equation 7).

    Args:
        margins: log-probability ratio of the chosen reply minus that of the rejected one, `[pairs]`; by token where
            length is normalised.
    """
    return -logsigmoid(beta * margins)


def ipo(margins_by_token: Tensor, beta: float) -> Tensor:
    """Identity preference optimisation (arXiv 2310.12036, equation 17), on averages over tokens as TRL has it."""
    return (margins_by_token - 1 / (2 * beta)) ** 2


def cdpo(margins: Tensor, beta: float, smoothing: float) -> Tensor:
    """Conservative DPO (ericmitchell.ai/cdpo.pdf): a share of the pairs may be the wrong way round."""
    return (1 - smoothing) * dpo(margins, beta) + smoothing * dpo(-margins, beta)


def robust(margins: Tensor, beta: float, smoothing: float) -> Tensor:
    """Robust DPO (arXiv 2403.00409): on pairs with that noise its mean is DPO's on pairs without."""
    noisy = (1 - smoothing) * dpo(margins, beta) - smoothing * dpo(-margins, beta)
    return noisy / (1 - 2 * smoothing)


def kto(ratios: Tensor, good: Tensor, divergence: Tensor, beta: float) -> Tensor:
    """Kahneman-Tversky optimisation (arXiv 2402.01306), for single replies.

    Args:
        ratios: log-probability ratios, `[replies]`.
        good: whether each reply is a good one, `[replies]`.
        divergence: estimate of the divergence from the reference, one number without gradient.
    """
    return 1 - torch.sigmoid(beta * torch.where(good, ratios - divergence, divergence - ratios))


def simpo(margins_by_token: Tensor, beta: float, target: float) -> Tensor:
    """SimPO (arXiv 2405.14734, equation 6): no reference, averages over tokens, and a margin to be reached."""
    return -logsigmoid(beta * margins_by_token - target)


def cpo(margins: Tensor, beta: float) -> Tensor:
    """Contrastive preference optimisation (arXiv 2401.08417, equation 3): DPO without its reference."""
    return -logsigmoid(beta * margins)


def orpo(by_token: Tensor, beta: float) -> Tensor:
    """Odds ratio term of ORPO (arXiv 2403.07691, equations 4 to 7); its likelihood term is `likelihood`'s.

    Args:
        by_token: mean log-probability of a token, chosen before rejected, `[pairs, 2]`.
    """
    log_odds = by_token - torch.log(-torch.expm1(by_token))
    return -beta * logsigmoid(log_odds[:, 0] - log_odds[:, 1])


def pair_losses(settings: dict[str, Any], scores: Scores) -> Tensor:
    """The loss of each pair, `[pairs]`, by the settings of a preference stage; `kto` is no loss of pairs."""
    name, beta, smoothing = settings["loss"], settings["beta"], settings["label_smoothing"]
    ratios, by_token = scores.ratios, scores.ratios / scores.tokens
    if name == "orpo":
        return orpo(by_token, beta)
    wanted = by_token if name in ("ipo", "simpo") or settings["length_normalised"] else ratios
    margins = wanted[:, 0] - wanted[:, 1]
    match name:
        case "dpo":
            return dpo(margins, beta)
        case "cpo":
            return cpo(margins, beta)
        case "ipo":
            return ipo(margins, beta)
        case "cdpo":
            return cdpo(margins, beta, smoothing)
        case "robust":
            return robust(margins, beta, smoothing)
        case _:
            assert name == "simpo", name
            return simpo(margins, beta, settings["target_margin"])


def likelihood_weight(settings: dict[str, Any]) -> float:
    """Weight of the mean negative log-likelihood of the chosen replies' tokens; ORPO's own is 1, with the prompt."""
    return 1.0 if settings["loss"] == "orpo" else float(settings["sft_weight"])


def rewards(settings: dict[str, Any], scores: Scores) -> Tensor:
    """What a loss takes a reply to be worth, of the shape of the scores; for events only."""
    averaged = settings["loss"] in ("simpo", "orpo")
    ratios: Tensor = scores.ratios.detach()
    return settings["beta"] * (ratios / scores.tokens if averaged else ratios)  # type: ignore[no-any-return]


def has_reference(settings: dict[str, Any]) -> bool:
    """Whether a loss compares with the model that training started from."""
    return settings["loss"] not in REFERENCE_FREE
