"""What is known of a text without a draw: its values when all of it is hidden.

With g_i = -log p(x_i | nothing, class) and any number b, the expectation over draws of

    sum over all i of b g_i
    + weight * sum over hidden i of (-log p(x_i | x outside the mask) - b g_i)

is the bound, because each token's weight is 1 on average: g is a control variate. Where
the context changes little, as in naive Bayes, nothing is left to the draws.

A row of masks is the same whatever it hides, so that one evaluation serves all windows
of one length.

Letters: W windows, K classes and the null class, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class Control:
    """The values b g of some windows."""

    values: Tensor
    """``(W, K, L)`` float64, zero at what is not scored."""
    evaluations: Tensor
    """``(W,)`` int64: what they would cost one by one; windows of one length share."""

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
    cost = torch.zeros_like(windows.free)
    if settings.control == 0 or settings.estimator == "any-order":
        return Control(values, cost)
    for length in sorted(set(windows.lengths.tolist())):
        of = (windows.lengths == length).nonzero()[:, 0].to(labels.device)
        tokens = windows.tokens[of, :length]  # (w, L)
        free = ~windows.frozen[of, :length]
        laws = _laws_of_masks(backbone, length, labels, settings, schedule)
        for column, law in enumerate(laws):  # (L, V)
            nll = -law.take_along_dim(tokens.T, 1).T.double()
            known = nll.masked_fill(~free, 0.0)
            values[of, column, :length] = settings.control * known
    return Control(values, cost + len(labels))


def _laws_of_masks(
    backbone: Backbone,
    length: int,
    labels: Tensor,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> Iterator[Tensor]:
    """Yield ``(L, V)`` log-probabilities in a row of masks, under each of K classes."""
    share = torch.ones(1, dtype=torch.float64, device=labels.device)
    t = time_at(share, schedule).float()
    for some in torch.split(labels, max(1, settings.tokens_at_once // length)):
        masks = torch.full((len(some), length), backbone.mask_id, device=labels.device)
        batch = labelled(Batch.of(masks), some)
        for states in backbone.hidden(batch, t.expand(len(some))):
            yield subs(backbone.logits(states), backbone.mask_id)
