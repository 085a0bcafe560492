"""What multinomial naive Bayes learns: smoothed frequencies of tokens by class."""

from __future__ import annotations

import torch
from torch import Tensor


def log_frequencies(counts: Tensor, *, smoothing: float, mask_id: int) -> Tensor:
    """Return ``log((n_v + s) / (n + s (V - 1)))`` for each row of counts ``(R, V)``.

    The mask is no token of a text, and its entry is 0, a finite number that no law
    reads.

    Args:
        counts: ``(R, V)`` how often each token occurs.
        smoothing: s, added to each count (Lidstone; 1 is Laplace's rule).
        mask_id: the mask.

    Returns:
        ``(R, V)`` float64.
    """
    smoothed = counts.double() + smoothing
    smoothed[:, mask_id] = 0
    frequencies = (smoothed / smoothed.sum(1, keepdim=True)).log()
    frequencies[:, mask_id] = torch.zeros((), dtype=frequencies.dtype)
    return frequencies
