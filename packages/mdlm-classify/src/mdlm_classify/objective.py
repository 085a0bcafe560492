"""The loss: how probable a text is, and how much more under its class than others.

    loss = E [ bound(x, c) - n d log q(c | x) ],
    q(k | x) = softmax over k of (s_k + log pi_k) / n^b

with ``s_k`` minus the same draw of the bound under class k, with the same mask, n the
tokens of the row, d the weight ``discriminative`` and b the exponent ``temper``
(without it, long rows are sure of their class, right or wrong, and few of them teach
anything). The first term is that of a generative model; the second, of its posterior,
is what a classifier is for. Such mixtures are multi-conditional learning (McCallum et
al., AAAI 2006; Raina et al., NIPS 2003). Both are sums of weighted cross-entropies of
hidden tokens, because

    d(-log q(c | x)) / ds_k = (q_k - [k = c]) / n^b,

so that one fused pass through the head makes all gradients.

A sum over hidden tokens is a noisy estimate of the sum over all. What the model says
without context is known for all tokens at once, and its error is taken out of s (a
control variate; `_control`): the expectation is the same, and a model that ignores the
context has no noise left.

Letters: B rows, K meetings of a row with a class, N hidden positions, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mdlm_core.diffusion import Loss
from mdlm_core.diffusion.corrupt import Corrupted
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_log_prob,
)
from mdlm_core.kernels.noise import Noise

from .nn.condition import NULL, Conditional, labelled, labels_of


@dataclass(frozen=True)
class Met:
    """Which classes the B rows of a batch meet; K meetings in all."""

    row: Tensor
    """``(K,)`` int64: the row. The first B are the rows in order."""
    label: Tensor
    """``(K,)`` int64: the class that it is given, or -1."""
    compared: Tensor
    """``(K,)`` bool: whether the class takes part in the posterior."""


def meet(
    labels: Tensor,
    *,
    classes: int,
    contrast: int,
    hidden: Tensor,
    noise: Noise,
    rows: Tensor,
) -> Met:
    """Choose the classes that each row meets: its own, and at most `contrast` others.

    First comes each row with the class under which its bound is learned, then what
    else the posterior needs. A row of no class is not compared.

    Args:
        labels: ``(B,)`` int64, -1 for none.
        classes: C.
        contrast: other classes, drawn without replacement if there are more.
        hidden: ``(B,)`` bool: rows whose bound is learned under the null class.
        noise: decides the others.
        rows: ``(B,)`` int64: the rows' numbers in the global batch, for `noise`.
    """
    here = torch.arange(len(labels), device=labels.device)
    own = labels.masked_fill(hidden, NULL)
    if not contrast or classes < 2:
        return Met(here, own, torch.zeros_like(hidden))
    known = labels != NULL
    keys = noise.uniform(rows, classes)
    keys[here[known], labels[known]] = 2.0  # its own class is no other
    others = keys.argsort(1)[:, : min(contrast, classes - 1)]
    again = known & hidden
    row = [here, here[again]]
    label = [own, labels[again]]
    for column in others.T:
        row.append(here[known])
        label.append(column[known])
    met = torch.cat(label)
    compared = torch.ones_like(met, dtype=torch.bool)
    compared[: len(here)] = known & ~hidden
    return Met(torch.cat(row), met, compared)


def thinned(
    corrupted: Corrupted, most: int, *, noise: Noise, rows: Tensor
) -> Corrupted:
    """Return the same canvas with at most `most` hidden tokens of each row scored.

    They are drawn among the hidden ones, and weigh as much more as there are fewer, so
    that the expectation is the same. The head is most of the work where the vocabulary
    is large.

    Args:
        corrupted: B noised rows.
        most: how many; 0 means all.
        noise: decides which.
        rows: ``(B,)`` int64: the rows' numbers in the global batch.
    """
    hidden = corrupted.masked
    if not most or int(hidden.sum(1).max()) <= most:
        return corrupted
    keys = noise.uniform(rows, hidden.shape[1]).masked_fill(~hidden, 2.0)
    scored = hidden & (keys.argsort(1).argsort(1) < most)
    share = hidden.sum(1).clamp(min=1) / scored.sum(1).clamp(min=1)
    return replace(
        corrupted, masked=scored, weight=corrupted.weight * share[:, None].float()
    )


def hybrid_loss(
    backbone: Conditional,
    corrupted: Corrupted,
    met: Met,
    *,
    log_prior: Tensor,
    row_weights: Tensor,
    discriminative: float,
    temper: float,
) -> Loss:
    """Return the loss of a noised batch; see the module.

    Args:
        backbone: the denoiser.
        corrupted: B noised rows.
        met: the classes that they meet.
        log_prior: ``(C,)`` log pi.
        row_weights: ``(C,)`` what rows of a class count.
        discriminative: d.
        temper: b.
    """
    batch, row = corrupted.batch, met.row
    labels = labels_of(batch, backbone.classes)
    masked, free = corrupted.masked[row], batch.free.sum(1)
    seen = labelled(batch.select(row), met.label)
    states = backbone.hidden(seen, corrupted.t[row])[masked]  # (N, D)
    targets = corrupted.targets[row][masked]
    weights = corrupted.weight[row][masked].float()
    owner = masked.nonzero()[:, 0]  # (N,) of the K
    control = _control(backbone, corrupted, met)  # (K,), or None

    with torch.no_grad():
        nll = _nll(backbone, states, targets)
        sums = torch.zeros(len(row), device=nll.device)
        sums = sums.index_add(0, owner, weights * nll)
        if control is not None:
            sums = sums + control
        counts = torch.where(labels >= 0, row_weights[labels.clamp(min=0)], 1.0)
        tau = free.clamp(min=1).float().pow(temper)[row]  # (K,)
        score = (log_prior[met.label.clamp(min=0)] - sums) / tau
        log_q = _posterior(score, met, len(batch))
        true = met.compared & (met.label == labels[row])
        scale = discriminative * (free * counts)[row]  # (K,)
        pull = torch.where(met.compared, true.float() - log_q.exp(), 0.0)
        bound = torch.zeros_like(sums)
        bound[: len(batch)] = counts
        coefficients = bound + scale * pull / tau
        surprise = -log_q[true]
        value = (bound * sums).sum() + (scale[true] * surprise).sum()
    learned = _weighted(backbone, states, targets, weights * coefficients[owner])
    if control is not None:
        learned = learned + (coefficients * control).sum()
    first = owner < len(batch)
    return Loss(
        total=learned + (value - learned).detach(),
        count=free.sum(),
        nll=nll[first],
        masked=corrupted.masked,
        extra={
            "nats_per_token": sums[: len(batch)].sum() / free.sum(),
            "class_loss": surprise.sum() / max(len(surprise), 1),
        },
    )


def _control(backbone: Conditional, corrupted: Corrupted, met: Met) -> Tensor | None:
    """Return ``(K,)`` numbers of mean zero that take noise out of a draw's sum.

    ``sum over i of (w_i [i in M] - 1) log u(x_i | c)`` with u the law of the biases
    alone; see `scoring`. None if the backbone has none.
    """
    table = getattr(backbone, "context_free", lambda: None)()  # (C + 1, V)
    if table is None:
        return None
    row = met.row
    excess = (
        corrupted.masked * corrupted.weight - corrupted.batch.free.float()
    )  # (B, L)
    known = table[met.label[:, None], corrupted.targets[row]]  # -1 is the last row
    total: Tensor = (excess[row] * known.masked_fill(excess[row] == 0, 0.0)).sum(1)
    return total


def _posterior(score: Tensor, met: Met, rows: int) -> Tensor:
    """Return ``(K,)`` log q: each score less the logarithm of its row's sum."""
    score = score.masked_fill(~met.compared, -torch.inf)
    top = score.new_full((rows,), -torch.inf)
    top = top.scatter_reduce(0, met.row, score, "amax").clamp(min=-1e30)
    shifted = score - top[met.row]
    total = score.new_zeros(rows).index_add(0, met.row, shifted.exp())
    return shifted - total.clamp(min=1e-30).log()[met.row]


def _nll(backbone: Conditional, states: Tensor, targets: Tensor) -> Tensor:
    """Return ``(N,)`` float32 -log p, without gradients."""
    head = getattr(backbone, "head", None)
    if type(head) is nn.Linear:
        return -linear_log_prob(
            states, head.weight, head.bias, targets, backbone.mask_id
        )
    return chunked_nll(backbone, states, targets)


def _weighted(
    backbone: Conditional, states: Tensor, targets: Tensor, weights: Tensor
) -> Tensor:
    """Return the sum of weights times -log p, with gradients."""
    head = getattr(backbone, "head", None)
    if type(head) is not nn.Linear:
        return (chunked_nll(backbone, states, targets) * weights).sum()
    total, _ = linear_cross_entropy(
        states, head.weight, head.bias, targets, weights, backbone.mask_id
    )
    return total
