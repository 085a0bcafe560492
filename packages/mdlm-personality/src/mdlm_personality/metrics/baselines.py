"""Scores of disentanglement beside those of what separates nothing.

Beside every score stands that of a random map of the same factors, which knows
everything and separates nothing, that of the same codes given to other persons, which
knows nothing, and that of a constant.

Letters: N persons, m coordinates (codes), K factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mdlm_core.kernels.noise import Noise

from .disentanglement import Regressor, check_shapes, dci, mig, pca_score, sap
from .intervals import Floats


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a representation beside those of what is none."""

    value: float
    random: float
    """The mean over random linear maps of the factors to as many codes."""
    random_sd: float
    shuffled: float
    """The mean over the same codes given to other persons."""
    shuffled_sd: float
    constant: float
    """Of codes that are the same for all."""


def random_codes(factors: ArrayLike, codes: int, *, noise: Noise) -> Floats:
    """Return ``(N, codes)``: a linear map of the factors with Gaussian weights."""
    v = np.asarray(factors, dtype=np.float64)
    generator = np.random.default_rng(noise.integer())
    return np.asarray(v @ generator.standard_normal((v.shape[1], codes)))


def report(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    noise: Noise,
    repeats: int = 10,
    regressor: Regressor = "lasso",
    rows: int = 1000,
) -> dict[str, Score]:
    """Return every score beside its baselines.

    Args:
        codes: ``(N, m)``.
        factors: ``(N, K)``; persons of whom a factor is NaN are left out.
        noise: decides halves, maps and shuffles.
        repeats: random maps and shuffles of which the mean is shown; DCI, the
            slowest, takes two.
        regressor: of DCI.
        rows: persons at most, drawn at random.

    Raises:
        DataError: if fewer than `LEAST` persons are left.
    """
    z = np.asarray(codes, dtype=np.float64)
    v = np.asarray(factors, dtype=np.float64)
    check_shapes(z, v)
    places = np.flatnonzero(~np.isnan(v).any(1))
    if len(places) > rows:
        order = np.random.default_rng(noise.child("rows").integer())
        places = np.sort(order.permutation(places)[:rows])
    z, v = z[places], v[places]
    half = noise.child("half")
    quick: Mapping[str, Callable[[Floats], float]] = {
        "MIG": lambda x: mig(x, v),
        "SAP": lambda x: sap(x, v, noise=half),
        "PCA score": lambda x: pca_score(x, v),
    }

    def separated(x: Floats) -> dict[str, float]:
        found = dci(x, v, noise=half, regressor=regressor)
        return {
            "DCI disentanglement": found.disentanglement,
            "DCI completeness": found.completeness,
            "DCI informativeness": found.informativeness,
        }

    def random(i: int) -> Floats:
        return random_codes(v, z.shape[1], noise=noise.child("map", i))

    def shuffled(i: int) -> Floats:
        generator = np.random.default_rng(noise.child("shuffle", i).integer())
        return np.asarray(z[generator.permutation(len(z))])

    def scores(x: Floats, slow: bool) -> dict[str, float]:
        found = {name: score(x) for name, score in quick.items()}
        return found | separated(x) if slow else found

    value = scores(z, True)
    maps = [scores(random(i), i < 2) for i in range(repeats)]
    others = [scores(shuffled(i), i < 2) for i in range(repeats)]
    constant = scores(np.zeros_like(z), True)
    return {
        name: Score(
            value[name],
            *_mean_sd([each[name] for each in maps if name in each]),
            *_mean_sd([each[name] for each in others if name in each]),
            constant[name],
        )
        for name in value
    }


def _mean_sd(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))
