"""What is known of a text without a draw: its values when all of it is hidden.

With g_i = -log p(x_i | nothing, class) and any number b, the expectation over draws of

    sum over all i of b g_i
    + weight * sum over hidden i of (-log p(x_i | x outside the mask) - b g_i)

is the bound, because each token's weight is 1 on average: g is a control variate. Where
the context changes little, as in naive Bayes, nothing is left to the draws.

A row of masks is the same whatever it hides, so that one evaluation serves all windows of
one length.

Letters: W windows, K classes and the null class, L length, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig
from mdlm_classify.nn.condition import labelled
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.diffusion.times import time_at
from mdlm_core.protocols import Backbone, Schedule

from .rows import Evaluated, Windows

_POSITIONS = 256
"""Laws of so many positions exist at once."""


@dataclass(frozen=True, slots=True)
class Control:
    """The values b g of some windows."""

    values: Tensor
    """``(W, K, L)`` float64, zero at what is not scored."""
    evaluations: Tensor
    """``(W,)`` int64: what they cost; the first window of a length pays for all."""

    def rest(self, part: Evaluated) -> Tensor:
        """Return ``(N,)``: what is left of a draw's -log p."""
        at = (part.window[part.row], part.column[part.row], part.position)
        return part.nll - self.values[at]


def control_of(
    backbone: Backbone,
    windows: Windows,
    *,
    labels: Tensor,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> Control:
    """Evaluate a row of masks of each length under each class.

    No evaluation is made if the control variate is switched off, and none for an order,
    whose draws have every token once. Call it inside `measuring`.

    Args:
        backbone: the denoiser.
        windows: what is scored.
        labels: ``(K,)`` int64: the classes, -1 for none.
        settings: the estimator.
        schedule: see `score`.
    """
    shape = (len(windows), len(labels), windows.tokens.shape[1])
    values = torch.zeros(shape, dtype=torch.float64, device=labels.device)
    cost = torch.zeros(len(windows), dtype=torch.int64, device=labels.device)
    if settings.control == 0 or settings.estimator == "any-order":
        return Control(values, cost)
    for length in windows.lengths.unique().tolist():
        of = (windows.lengths == length).nonzero()[:, 0].to(labels.device)
        cost[of[0]] = len(labels)
        tokens = windows.tokens[of, :length]  # (w, L)
        free = ~windows.frozen[of, :length]
        states = _of_masks(backbone, length, labels, schedule)  # (K, L, D)
        for column, own in enumerate(states):
            found = [
                subs(backbone.logits(piece), backbone.mask_id)[
                    torch.arange(len(piece), device=labels.device), known
                ]
                for piece, known in zip(
                    own.split(_POSITIONS), tokens.split(_POSITIONS, dim=1), strict=True
                )
            ]
            nll = -torch.cat(found, 1).double().masked_fill(~free, 0.0)
            values[of, column, :length] = settings.control * nll
    return Control(values, cost)


def _of_masks(
    backbone: Backbone, length: int, labels: Tensor, schedule: Schedule | None
) -> Tensor:
    """Return the states ``(K, L, D)`` of rows of masks, one for each class."""
    tokens = torch.full((len(labels), length), backbone.mask_id, device=labels.device)
    everything = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    batch = labelled(Batch.of(tokens), labels)
    return backbone.hidden(batch, time_at(everything, schedule).float())
