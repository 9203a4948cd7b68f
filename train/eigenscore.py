"""EigenScore: how far several sampled replies to one prompt lie apart, a measure of confabulation without labels.

EigenScore (INSIDE, arXiv 2402.03744) is the mean log eigenvalue of the covariance of the replies' sentence embeddings;
higher: they disagree in meaning, so the model makes things up. Efficient EigenScore (SenD, arXiv 2410.15460, algorithm
1) needs no eigenvalues: the embeddings are standardised and scaled so that the spectrum lies in [0, 1], and the trace
of the logarithm is summed from Chebyshev coefficients of the logarithm and stochastic estimates of the matrix's
Chebyshev moments (its density of states). What is decided here, since the paper leaves it open: the logarithm is
regularised, log(x + ALPHA), as INSIDE does, and is so the same function in both scores; scaling divides by the trace,
not by the largest eigenvalue of the power method, since it must not amplify: replies that are nearly the same then have
a nearly singular matrix, as they should. Standardising goes over the dimensions of each reply, so that its length as a
vector tells nothing; over the replies, as the paper writes it, it would blow up the rounding noise of equal replies.
(For ten replies the eigenvalues would cost as little; the gain is that of large matrices.)
"""

from __future__ import annotations

import math

import numpy as np
import torch

ALPHA = 1e-3
"""Regularisation of the covariance, as in INSIDE."""
TERMS = 100
"""Chebyshev terms: log(x + ALPHA) on [0, 1] is met to 0.003."""
PROBES = 20
"""Random vectors of a trace; as many unit vectors as replies where these are fewer, which makes it exact."""


def sentence_embedding(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Half the mean over a text's tokens plus half its last token, `[texts, width]` (SenD, definition 3.1).

    Args:
        hidden: `[texts, tokens, width]`, what a layer gives.
        mask: `[texts, tokens]`, True at the tokens of the text; at least one each.
    """
    hidden, weight = hidden.float(), mask.to(hidden.device).float()
    mean = (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (weight * places).argmax(1)
    return (mean + hidden[torch.arange(len(hidden), device=hidden.device), last]) / 2


def gram(embeddings: torch.Tensor) -> torch.Tensor:
    """Scaled covariance of the replies of a prompt, `[replies, replies]`, its spectrum inside [0, 1].

    Args:
        embeddings: `[replies, width]`.
    """
    values = embeddings.double()
    values = values - values.mean(1, keepdim=True)
    values = values / values.std(1, keepdim=True).clamp_min(1e-12)
    return values @ values.T / (values.shape[0] * values.shape[1])


def eigenscore(embeddings: torch.Tensor) -> float:
    """Mean of log(eigenvalue + ALPHA) of the replies' covariance, by its eigenvalues."""
    values = torch.linalg.eigvalsh(gram(embeddings)).clamp(0, 1)
    return float(torch.log(values + ALPHA).mean())


def efficient_eigenscore(embeddings: torch.Tensor, seed: int = 0) -> float:
    """The same without eigenvalues: one product with the matrix for each Chebyshev term."""
    matrix = gram(embeddings)
    size = len(matrix)
    shifted = 2 * matrix - torch.eye(size, dtype=matrix.dtype, device=matrix.device)  # spectrum in [-1, 1]
    if size <= PROBES:
        probes = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    else:
        random = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (size, PROBES), generator=random) * 2 - 1
        probes = signs.to(matrix) * math.sqrt(1 / PROBES)
    before, now = probes, shifted @ probes
    moments = [float((probes * before).sum()), float((probes * now).sum())]
    for _ in range(2, TERMS):
        before, now = now, 2 * (shifted @ now) - before
        moments.append(float((probes * now).sum()))
    return float(np.dot(logarithm(), moments)) / size


def logarithm() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Chebyshev coefficients of log((y + 1) / 2 + ALPHA) on [-1, 1], by Gauss quadrature, `[TERMS]`."""
    nodes = np.pi * (np.arange(4 * TERMS) + 0.5) / (4 * TERMS)
    values = np.log((np.cos(nodes) + 1) / 2 + ALPHA)
    coefficients: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        2 / len(nodes) * np.cos(np.outer(np.arange(TERMS), nodes)) @ values
    )
    coefficients[0] /= 2
    return coefficients
