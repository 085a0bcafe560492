"""How far single coordinates of a representation stand for single traits.

No number here means anything alone: a random linear map of five traits to 64
coordinates passes a "PCA score" of 0.7. See `baselines.report`, which puts beside every
score those of what is no representation.

Letters: N persons, m coordinates (codes), K factors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

from .intervals import Floats

BINS = 20
"""Of equal width, for codes and for factors, as Locatello et al. (2019) take."""
LEAST = 40
"""Persons of whom the factors are known, for anything to be measured."""
FEW = 20
"""A factor with at most as many different values is taken as it is."""
Regressor = Literal["lasso", "forest"]


@dataclass(frozen=True, slots=True)
class DCI:
    """Of Eastwood and Williams (2018)."""

    disentanglement: float
    """1 if every code tells of one factor, weighted by how much it tells."""
    completeness: float
    """1 if every factor is told by one code."""
    informativeness: float
    """The mean held-out R^2 of the factors."""


def mig(codes: ArrayLike, factors: ArrayLike, *, bins: int = BINS) -> float:
    """Return the mutual information gap (Chen et al., 2018, arXiv 1802.04942).

    ``(1/K) sum_k (I(z_(1); v_k) - I(z_(2); v_k)) / H(v_k)``, z_(1) and z_(2) being the
    two codes that tell most of factor k; by counts in bins. Factors that do not vary
    are left out.

    Args:
        codes: ``(N, m)``.
        factors: ``(N, K)``, without NaN.
        bins: of equal width over the range.

    Raises:
        DataError: if the shapes do not go together, or no factor varies.
    """
    z, v = _checked(codes, factors)
    binned = np.stack([_binned(column, bins) for column in z.T])
    gaps = []
    for column in v.T:
        factor = _levels(column, bins)
        information, entropy = _information(binned, factor, bins)
        if entropy > 1e-12:
            best = np.sort(np.append(information, 0.0))[::-1]
            gaps.append((best[0] - best[1]) / entropy)
    return float(np.mean(_some(gaps)))


def sap(codes: ArrayLike, factors: ArrayLike, *, noise: Noise) -> float:
    """Return the separated attribute predictability (Kumar et al., 2018, 1711.00848).

    The mean over factors of the gap between the two greatest R^2 that a line through
    one code reaches on the half of the persons it was not fitted to; below 0 counts
    as 0. Arguments and errors are those of `mig`.
    """
    z, v = _checked(codes, factors)
    fit, test = _halves(len(z), noise)
    gaps = []
    for factor in v.T:
        if np.ptp(factor[fit]) == 0 or np.ptp(factor[test]) == 0:
            continue
        centred = z[fit] - z[fit].mean(0)
        spread = (centred**2).sum(0)
        slope = centred.T @ (factor[fit] - factor[fit].mean())
        slope = np.divide(slope, spread, out=np.zeros_like(slope), where=spread > 0)
        guess = factor[fit].mean() + (z[test] - z[fit].mean(0)) * slope
        error = ((factor[test][:, None] - guess) ** 2).sum(0)
        total = ((factor[test] - factor[test].mean()) ** 2).sum()
        best = np.sort(np.append((1 - error / total).clip(min=0), 0.0))[::-1]
        gaps.append(best[0] - best[1])
    return float(np.mean(_some(gaps)))


def dci(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    noise: Noise,
    regressor: Regressor = "lasso",
) -> DCI:
    """Return disentanglement, completeness and informativeness.

    With R[i, k] the importance of code i for factor k: ``D_i = 1 - H_K(R_i / sum)``,
    weighted by the code's share of R; ``C_k = 1 - H_m(R_k / sum)``, the mean over
    factors; informativeness is R^2 on the half of the persons that the regressors were
    not fitted to. Importance is the size of a coefficient on standardised codes
    ("lasso"), or that of a random forest, each factor's times its informativeness, and
    none at all up to 4 / (N / 2), a correlation of two standard errors: a
    regressor that predicts nothing says nothing of what its codes are for, and yet
    often has one coefficient that is not 0. Codes that do not vary have none.

    Other arguments and errors are those of `mig`.
    """
    z, v = _checked(codes, factors)
    fit, test = _halves(len(z), noise)
    spread = z[fit].std(0)
    kept = spread > 1e-9 * max(1.0, float(np.abs(z).max()))
    importance = np.zeros((z.shape[1], v.shape[1]))
    explained = []
    for k, factor in enumerate(v.T):
        total = ((factor[test] - factor[test].mean()) ** 2).mean()
        if total == 0 or np.ptp(factor[fit]) == 0:
            continue
        if not kept.any():
            explained.append(0.0)
            continue
        x = (z[:, kept] - z[fit][:, kept].mean(0)) / spread[kept]
        weights, guess = _fitted(x, factor, fit, regressor, noise.child("fit", k))
        r2 = float(1 - ((factor[test] - guess[test]) ** 2).mean() / total)
        if r2 > 4 / len(test):
            importance[kept, k] = weights * r2
        explained.append(r2)
    informative = float(np.mean(_some(explained)))
    return DCI(
        disentanglement=_purity(importance),
        completeness=float(np.mean([_purity(each[None]) for each in importance.T])),
        informativeness=informative,
    )


def pca_score(codes: ArrayLike, factors: ArrayLike) -> float:
    """Return the original's "disentanglement": PCA(K) of the codes against the factors.

    The mean over components of the greatest absolute correlation with a factor. It is
    kept to be compared with; a random map passes it (see the module).
    """
    z, v = _checked(codes, factors)
    count = min(v.shape[1], *z.shape)
    if np.ptp(z, axis=0).max() <= 1e-9 * max(1.0, float(np.abs(z).max())):
        return 0.0
    parts = PCA(count, svd_solver="full").fit_transform(z)
    a = parts - parts.mean(0)
    b = v - v.mean(0)
    scale = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
    found = np.divide(np.abs(a.T @ b), scale, out=np.zeros_like(scale), where=scale > 0)
    return float(found.max(1).mean())


def _fitted(
    x: Floats,
    factor: Floats,
    fit: NDArray[np.int64],
    regressor: Regressor,
    noise: Noise,
) -> tuple[Floats, Floats]:
    """Return the importance ``(m,)`` of the codes, and the guesses ``(N,)``."""
    seed = noise.integer() % 2**32
    if regressor == "forest":
        forest = RandomForestRegressor(50, random_state=seed).fit(x[fit], factor[fit])
        return np.asarray(forest.feature_importances_), np.asarray(forest.predict(x))
    scale = factor[fit].std()
    model = LassoCV(cv=4, alphas=20, eps=1e-3, tol=1e-3, max_iter=200)
    with warnings.catch_warnings():
        # Codes that determine each other hardly converge along the path;
        # which weight is best, and R^2, are decided on other persons.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[fit], (factor[fit] - factor[fit].mean()) / scale)
    guess = factor[fit].mean() + scale * np.asarray(model.predict(x))
    return np.abs(np.asarray(model.coef_)), guess


def _purity(importance: Floats) -> float:
    """Return the mean over rows of 1 - entropy in units of its most, by their sums."""
    total = importance.sum()
    if total <= 0:
        return 0.0
    sums = importance.sum(1, keepdims=True)
    share = np.divide(importance, sums, out=np.zeros_like(importance), where=sums > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    count = importance.shape[1]
    entropy = -(share * logs).sum(1) / np.log(count) if count > 1 else 0 * sums[:, 0]
    return float(((1 - entropy) * sums[:, 0] / total).sum())


def _information(
    binned: NDArray[np.int64], factor: NDArray[np.int64], bins: int
) -> tuple[Floats, float]:
    """Return I(z_i; v) ``(m,)`` and H(v) in nats, by counts."""
    m, n = binned.shape
    levels = int(factor.max()) + 1
    cell = (np.arange(m)[:, None] * bins + binned) * levels + factor
    counts = np.bincount(cell.ravel(), minlength=m * bins * levels)
    joint = counts.reshape(m, bins, levels) / n
    z, v = joint.sum(2), joint[0].sum(0)
    alone = z[:, :, None] * v
    logs = np.log(joint, out=np.zeros_like(joint), where=joint > 0)
    logs -= np.log(alone, out=np.zeros_like(alone), where=joint > 0)
    positive = v[v > 0]
    return (joint * logs).sum((1, 2)), float(-(positive * np.log(positive)).sum())


def _binned(values: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin of each value, of `bins` of equal width over their range."""
    low, width = values.min(), np.ptp(values)
    if width <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return np.zeros(len(values), dtype=np.int64)
    place = (values - low) / width * bins
    return np.asarray(np.minimum(place.astype(np.int64), bins - 1))


