"""Fit a density of times to the measured loss.

Letters: b times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.kernels.noise import Noise
from mdlm_llada.config import TimesConfig

from .curves import Curves
from .density import Density, end_cells, with_ends

Array = NDArray[np.float64]
FITTED: tuple[Literal["EPR"], Literal["AP"]] = ("EPR", "AP")
"""The models that are fitted to a measurement."""
FLOOR = 0.05
"""A fitted density is at least this before it is normalised again: no row's weight is
above (1 + 0.05) / 0.05 = 21, even where the measurement met no hidden token at all."""
CENTRE = (-0.3, 0.4, -1.0, 0.3, 0.8, 0.7, 0.2)
"""Middle of the random starts: what a, b, A, kappa, r, q, m are softplus of."""
SPREAD = 0.6
"""Their standard deviation."""
LOW, HIGH, STEEPEST = -12.0, 12.0, 60.0
"""Limits of the unknowns; the upper one of those of r, q and m is the last."""


@dataclass(frozen=True, slots=True)
class EPR:
    """The curve of seven parameters (arXiv 2511.18159).

    ``p(t) ~ sqrt(a t^r + b (1 - t)^q + A^2 exp(2 kappa t^m))``

    with g = A exp(kappa t^m) and v = a t^r + b (1 - t)^q; all positive, m above 1. A
    factor common to a, b and A^2 has no meaning.
    """

    a: float
    b: float
    scale: float
    """A."""
    kappa: float
    r: float
    q: float
    m: float
    kl: float
    """The divergence of the fit from the measurement, in nats."""

    def __call__(self, t: Tensor) -> Tensor:
        """Return the curve at times `t`, up to a factor."""
        z = (self.a, self.b, self.scale, self.kappa, self.r, self.q, self.m)
        terms = _terms(t.double().numpy(), z)
        return torch.from_numpy(np.sqrt(terms.sum(0)))


def fit_density(config: TimesConfig, curves: Curves, noise: Noise) -> Density:
    """Return the density for the measured loss: p ~ sqrt(g^2 + v).

    EPR is the curve of that name. AP, of which no definition is published, is here an
    adaptive piecewise density: linear between the measured points, constant outside.

    Args:
        config: the model, the random starts and the share of the uniform density.
        curves: the measurement.
        noise: gives the random starts.
    """
    times = curves.times
    wanted = (curves.g.square() + curves.v).sqrt()
    if not bool((wanted > 0).any()):  # nothing left to learn: all times are alike
        wanted = torch.ones_like(wanted)
    if config.model == "EPR":
        curve = fit_epr(
            times, wanted, shares=curves.shares, starts=config.starts, noise=noise
        )
        nodes = with_ends(times)
        law = positive(nodes, curve(nodes))
    else:
        law = positive(*end_cells(times, wanted))
    return law.mixed(config.mix_uniform)


def positive(nodes: Tensor, values: Tensor) -> Density:
    """Return the density through points of any height, at least `FLOOR`."""
    values = values / torch.trapezoid(values, nodes)
    return Density.of(nodes, values.clamp(min=FLOOR))


def fit_epr(
    times: Tensor,
    wanted: Tensor,
    *,
    shares: Tensor | None = None,
    starts: int,
    noise: Noise,
) -> EPR:
    """Return the EPR curve of least divergence ``KL(wanted || p)``.

    The divergence is a sum over the times, one for each of the cells that fill [0, 1]:
    the integral over all of it. L-BFGS-B runs from several random starts, and the best
    result is kept.

    Args:
        times: ``(b,)`` in (0, 1), one in each of b cells.
        wanted: ``(b,)`` the measured sqrt(g^2 + v), not all 0.
        shares: ``(b,)`` the widths of the cells; None means equal ones.
        starts: how many starts.
        noise: the generator of the starts.
    """
    from scipy.optimize import minimize
    from scipy.stats import norm

    t = times.double().numpy()
    cells = np.full(len(t), 1 / len(t)) if shares is None else shares.double().numpy()
    w = wanted.double().numpy()
    w = w / (cells @ w)
    keys = noise.uniform(torch.arange(starts), len(CENTRE)).numpy()
    best: Any = None
    for start in np.array(CENTRE) + SPREAD * norm.ppf(keys):
        found = minimize(
            _divergence,
            start,
            args=(t, w, cells),
            jac=True,
            method="L-BFGS-B",
            bounds=[(LOW, HIGH)] * 4 + [(LOW, STEEPEST)] * 3,
        )
        if best is None or found.fun < best.fun:
            best = found
    return EPR(*[*_parameters(best.x).tolist(), float(best.fun)])


def _parameters(z: Array) -> Array:
    """Return a, b, A, kappa, r, q, m: softplus of the unknowns, and 1 more for m."""
    values: Array = np.logaddexp(0, z) + 1e-9
    values[6] += 1
    return values


def _terms(t: Array, parameters: Any) -> Array:
    """Return ``(3, b)``: the terms under the root."""
    a, b, scale, kappa, r, q, m = parameters
    return np.stack([a * t**r, b * (1 - t) ** q, scale**2 * np.exp(2 * kappa * t**m)])


def _divergence(z: Array, t: Array, w: Array, cells: Array) -> tuple[float, Array]:
    """Return KL(w || p) and its gradient in the unknowns.

    With S the sum under the root and p = sqrt(S) / int sqrt(S), the derivative is
    ``int (p - w) S' / (2 S)``.
    """
    parameters = _parameters(z)
    a, b, scale, kappa, r, q, m = parameters
    rise, fall, power = t**r, (1 - t) ** q, t**m
    peak = scale**2 * np.exp(2 * kappa * power)
    under = a * rise + b * fall + peak
    root = np.sqrt(under)
    p = root / (cells @ root)
    log_t, log_u = np.log(t), np.log1p(-t)
    slopes = np.stack(
        [
            rise,
            fall,
            2 * peak / scale,
            2 * peak * power,
            a * rise * log_t,
            b * fall * log_u,
            2 * peak * kappa * power * log_t,
        ]
    )
    gradient = 0.5 * slopes @ (cells * (p - w) / under)
    known = w > 0
    value = float((cells * w)[known] @ np.log(w[known] / p[known]))
    return value, gradient / (1 + np.exp(-z))
