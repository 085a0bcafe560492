"""Draws that change as little as they can when the law changes: Gumbel-max.

With one Gumbel number for each token, ``argmax(log p + g)`` has the law p; and if two
laws share the numbers, the second draw differs from the first only where the second law
favours another token more than the first did: a token i can give way to j only if
``q_j / p_j > q_i / p_i`` (Oberst and Sontag, 2019, arXiv 1905.05824, "counterfactual
stability"). An inverse CDF has no such property: a small change of p moves all tokens
that stand behind it. The numbers are float64, made of 52 bits each, so that the largest
is above 36 and rare tokens have their chance.

Letters: N draws, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .noise import Noise

_NUMBERS = Noise(0).child("gumbel")
_CHUNK = {"cpu": 2**14, "other": 2**24}  # numbers at once: they stay in cache


def gumbel(u: Tensor, size: int) -> Tensor:
    """Return standard Gumbel numbers ``(N, size)`` float64, a function of `u` alone.

    Args:
        u: ``(N,)`` float64 in (0, 1), the number that a draw is given: two draws with
            the same one share their Gumbel numbers.
        size: V.
    """
    rows = (u.double() * 2.0**52).long().unsqueeze(1)
    columns = torch.arange(size, device=u.device)
    found = torch.empty(len(rows), size, dtype=torch.float64, device=u.device)
    chunk = _CHUNK.get(u.device.type, _CHUNK["other"])
    width = max(1, min(size, chunk))
    height = max(1, chunk // width)
    for top in range(0, len(rows), height):
        some = slice(top, top + height)
        for left in range(0, size, width):
            part = slice(left, left + width)
            uniform = _NUMBERS.uniform(rows[some], columns[part])
            found[some, part] = -(-uniform.log()).log()
    return found


def gumbel_max(log_probs: Tensor, u: Tensor) -> Tensor:
    """Draw one token per row; a stand-in for `categorical` that couples draws.

    Args:
        log_probs: ``(N, V)`` log-probabilities, -inf for what is impossible.
        u: ``(N,)`` float64 in (0, 1).

    Returns:
        ``(N,)`` int64.
    """
    noise = gumbel(u, log_probs.shape[-1]).to(log_probs.device)
    return (log_probs.double() + noise).argmax(-1)


def posterior_gumbel(log_probs: Tensor, drawn: Tensor, u: Tensor) -> Tensor:
    """Return Gumbel numbers under which the law draws `drawn`: abduction.

    Given that token w won, the largest of ``log p_i + g_i`` is itself a Gumbel number
    with location ``log sum p = 0``, whatever w is, and the others are Gumbel numbers of
    their own location cut off below it (Maddison and Tarlow, 2017; Oberst and Sontag,
    2019). So ``(log_probs + result).argmax(-1) == drawn``, and over random w with law
    p the result is standard Gumbel.

    Args:
        log_probs: ``(N, V)`` normalised log-probabilities.
        drawn: ``(N,)`` int64, tokens of positive probability.
        u: ``(N,)`` float64 in (0, 1); decides the numbers.

    Returns:
        ``(N, V)`` float64; where a token is impossible, a standard Gumbel number.
    """
    law = log_probs.double()
    fresh = gumbel(u, law.shape[-1]).to(law.device)
    top = fresh.gather(1, drawn.unsqueeze(1))  # (N, 1): the maximum, location 0
    shifted = law + fresh
    below = -torch.logaddexp(-shifted, -top)  # cut off at the top
    values = below.scatter(1, drawn.unsqueeze(1), top)
    return torch.where(torch.isneginf(law), fresh, values - law)
