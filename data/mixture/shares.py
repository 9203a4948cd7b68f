"""How many tokens of each corpus: from shares, sizes or passes, with replay on top and within the allowed epochs."""

from __future__ import annotations

import math

from residency.data.mixture.mixing import Source
from residency.data.mixture.settings import MixtureSettings, Temperature
from residency.data.settings import TokensSettings
from residency.errors import ResidencyError


def planned_tokens(sources: list[Source], settings: TokensSettings) -> dict[str, int]:
    """Tokens to take of each corpus. Encodes a corpus as a whole only where its size matters.

    Raises:
        ResidencyError: more than the corpora hold within `max_epochs`.
    """
    mixture, known = settings.mixture, {source.name: source for source in sources}
    rest = 1 - sum(mixture.replay.values())
    if mixture.epochs is not None:
        own = {name: _size(known[name]) * passes for name, passes in mixture.epochs.items()}
        total = sum(own.values()) / rest
    elif settings.tokens is not None:
        total = settings.tokens
        own = {name: rest * total * share for name, share in _shares(mixture, known, rest * total).items()}
    else:
        assert settings.epochs is not None, "a tokens stage has tokens or epochs"
        first, shares = sources[0], _shares(mixture, known, math.inf)
        total = _size(first) * settings.epochs / (rest * shares[first.name])
        own = {name: rest * total * share for name, share in shares.items()}
    wanted = own | {name: total * share for name, share in mixture.replay.items()}
    for name, tokens in wanted.items():
        limit = mixture.limit(name)
        if limit and known[name].encode_until(tokens / limit) * limit < tokens - 1:
            raise _too_much(known, mixture, wanted)
    return {name: max(1, round(tokens)) for name, tokens in wanted.items()}


def unimax(limits: dict[str, float], tokens: float) -> dict[str, float]:
    """Tokens of each corpus, as equal as its limit allows (arXiv 2304.09151, algorithm 1).

    Args:
        limits: most tokens of each corpus.
        tokens: budget over all; beyond the sum of the limits every corpus gets in proportion to its own.
    """
    if tokens >= sum(limits.values()):
        return {name: limit * tokens / sum(limits.values()) for name, limit in limits.items()}
    given, left = {}, tokens
    for number, (name, limit) in enumerate(sorted(limits.items(), key=lambda item: item[1])):
        given[name] = min(limit, left / (len(limits) - number))
        left -= given[name]
    return given


def _shares(mixture: MixtureSettings, known: dict[str, Source], tokens: float) -> dict[str, float]:
    """Shares of the corpora beside replay; `tokens` is their budget."""
    if mixture.shares is not None:
        return mixture.shares
    assert mixture.corpora is not None, "checked by the settings"
    sizes = {name: float(_size(known[name])) for name in mixture.corpora}
    if mixture.sampling == "unimax":
        limits = {name: size * (mixture.limit(name) or math.inf) for name, size in sizes.items()}
        weights = unimax(limits, tokens)
    else:
        heat = mixture.sampling.temperature if isinstance(mixture.sampling, Temperature) else 1.0
        largest = max(sizes.values())
        weights = {name: (size / largest) ** (1 / heat) for name, size in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _size(source: Source) -> int:
    return source.encode_until(math.inf)


def _too_much(known: dict[str, Source], mixture: MixtureSettings, wanted: dict[str, float]) -> ResidencyError:
    """Says what the limited corpora hold, and the largest budget that they allow."""
    total, sizes = sum(wanted.values()), {name: _size(source) for name, source in known.items()}
    limits = {name: limit for name in wanted if (limit := mixture.limit(name))}
    held = "; ".join(
        f"{name} holds {sizes[name]:,} tokens, {sizes[name] * limit:,.0f} in {limit:g} epochs, "
        f"and {wanted[name]:,.0f} are planned"
        for name, limit in limits.items()
    )
    largest = min(sizes[name] * limit / (wanted[name] / total) for name, limit in limits.items())
    return ResidencyError(
        f"mixture: {total:,.0f} tokens are more than max_epochs allows: {held}",
        cure=f"The largest budget is {math.floor(largest)} tokens: lower tokens or raise max_epochs",
    )
