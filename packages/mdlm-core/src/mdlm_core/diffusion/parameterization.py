"""From logits to the probabilities of hidden tokens.

Letters: N selected positions, V vocabulary (mask included).
"""

from __future__ import annotations

import torch
from torch import Tensor


def subs(logits: Tensor, mask_id: int) -> Tensor:
    """Return log-probabilities in which the mask has probability exactly zero.

    This is the substitution ("SUBS") parameterisation of Sahoo et al. (2024, arXiv
    2406.07524, section 3.2.3). Its other half, that a visible token stays what it is,
    needs no arithmetic here: only hidden positions are ever given to the head.

    Args:
        logits: ``(N, V)``, any floating type.
        mask_id: the column of the mask.

    Returns:
        ``(N, V)`` float32, ``-inf`` in the mask's column, in nats.
    """
    column = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    return logits.float().masked_fill(column, -torch.inf).log_softmax(-1)