def _levels(values: Floats, bins: int) -> NDArray[np.int64]:
    different, codes = np.unique(values, return_inverse=True)
    if len(different) <= FEW:
        return np.asarray(codes, dtype=np.int64)
    return _binned(values, bins)


def _halves(rows: int, noise: Noise) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(noise.child("halves").integer()).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]


def _some(values: list[float]) -> list[float]:
    if not values:
        raise DataError("no factor varies; there is nothing to tell apart")
    return values


def _checked(codes: ArrayLike, factors: ArrayLike) -> tuple[Floats, Floats]:
    z = np.asarray(codes, dtype=np.float64)
    v = np.asarray(factors, dtype=np.float64)
    check_shapes(z, v)
    if np.isnan(v).any() or not np.isfinite(z).all():
        raise DataError("codes and factors must be finite; leave the others out")
    if len(z) < LEAST:
        raise DataError(
            f"there are {len(z)} persons whose traits are all known; disentanglement "
            f"needs at least {LEAST}"
        )
    return z, v


def check_shapes(z: Floats, v: Floats) -> None:
    """Raise a DataError unless codes and factors are of the same persons."""
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v):
        raise DataError(
            f"codes have shape {z.shape} and factors {v.shape}; they must be "
            f"(persons, codes) and (persons, factors), of the same persons"
        )
