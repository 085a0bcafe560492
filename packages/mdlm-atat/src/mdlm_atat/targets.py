"""What the importance network learns: how hard hidden tokens turned out to be.

How much a token costs depends on the time far more than on the token, so that losses
are compared within bins of t. Letters: N hidden tokens, V vocabulary, K bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ImportanceConfig
from .frequency import mid_rank
from .processes import sum_over_processes

SLOW = 0.999
"""Decay of the reference that `excess` compares with."""
SMALLEST_SD = 1e-3
"""Differences far below this, in nats, are rounding and not difficulty."""
SMALLEST_EXCESS = 0.1
"""The same for the excess, which is in standard deviations of the loss."""


class Targets(nn.Module):
    """Turn the losses of hidden tokens into targets y in [0, 1].

    With the standardised loss ``z = (loss - mean_b) / sd_b`` of a token in bin b of t,
    and the normal distribution function Phi:

    - ``loss_rank``: y = Phi(z).
    - ``loss_ema``: running means of z for each type of token, ranked; the share of
      tokens met so far whose type has a smaller mean. Phi(z) for a new type.
    - ``el2n``: y = ||p - onehot||_2 / sqrt 2, the norm of the gradient in the logits
      (Paul et al., 2021, arXiv 2107.07075).
    - ``excess``: z minus a slow running mean of its type, standardised once more, and
      Phi of that. High where the loss is not what this type always costs.

    Means are running means with bias correction: decayed sums over decayed counts.
    What a step adds waits aside until `fold`, so that targets within a step do not
    depend on its order. Before a bin was ever seen, the statistics of the batch at
    hand stand in for it, and its tokens are not yet counted for their types.
    """

    def __init__(self, config: ImportanceConfig, *, vocab_size: int) -> None:
        """Start without a memory.

        Args:
            config: the kind of target, its bins and decay.
            vocab_size: V.
        """
        super().__init__()
        self.kind = config.target
        kind, bins, decay = config.target, config.bins, config.decay
        if kind != "el2n":
            self.loss = Moments(bins, decay, smallest=SMALLEST_SD)
        if kind == "loss_ema":
            self.types = TypeMeans(vocab_size, decay, ranked=True)
        if kind == "excess":
            self.types = TypeMeans(vocab_size, SLOW, ranked=False)
            self.excess = Moments(bins, decay, smallest=SMALLEST_EXCESS)

    @torch.no_grad()
    def forward(
        self,
        nll: Tensor,
        tokens: Tensor,
        t: Tensor,
        *,
        residual: Tensor | None = None,
        learn: bool,
    ) -> Tensor:
        """Return the targets y ``(N,)`` float32, without a gradient.

        Args:
            nll: ``(N,)`` -log p of each hidden token.
            tokens: ``(N,)`` int64, what they are.
            t: ``(N,)``, the time of each one's row.
            residual: ``(N,)``, see `diffusion.Loss`; for ``el2n``.
            learn: whether this batch counts. All processes must say the same then.
        """
        if self.kind == "el2n":
            assert residual is not None
            return (residual.float() / math.sqrt(2)).clamp(0, 1)
        z, known = self.loss(nll.double(), t, learn=learn)
        if self.kind == "loss_rank":
            y = phi(z)
        elif self.kind == "loss_ema":
            y = torch.where(self.types.met(tokens), self.types.rank[tokens], phi(z))
        else:
            excess = z - self.types.mean(tokens)
            y = phi(self.excess(excess, t, learn=learn, counts=known)[0])
        if learn and self.kind in ("loss_ema", "excess"):
            self.types.add(z, tokens, known)
        return y.float()

    def fold(self) -> None:
        """Take in what was added since the last time."""
        for part in self.children():
            assert isinstance(part, Moments | TypeMeans)
            part.fold()

    def forget_pending(self) -> None:
        """Drop what was added since the last time."""
        for part in self.children():
            assert isinstance(part, Moments | TypeMeans)
            part.pending.zero_()


class Moments(nn.Module):
    """Running mean and standard deviation of a number, in bins of t."""

    running: Tensor
    """``(K, 3)`` float64: decayed sums of 1, x and x^2."""
    pending: Tensor
    """``(K, 3)`` float64: sums since the last `fold`, over all processes."""

    def __init__(self, bins: int, decay: float, *, smallest: float) -> None:
        """Start without a memory; no deviation is taken for less than `smallest`."""
        super().__init__()
        self.bins, self.decay, self.smallest = bins, decay, smallest
        self.register_buffer("running", torch.zeros(bins, 3, dtype=torch.float64))
        self.register_buffer("pending", torch.zeros(bins, 3, dtype=torch.float64))

    def forward(
        self, x: Tensor, t: Tensor, *, learn: bool, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return standardised `x` ``(N,)`` float64, and whose bins are known.

        Args:
            x: ``(N,)`` float64.
            t: ``(N,)`` times in [0, 1].
            learn: whether to add `x` to the sums.
            counts: ``(N,)`` bool: which of `x` to add; None adds all.
        """
        place = (t.double() * self.bins).long().clamp(0, self.bins - 1)  # (N,)
        inside = F.one_hot(place, self.bins).double()  # (N, K)
        powers = torch.stack((torch.ones_like(x), x, x.square()), 1)  # (N, 3)
        here = inside.T @ powers
        if learn:
            some = here if counts is None else inside.T @ (powers * counts[:, None])
            here, some = sum_over_processes(torch.stack((here, some)))
            self.pending += some
        known = self.running[:, 0] > 0  # (K,)
        sums = torch.where(known[:, None], self.running, here)
        mean, square = (sums[:, 1:] / sums[:, :1].clamp(min=1e-300)).unbind(1)
        sd = (square - mean.square()).clamp(min=0).sqrt().clamp(min=self.smallest)
        return (x - mean[place]) / sd[place], known[place]

    def fold(self) -> None:
        """Take the pending sums into the running ones, in bins that have any."""
        seen = self.pending[:, :1] > 0
        folded = self.decay * self.running + (1 - self.decay) * self.pending
        self.running.copy_(torch.where(seen, folded, self.running))
        self.pending.zero_()


