"""Linear graphs from data: DAGMA and NOTEARS, by full batches in float64.

Both minimise the least squares score (1/2n) ||X - XW||_F^2 + lambda1 ||W||_1 over
acyclic W. The data is used through its covariance alone. A[i, j] = W[i, j] != 0 means
i -> j. Letters: d columns, n rows.

What this can and cannot find: a linear Gaussian model is known from data up to its
Markov equivalence class alone, unless all noises have the same variance, and the score
depends on the units of the columns (Kaiser and Sipos, arXiv 2104.05441; Reisach et al.,
arXiv 2102.13647). `stability` shows how much.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.optimize import minimize

from mdlm_core.errors import DataError, UsageError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def dagma_linear(
    data: Array,
    *,
    lambda1: float = 0.03,
    threshold: float | Array = 0.3,
    allowed: Mask | None = None,
    s: Sequence[float] = (1.0, 0.9, 0.8, 0.7, 0.6),
    mu: float = 1.0,
    shrink: float = 0.1,
    iterations: tuple[int, int] = (30_000, 60_000),
    lr: float = 1e-3,
    tolerance: float = 1e-6,
) -> Array:
    """Find an acyclic graph by DAGMA (Bello et al., 2022, arXiv 2209.08037).

    The central path: for T values of s, minimise mu (score + lambda1 |W|) + h_s(W),
    h_s(W) = -logdet(sI - W o W) + d log s, and multiply mu by `shrink`. Adam takes the
    steps; one that leaves the domain, where sI - W o W is no longer an M-matrix, is
    taken back, and the next ones are smaller for a while.

    Args:
        data: (n, d), no value missing; centred here, never scaled.
        lambda1: weight of the absolute values.
        threshold: edges of smaller absolute weight are dropped at the end; one number,
            or one for each edge (d, d).
        allowed: (d, d), which edges there may be; None means all but i -> i.
        s: one value for each round.
        mu: weight of the score in the first round.
        shrink: what mu is multiplied by after a round.
        iterations: at most so many steps in a round, and in the last one.
        lr: of Adam.
        tolerance: a round ends when the objective changes by less, relatively, over
            1000 steps.

    Returns:
        W (d, d), acyclic: should the threshold leave a cycle, it is broken at its
        weakest edge.

    Raises:
        DataError: if a value is missing, or there are fewer than two rows.
    """
    covariance, mask = _covariance(data), _allowed(data, allowed)
    weight = np.zeros_like(covariance)
    for turn, limit in enumerate(s):
        last = turn == len(s) - 1
        weight = _dagma_round(
            covariance,
            weight,
            mask,
            mu=mu,
            s=limit,
            lambda1=lambda1,
            steps=iterations[1] if last else iterations[0],
            lr=lr,
            tolerance=tolerance,
        )
        mu *= shrink
    return acyclic_part(np.where(np.abs(weight) >= threshold, weight, 0.0))[0]


def _dagma_round(
    covariance: Array,
    weight: Array,
    mask: Mask,
    *,
    mu: float,
    s: float,
    lambda1: float,
    steps: int,
    lr: float,
    tolerance: float,
    betas: tuple[float, float] = (0.99, 0.999),
    every: int = 1000,
) -> Array:
    """Return the minimum of one round; the start is inside the domain of s, or moved.

    Gradients are written out, as there are many steps on small matrices:
    grad score = -C (I - W) with C the covariance, grad h = 2 W o (sI - W o W)^-T.
    """
    d = len(weight)
    identity = np.eye(d)
    radius = float(np.abs(np.linalg.eigvals(weight * weight)).max())
    if radius >= s:  # the domain shrinks with s
        weight = weight * np.sqrt(0.95 * s / radius)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    before, kept, pace = np.inf, weight, lr
    for step in range(1, steps + 1):
        inverse = np.linalg.inv(s * identity - weight * weight)
        if inverse.min() < -1e-12:  # left the domain: take it back
            weight, pace = kept, pace / 2
            first = np.zeros_like(weight)
            inverse = np.linalg.inv(s * identity - weight * weight)
        residual = identity - weight
        slope = -covariance @ residual + lambda1 * np.sign(weight)
        gradient = np.where(mask, mu * slope + 2 * weight * inverse.T, 0.0)
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        move = first / (1 - betas[0] ** step)
        move /= np.sqrt(second / (1 - betas[1] ** step)) + 1e-8
        kept, weight = weight, weight - pace * move
        pace = min(lr, 1.05 * pace)
        if step % every == 0:
            score = 0.5 * np.trace(residual.T @ covariance @ residual)
            logdet = np.linalg.slogdet(s * identity - kept * kept)[1]
            now = mu * (score + lambda1 * np.abs(kept).sum()) - logdet + d * np.log(s)
            if np.isfinite(before) and abs(before - now) <= tolerance * abs(before):
                break
            before = now
    return kept


def notears_linear(
    data: Array,
    *,
    lambda1: float = 0.1,
    threshold: float | Array = 0.3,
    allowed: Mask | None = None,
    h_tolerance: float = 1e-8,
    rho_max: float = 1e16,
    rounds: int = 100,
) -> Array:
    """Find an acyclic graph by NOTEARS (Zheng et al., 2018, arXiv 1803.01422).

    The augmented Lagrangian: minimise score + lambda1 |W| + (rho/2) h^2 + alpha h by
    L-BFGS-B on W = W+ - W-, h(W) = tr(exp(W o W)) - d; if h is still above a quarter of
    what it was, rho grows tenfold; then alpha += rho h. It ends at h <= `h_tolerance`.

    Args:
        data: (n, d), no value missing; centred here, never scaled.
        lambda1: weight of the absolute values.
        threshold: edges of smaller absolute weight are dropped at the end; one number,
            or one for each edge (d, d).
        allowed: (d, d), which edges there may be; None means all but i -> i.
        h_tolerance: when it is acyclic enough.
        rho_max: where it gives up.
        rounds: at most so many.

    Returns:
        W (d, d), acyclic: should the threshold leave a cycle, it is broken at its
        weakest edge.

    Raises:
        DataError: if a value is missing, or there are fewer than two rows.
    """
    covariance, mask = _covariance(data), _allowed(data, allowed)
    d = len(covariance)
    identity = np.eye(d)
    bounds = [(0.0, None if free else 0.0) for free in mask.ravel()] * 2

    def weights(both: Array) -> Array:
        return (both[: d * d] - both[d * d :]).reshape(d, d)

    def objective(both: Array, rho: float, alpha: float) -> tuple[float, Array]:
        weight = weights(both)
        residual = identity - weight
        power = expm(weight * weight)
        h = np.trace(power) - d
        value = 0.5 * np.trace(residual.T @ covariance @ residual)
        value += 0.5 * rho * h * h + alpha * h + lambda1 * both.sum()
        smooth = -covariance @ residual + (rho * h + alpha) * power.T * 2 * weight
        gradient = np.concatenate((smooth + lambda1, lambda1 - smooth), axis=None)
        return float(value), gradient

    both, rho, alpha, h = np.zeros(2 * d * d), 1.0, 0.0, np.inf
    for _ in range(rounds):
        while True:
            found = minimize(
                objective,
                both,
                args=(rho, alpha),
                method="L-BFGS-B",
                jac=True,
                bounds=bounds,
            ).x
            weight = weights(found)
            h_new = float(np.trace(expm(weight * weight)) - d)
            if h_new <= 0.25 * h or rho >= rho_max:
                break
            rho *= 10
        both, h = found, h_new
        alpha += rho * h
        if h <= h_tolerance or rho >= rho_max:
            break
    weight = weights(both)
    return acyclic_part(np.where(np.abs(weight) >= threshold, weight, 0.0))[0]


def acyclic_part(weight: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Break every cycle at its weakest edge.

    Args:
        weight: (d, d).

    Returns:
        A copy without cycles, and the edges (parent, child) that were taken out.
    """
    kept = np.array(weight, dtype=float)
    dropped: list[tuple[int, int]] = []
    while True:
        graph = nx.from_numpy_array((kept != 0).astype(int), create_using=nx.DiGraph)
        try:
            cycle = nx.find_cycle(graph)
        except nx.NetworkXNoCycle:
            return kept, dropped
        weakest = min(((i, j) for i, j in cycle), key=lambda edge: abs(kept[edge]))
        kept[weakest] = 0.0
        dropped.append((int(weakest[0]), int(weakest[1])))


def _covariance(data: Array) -> Array:
    """Return the covariance (d, d), divided by n as the score is."""
    found = np.asarray(data, dtype=float)
    if found.ndim != 2 or len(found) < 2:
        raise DataError(
            f"a graph is found in a table of at least two rows, not in data of shape "
            f"{found.shape}"
        )
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0]
        raise DataError(
            f"row {row}, column {column} of the data is {found[row, column]}; leave "
            f"rows out where a value is not known"
        )
    centred = found - found.mean(axis=0)
    covariance: Array = centred.T @ centred / len(found)
    return covariance


def _allowed(data: Array, allowed: Mask | None) -> Mask:
    d = np.shape(data)[1]
    if allowed is not None and np.shape(allowed) != (d, d):
        raise UsageError(
            f"the mask of allowed edges has shape {np.shape(allowed)}; {d} columns "
            f"need ({d}, {d})"
        )
    every = np.ones((d, d), dtype=bool) if allowed is None else np.array(allowed, bool)
    mask: Mask = every & ~np.eye(d, dtype=bool)
    return mask


__all__ = ["acyclic_part", "dagma_linear", "notears_linear"]
