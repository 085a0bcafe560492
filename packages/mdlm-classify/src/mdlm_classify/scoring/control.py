"""What is known of a text without a draw: its values when all of it is hidden.

With g_i = -log p(x_i | nothing, class) and any number b, the expectation over draws of

    sum over all i of b g_i
    + weight * sum over hidden i of (-log p(x_i | x outside the mask) - b g_i)

is the bound, because each token's weight is 1 on average: g is a control variate. Where
the context changes little, as in naive Bayes, nothing is left to the draws.

Letters: T texts, W windows, K classes and the null class, L length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig
from mdlm_core.protocols import Backbone, Schedule

from .rows import Evaluated, Windows, evaluate, jobs_of


@dataclass(frozen=True, slots=True)
class Control:
    """The values b g of some windows."""

    values: Tensor
    """``(W, K, L)`` float64, zero at what is not scored."""
    evaluations: Tensor
    """``(W,)`` int64: what they cost."""

    def rest(self, part: Evaluated) -> Tensor:
        """Return ``(N,)``: what is left of a draw's -log p."""
        at = (part.window[part.row], part.column[part.row], part.position)
        return part.nll - self.values[at]


def control_of(
    backbone: Backbone,
    windows: Windows,
    *,
    texts: int,
    labels: Tensor,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> Control:
    """Evaluate each window once under each class, with all of it hidden.

    No evaluation is made if the control variate is switched off, and none for an order,
    whose draws have every token once.
    """
    shape = (len(windows), len(labels), windows.tokens.shape[1])
    values = torch.zeros(shape, dtype=torch.float64, device=labels.device)
    none = torch.zeros(len(windows), dtype=torch.int64, device=labels.device)
    if settings.control == 0 or settings.estimator == "any-order":
        return Control(values, none)
    everything = torch.ones(texts, len(labels), dtype=torch.bool, device=labels.device)
    for part in evaluate(
        backbone,
        windows,
        jobs_of(windows, everything, draws=1, orders=False),
        labels=labels,
        first=0,
        draws=1,
        settings=settings,
        schedule=schedule,
        whole=True,
    ):
        at = (part.window[part.row], part.column[part.row], part.position)
        values[at] = settings.control * part.nll
    return Control(values, none + len(labels))
