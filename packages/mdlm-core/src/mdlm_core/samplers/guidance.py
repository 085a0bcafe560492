"""Guidance: a law made of the laws under several conditions.

The guided law is a product of powers (Ho and Salimans, 2022, arXiv 2207.12598, and for
discrete diffusion Schiff et al., 2025, arXiv 2412.10193),

    log p(v) = sum over k of w_k log p(v | view k) + const,

normalised over the vocabulary before anything is revealed, so that the rate at which
positions are revealed is that of the plain model. With two views, the condition and
none, the weights are g and 1 - g: g = 1 is the conditional law, g = 0 the other, and
more than 1 is sharper than both.

Letters: B rows, L length, D width, N selected positions, n a piece of them, V
vocabulary, K views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Backbone

from .denoiser import _PIECE, Denoiser

View = Callable[[Batch], Batch]
"""Shows a canvas under another condition; its rows and positions stay."""
Weights = Callable[[Tensor], Tensor]
"""The weights ``(B, K)`` at times ``(B,)``."""
StrengthSchedule = Literal["constant", "linear", "interval"]


def strength(
    scale: float,
    t: Tensor,
    *,
    schedule: StrengthSchedule = "constant",
    interval: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Return g ``(B,)`` float64 at times `t` ``(B,)``.

    Strong guidance does harm while most of the text is hidden, and helps later (Rojas
    et al., 2025, arXiv 2507.08965). "linear" is ``1 + (scale - 1)(1 - t)``; "interval"
    is `scale` for t in `interval`, both ends included, and 1 elsewhere.
    """
    t = t.double()
    if schedule == "linear":
        return 1 + (scale - 1) * (1 - t)
    if schedule == "interval":
        low, high = interval
        return torch.where((t >= low) & (t <= high), scale, 1.0).to(t)
    return torch.full_like(t, scale)


class Guidance(Denoiser):
    """A denoiser whose law is a weighted mixture of log-laws; see the module.

    A token that is impossible under one of the views is impossible: the logarithms that
    are mixed are finite, and -inf is put in afterwards. A view whose weight is always 0
    is not evaluated. Each evaluation of a row costs `passes` forward passes, and is
    counted so.

    Args:
        backbone: the model.
        views: K ways to see the canvas.
        weights: K numbers, or a function of the time, for a strength that changes.
        settings: as of `Denoiser`.

    Raises:
        UsageError: if weights and views differ in number, or all weights are 0.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        views: Sequence[View],
        weights: Sequence[float] | Weights,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        banned: Sequence[int] = (),
    ) -> None:
        super().__init__(
            backbone,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=banned,
        )
        self._changing: Weights | None = None
        if callable(weights):
            self._changing = weights
            self.weights: tuple[float, ...] = ()
        else:
            if len(weights) != len(views):
                raise UsageError(
                    f"guidance has {len(weights)} weights for {len(views)} views; "
                    f"give one for each"
                )
            used = [i for i, weight in enumerate(weights) if weight != 0]
            if not used:
                raise UsageError("guidance has no weight that is not 0; give one")
            views = [views[i] for i in used]
            self.weights = tuple(float(weights[i]) for i in used)
        self.views = tuple(views)
        self.passes = len(self.views)

    @property
    def reads_time(self) -> bool:
        """Whether the model sees t, or the weights change with it."""
        return self._changing is not None or super().reads_time

    def states(self, canvas: Batch, where: Tensor, t: Tensor | None = None) -> Tensor:
        """Return ``(N, K D)``: the states under each view, side by side."""
        count = len(self.views)
        seen = Batch.cat([view(canvas) for view in self.views])
        times = None if t is None else t.repeat(count)
        states = super().states(seen, where.repeat(count, 1), times)
        return torch.cat(states.chunk(count), dim=-1)

    def laws(
        self, canvas: Batch, where: Tensor, t: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the guided laws ``(n, V)`` at the selected positions."""
        states = self.states(canvas, where, t)
        if self._changing is None:
            yield from self.laws_of(states)
            return
        rows = where.sum(1)  # positions of each row
        weights = self._changing(self._time(canvas, t)).to(states.device)
        yield from self._mixed(states, weights.repeat_interleave(rows, dim=0))

    def laws_of(self, states: Tensor) -> Iterator[Tensor]:
        """Yield the guided laws ``(n, V)`` that belong to states ``(N, K D)``.

        Raises:
            UsageError: if the weights change with the time, which states do not tell.
        """
        if self._changing is not None:
            raise UsageError(
                "this sampler keeps states, and a guidance that changes with the time "
                "cannot be worked out from them; use a constant one"
            )
        weights = torch.tensor(self.weights, dtype=torch.float32, device=states.device)
        yield from self._mixed(states, weights.expand(len(states), -1))

    def _mixed(self, states: Tensor, weights: Tensor) -> Iterator[Tensor]:
        """Mix the laws of ``(N, K D)`` with the weights ``(N, K)``."""
        count = len(self.views)
        self.count.head_rows += count * len(states)
        piece = _PIECE.get(states.device.type, _PIECE["other"])
        size = max(1, piece // (count * self.backbone.vocab_size))
        for part, w in zip(
            torch.split(states, size), torch.split(weights, size), strict=True
        ):
            laws = [self._law(half.contiguous()) for half in part.chunk(count, dim=-1)]
            yield laws[0] if self.weights == (1.0,) else mixture(laws, w.float())

    def _time(self, canvas: Batch, t: Tensor | None) -> Tensor:
        """Return the time ``(B,)``: the sampler's, or what the canvas implies."""
        if self._clock is not None:
            return self._clock(canvas)
        if t is not None:
            return t
        masked = self.masked(canvas).sum(1).double()
        return masked / canvas.free.sum(1).clamp(min=1)


def mixture(laws: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the normalised law ``sum_k w_k log p_k``.

    Args:
        laws: K times ``(n, V)`` float32 log-probabilities, -inf for the impossible.
        weights: ``(n, K)``. What is impossible under a law of weight 0 is allowed.

    Returns:
        ``(n, V)`` float32 log-probabilities.
    """
    total = torch.zeros_like(laws[0])
    impossible = torch.zeros_like(total, dtype=torch.bool)
    for law, weight in zip(laws, weights.unbind(1), strict=True):
        never = torch.isneginf(law)
        total.addcmul_(law.masked_fill(never, 0.0), weight.unsqueeze(1))
        impossible |= never & (weight != 0).unsqueeze(1)
    return total.masked_fill_(impossible, -torch.inf).log_softmax(-1)
