"""Sums over the processes of a run."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def sum_over_processes(sums: Tensor) -> Tensor:
    """Return the sums over all processes of the run; every process must call it.

    Args:
        sums: of this process, any shape; it is overwritten where there are others.
    """
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    return sums
