"""From importance to mask rates with the mean of the schedule, as pure functions.

A row has a share u in [0, 1] of its free tokens to hide, and each token an offset
o_i: positive hides it earlier than the others. All shapes hide nothing at u = 0,
everything at u = 1, and every token alike where the offsets are equal:

    logit shift  sigma_i = sigmoid(lambda + o_i), where lambda makes the mean u
    power        sigma_i = u ^ exp(-o_i); the mean is not u
    rescale      w_i = sigmoid(o_i), scaled up or down so that the mean is u

The logit shift is the law of independent masks with the largest entropy among those
with the same mean number of masks and the same mean offset of the hidden tokens.
Everything is float64. Letters: B batch, L length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CLIP = 2.5
"""The largest absolute score."""
_ROUNDS = 100
"""Newton and bisection steps at most; five or six are usual."""
_TOLERANCE = 1e-12
"""Of the logit of the mean."""
_FAR = 40.0
"""exp(-40) is below the resolution of float64: the shift beyond which all is 0 or 1."""
_FLAT = 1e-6
"""Importance that varies less than this, in standard deviations, does not vary."""


class Shift(NamedTuple):
    """A solved logit shift; each is ``(B, L)`` float64."""

    hidden: Tensor
    """sigma, the chance to be hidden."""
    visible: Tensor
    """1 - sigma, accurate where it is small."""


def standardise(importance: Tensor, free: Tensor, clip: float = CLIP) -> Tensor:
    """Return importance in standard deviations from its mean over a row's free tokens.

    Args:
        importance: ``(B, L)``, any floating type.
        free: ``(B, L)`` bool, the positions that count.
        clip: the largest absolute score.

    Returns:
        ``(B, L)`` float64: 0 at frozen positions, and in rows in which importance
        does not vary, as with one free token.
    """
    value, share = torch.where(free, importance.double(), 0.0), _weights(free)
    mean = (value * share).sum(1, keepdim=True)
    centred = torch.where(free, value - mean, 0.0)
    deviation = (centred.square() * share).sum(1, keepdim=True).sqrt()
    flat = deviation < _FLAT
    score = centred / torch.where(flat, 1.0, deviation)
    return torch.where(flat, 0.0, score).clamp(-clip, clip)


def places(free: Tensor) -> Tensor:
    """Return each free token's place in its row, from -1 (first) to 1 (last).

    Frozen positions do not count and get 0, as does a row's only free token.

    Returns:
        ``(B, L)`` float64.
    """
    rank = free.cumsum(1) - 1
    last = (free.sum(1, keepdim=True) - 1).clamp(min=1)
    alone = free.sum(1, keepdim=True) < 2
    return torch.where(free & ~alone, 2.0 * rank.double() / last - 1.0, 0.0)


def solve_shift(scores: Tensor, free: Tensor, share: Tensor) -> Tensor:
    """Return ``sigmoid(lambda + scores)`` with the mean `share` over free tokens.

    Args:
        scores: ``(B, L)`` the offsets in the logit.
        free: ``(B, L)`` bool; other positions do not count, and get `share`.
        share: ``(B,)`` the mean, in [0, 1]; exactly 0 and 1 give 0 and 1.

    Returns:
        ``(B, L)`` float64.
    """
    return shift(scores, free, share).hidden


@torch.no_grad()
def shift(scores: Tensor, free: Tensor, share: Tensor) -> Shift:
    """Solve the logit shift; see `solve_shift`, which has the same arguments.

    Newton's method on logit(mean) as a function of lambda, whose slope is 1 for equal
    offsets and in (0, 1] otherwise; a step that leaves the bracket
    logit(share) - [max, min] of the offsets is replaced by a bisection. A row stops
    when it is solved, so that its result does not depend on the other rows.
    """
    weights, offset = _weights(free), torch.where(free, scores.double(), 0.0)
    u = share.double().clamp(0, 1)[:, None]
    inner = (u > 0) & (u < 1)
    goal = torch.logit(torch.where(inner, u, 0.5))
    low = goal - torch.where(free, offset, -torch.inf).amax(1, keepdim=True)
    high = goal - torch.where(free, offset, torch.inf).amin(1, keepdim=True)
    shiftable = inner & free.any(1, keepdim=True)
    low, high = torch.where(shiftable, low, goal), torch.where(shiftable, high, goal)
    level = (goal - (offset * weights).sum(1, keepdim=True)).clamp(low, high)
    solved = ~shiftable
    for _ in range(_ROUNDS):
        hidden, visible = torch.sigmoid(level + offset), torch.sigmoid(-level - offset)
        share_hidden = (hidden * weights).sum(1, keepdim=True)
        share_visible = (visible * weights).sum(1, keepdim=True)
        excess = share_hidden.log() - share_visible.log() - goal
        solved = solved | (excess.abs() <= _TOLERANCE * (1 + goal.abs()))
        if bool(solved.all()):
            break
        low = torch.where(excess < 0, level, low)
        high = torch.where(excess > 0, level, high)
        spread = (hidden * visible * weights).sum(1, keepdim=True)
        newton = level - excess * share_hidden * share_visible / spread
        inside = (newton > low) & (newton < high)
        step = torch.where(inside, newton, (low + high) / 2)
        level = torch.where(solved, level, step)
    known = torch.where(free, level + offset, goal)
    known = torch.where(inner, known, torch.where(u > 0, torch.inf, -torch.inf))
    return Shift(torch.sigmoid(known), torch.sigmoid(-known))


@torch.no_grad()
def velocity(
    scores: Tensor,
    free: Tensor,
    share: Tensor,
    share_rate: Tensor,
    drift: Tensor | None = None,
) -> Tensor:
    """Return A = d log sigma / dt of the logit shift, in closed form.

    With v_j = sigma_j (1 - sigma_j), the derivative of the mean in t gives

        lambda' = (u' - mean_j[v_j o'_j]) / mean_j[v_j],
        A_i = (1 - sigma_i) (lambda' + o'_i),

    which for constant offsets is (1 - sigma_i) u' / mean_j[v_j]. At u = 1 it is the
    limit u' exp(-o_i) / mean_j[exp(-o_j)], and infinite at u = 0.

    Args:
        scores: ``(B, L)`` the offsets o.
        free: ``(B, L)`` bool.
        share: ``(B,)`` u.
        share_rate: ``(B,)`` u', its derivative in t.
        drift: ``(B, L)`` o', the derivative of the offsets; None means 0.

    Returns:
        ``(B, L)`` float64; what stands at frozen positions means nothing.
    """
    weights, offset = _weights(free), torch.where(free, scores.double(), 0.0)
    u, rate = share.double()[:, None], share_rate.double()[:, None]
    hidden, visible = shift(scores, free, share)
    # 1 - sigma vanishes at u = 1, but its ratios do not: look from a little before
    near = torch.sigmoid(-(_FAR + offset.abs().amax(1, keepdim=True)) - offset)
    hidden = torch.where(u >= 1, 1 - near, hidden)
    visible = torch.where(u >= 1, near, visible)
    spread = hidden * visible
    total = (spread * weights).sum(1, keepdim=True)
    total = torch.where(total > 0, total, 1.0)
    slow = torch.zeros_like(offset) if drift is None else drift.double()
    slow = torch.where(free, slow, 0.0)
    speed = (rate - (spread * slow * weights).sum(1, keepdim=True)) / total
    return torch.where(u <= 0, torch.inf, visible * (speed + slow))


def power(scores: Tensor, share: Tensor) -> Tensor:
    """Return ``share ^ exp(-scores)``, the family of GenMD4.

    Shi et al., 2024, arXiv 2406.04329, with one exponent for each position
    instead of each symbol. The mean over a row is not `share`.

    Args:
        scores: ``(B, L)`` the offsets.
        share: ``(B,)`` in [0, 1].

    Returns:
        ``(B, L)`` float64.
    """
    return share.double()[:, None] ** torch.exp(-scores.double())


def power_velocity(
    scores: Tensor, share: Tensor, share_rate: Tensor, drift: Tensor | None = None
) -> Tensor:
    """Return A = d log sigma / dt of `power`: ``exp(-o) (u' / u - o' log u)``.

    Args:
        scores: ``(B, L)`` the offsets o.
        share: ``(B,)`` u in [0, 1].
        share_rate: ``(B,)`` u'.
        drift: ``(B, L)`` o', the derivative of the offsets; None means 0.

    Returns:
        ``(B, L)`` float64, infinite at u = 0.
    """
    u, rate = share.double()[:, None], share_rate.double()[:, None]
    relative = torch.where(u > 0, rate / torch.where(u > 0, u, 1.0), torch.inf)
    if drift is not None:
        relative = relative - drift.double() * torch.where(u > 0, u, 1.0).log()
    return torch.exp(-scores.double()) * relative


def rescale(scores: Tensor, free: Tensor, share: Tensor) -> Tensor:
    """Return ``sigmoid(scores)``, scaled to the mean `share` over free tokens.

    With w the sigmoids and W their mean: ``w u / W`` while u < W, and from there
    ``1 - (1 - w)(1 - u) / (1 - W)``, as the frequency-informed masking of Kosmopoulou
    et al., 2025, arXiv 2509.05056, scales its weights.

    Args:
        scores: ``(B, L)`` the offsets.
        free: ``(B, L)`` bool.
        share: ``(B,)`` the mean, in [0, 1].

    Returns:
        ``(B, L)`` float64.
    """
    weights, offset = _weights(free), torch.where(free, scores.double(), 0.0)
    u = share.double()[:, None]
    hidden, visible = torch.sigmoid(offset), torch.sigmoid(-offset)
    mean = (hidden * weights).sum(1, keepdim=True)
    rest = (visible * weights).sum(1, keepdim=True)
    some = free.any(1, keepdim=True)
    mean, rest = torch.where(some, mean, 0.5), torch.where(some, rest, 0.5)
    return torch.where(u < mean, hidden * u / mean, 1 - visible * (1 - u) / rest)


def _weights(free: Tensor) -> Tensor:
    """Return 1 / n at the n free positions of a row and 0 elsewhere, float64."""
    return free.double() / free.sum(1, keepdim=True).clamp(min=1)
