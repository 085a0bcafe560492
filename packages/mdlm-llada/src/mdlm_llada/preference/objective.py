"""The clipped objective of answers in groups.

Shao et al., 2024 (arXiv 2402.03300), with the log-probabilities of Zhao et al., 2025
(d1, arXiv 2504.12216). Letters: B prompts, g answers to each, R = g B answers, G their
length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SMALL = 1e-4
"""Added to a group's standard deviation."""


def advantages(rewards: Tensor, *, scaled: bool) -> Tensor:
    """Return by how much each reward ``(B, g)`` is above the mean of its group.

    Args:
        rewards: of g answers to the same prompt in each row.
        scaled: whether to divide by the group's standard deviation. Groups in which
            nearly all answers are alike then count as much as others.
    """
    above = rewards - rewards.mean(1, keepdim=True)
    if scaled:
        above = above / (rewards.std(1, keepdim=True) + _SMALL)
    return above


class Terms(NamedTuple):
    """What the objective is made of, ``(R, G)`` each; 0 where no token counts."""

    loss: Tensor
    """With gradients."""
    kl: Tensor
    """The estimate of the divergence from the reference, detached."""
    clipped: Tensor
    """1 where the ratio is cut off, so that there is no gradient from the reward."""


def clipped_terms(
    new: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantage: Tensor,
    counted: Tensor,
    *,
    clip: float,
    beta: float,
) -> Terms:
    """Return the loss of each token of the answers.

    With the ratio ``r = exp(new - old)`` and ``d = reference - new``::

        -(min(r A, clip(r, 1 - clip, 1 + clip) A) - beta (exp(d) - d - 1))

    The last bracket is never negative, and its mean under the model is the divergence
    KL(model || reference).

    Args:
        new: ``(R, G)`` log-probabilities under the model, with gradients.
        old: the same under the model that wrote the answers.
        reference: the same under the reference; None leaves the divergence out.
        advantage: ``(R,)`` A of the answers.
        counted: ``(R, G)`` bool: which tokens there are.
        clip: how far the ratio may be from 1.
        beta: the weight of the divergence.
    """
    a = advantage[:, None]
    # Tokens that do not count must not overflow, or their gradient is no number.
    ratio = torch.where(counted, new - old, 0.0).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    cut = ((ratio < 1 - clip) & (a < 0)) | ((ratio > 1 + clip) & (a > 0))
    kl = torch.zeros_like(ratio)
    if reference is not None:
        d = torch.where(counted, reference - new, 0.0)
        kl = d.exp() - d - 1
    loss = torch.where(counted, beta * kl - gain, 0.0)
    return Terms(loss, kl.detach() * counted, (cut & counted).float())