class TypeMeans(nn.Module):
    """Running mean of a number for each type of token, and its rank among types."""

    running: Tensor
    """``(V, 2)`` float64: decayed sums of 1 and x."""
    pending: Tensor
    """``(V, 2)`` float64: sums since the last `fold`, over all processes."""
    seen: Tensor
    """``(V,)`` float64: how many tokens of the type were met; only if ranked."""
    rank: Tensor
    """``(V,)`` float64 in [0, 1]; only if ranked."""

    def __init__(self, vocab_size: int, decay: float, *, ranked: bool) -> None:
        super().__init__()
        self.decay, self.ranked = decay, ranked
        zeros = torch.zeros(vocab_size, 2, dtype=torch.float64)
        self.register_buffer("running", zeros)
        self.register_buffer("pending", zeros.clone())
        if ranked:
            self.register_buffer("seen", zeros[:, 0].clone())
            self.register_buffer("rank", zeros[:, 0].clone())

    def met(self, tokens: Tensor) -> Tensor:
        """Return whether the types of `tokens` ``(N,)`` have a mean."""
        return self.running[tokens, 0] > 0

    def mean(self, tokens: Tensor) -> Tensor:
        """Return the means of the types of `tokens` ``(N,)``, 0 if there is none."""
        count, total = self.running[tokens].unbind(1)
        return torch.where(count > 0, total / count.clamp(min=1e-300), 0.0)

    def add(self, x: Tensor, tokens: Tensor, counts: Tensor) -> None:
        """Add `x` ``(N,)`` of `tokens`, where `counts`, to the pending sums."""
        pair = torch.stack((torch.ones_like(x), x), 1) * counts[:, None]
        sums = torch.zeros_like(self.pending).index_add_(0, tokens, pair)
        self.pending += sum_over_processes(sums)

    def fold(self) -> None:
        """Take the pending sums into the running ones, for types that have any."""
        count = self.pending[:, :1]
        folded = self.decay * self.running + (1 - self.decay) * self.pending
        self.running.copy_(torch.where(count > 0, folded, self.running))
        if self.ranked and bool(count.any()):
            self.seen += count[:, 0]
            everyone = torch.arange(len(self.seen), device=self.seen.device)
            self.rank.copy_(mid_rank(self.mean(everyone), self.seen))
        self.pending.zero_()


def phi(z: Tensor) -> Tensor:
    """Return the distribution function of the normal distribution at `z`."""
    y: Tensor = torch.special.ndtr(z)
    return y
