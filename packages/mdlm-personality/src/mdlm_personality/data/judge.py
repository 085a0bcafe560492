"""What the words of a text tell about who wrote it, under the law of the corpus.

Letters: N texts, K columns, the five traits, then the labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import log_expit, logsumexp, softmax

from mdlm_personality.traits import TRAITS

from .lexicon import COLUMNS, MEANING
from .planted import NOISE, planted_total_effects
from .texts import Places, Values


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the words of N texts tell about K columns; see `judge`."""

    columns: tuple[str, ...]
    high: Places
    """``(N, K)``: words of a high value."""
    low: Places
    """``(N, K)``: words of a low value."""
    mean: Values
    """``(N, K)``: the posterior mean; NaN where no word tells anything."""
    log_odds: Values
    """``(N, K)``: log p(value > 0.5 | words) / p(value < 0.5 | words); NaN likewise,
    and 0 where both sides have as many words."""


_WORD = re.compile(r"[a-z]+")


def count_words(texts: Sequence[str]) -> tuple[Places, Places]:
    """Return how many high and low words of each column a text has, each ``(N, K)``."""
    place = {
        word: 2 * COLUMNS.index(column) + side
        for word, (column, side) in MEANING.items()
    }
    found = np.zeros((len(texts), 2 * len(COLUMNS)), dtype=np.int64)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            if word in place:
                found[row, place[word]] += 1
    return found[:, 1::2], found[:, 0::2]


def judge(texts: Sequence[str], *, effect: float = 8.0) -> Judgement:
    """Return what the planted law says about who wrote each of `texts`.

    By Bayes' rule from the words of each column alone: the prior is the law by which
    persons are drawn, uniform for a trait, and each word is independent given the
    value. Nothing is fitted.

    Args:
        texts: N texts, whole or cut anywhere; unknown words tell nothing.
        effect: ``data.effect`` of the corpus.
    """
    high, low = count_words(texts)
    mean = np.full(high.shape, np.nan)
    log_odds = np.full(high.shape, np.nan)
    for column in range(len(COLUMNS)):
        grid, log_prior = _prior(column)
        counts = np.stack([high[:, column], low[:, column]], axis=1)
        kinds, back = np.unique(counts, axis=0, return_inverse=True)
        score = effect * (grid - 0.5)
        joint = kinds @ np.stack([log_expit(score), log_expit(-score)]) + log_prior
        told = kinds.sum(axis=1) > 0
        means = np.where(told, softmax(joint, axis=1) @ grid, np.nan)
        above = logsumexp(joint[:, grid > 0.5], axis=1)
        odds = above - logsumexp(joint[:, grid < 0.5], axis=1)
        odds = np.where(kinds[:, 0] == kinds[:, 1], 0.0, odds)  # exactly: symmetry
        odds = np.where(told, odds, np.nan)
        mean[:, column] = means[back.reshape(-1)]
        log_odds[:, column] = odds[back.reshape(-1)]
    return Judgement(COLUMNS, high, low, mean, log_odds)


@cache
def _prior(column: int) -> tuple[Values, Values]:
    """Return points of quadrature on a column's values, and their log weights.

    A trait is uniform: Gauss-Legendre on both halves of [0, 1]. A label is a weighted
    sum of independent uniform and normal numbers; its density is the inverse Fourier
    transform of the product of their characteristic functions.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    if column < len(TRAITS):
        grid = np.concatenate([(nodes + 1) / 4, (nodes + 3) / 4])
        return grid, np.log(np.concatenate([weights, weights]) / 4)
    effects = planted_total_effects()[:, column]
    traits, own = effects[: len(TRAITS)], effects[len(TRAITS) :]
    deviation = NOISE * float(np.sqrt((own**2).sum()))
    reach = 0.5 * float(np.abs(traits).sum()) + 8 * deviation
    half = reach * (nodes + 1) / 2
    grid = np.concatenate([-half[::-1], half])
    weights = np.concatenate([weights[::-1], weights]) * reach / 2
    frequency = np.linspace(0, 9 / deviation, 4001)
    transform = np.exp(-0.5 * (deviation * frequency) ** 2)
    for effect in traits:
        transform = transform * np.sinc(effect * frequency / (2 * np.pi))
    density = np.trapezoid(
        transform * np.cos(np.outer(grid, frequency)), frequency, axis=1
    )
    mass = np.maximum(density / np.pi, 1e-300) * weights
    return grid + 0.5, np.log(mass)
