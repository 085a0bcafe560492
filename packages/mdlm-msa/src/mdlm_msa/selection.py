"""Which rows of a family are shown or used: five ways to choose.

Letters: R rows, L columns, M homologues.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import UnknownNameError
from mdlm_core.kernels.noise import Noise

from .alignment import Alignment
from .alphabet import Ids
from .clusters import clusters
from .config.data import Selection
from .identity import Planes, equal_columns
from .weights import sequence_weights

Places = NDArray[np.int64]


def select_rows(
    alignment: Alignment,
    count: int,
    how: Selection,
    noise: Noise,
    *,
    among: Places | None = None,
    weights: NDArray[np.float64] | None = None,
    labels: Places | None = None,
) -> Places:
    """Return the numbers of `count` homologues, or of all if there are fewer.

    The query, row 0, is never among them.

    Args:
        alignment: the query first.
        count: how many.
        how: random: all alike. top: the first of the file, which search tools order by
            likeness. maxmin: one at random, then always the row whose nearest chosen
            row is farthest (EvoDiff's MaxHamming; the query does not count). weighted:
            by sequence weight, without replacement. cluster: rows of one subfamily,
            drawn by its size, see `clusters.clusters`; fewer if it has fewer.
        noise: decides what is drawn.
        among: choose among these rows; None means all homologues.
        weights: ``(R,)`` of all rows, if they are known already.
        labels: ``(R,)`` subfamily of each row, if it is known already.

    Returns:
        ``(min(count, M),)`` int64, in the order of choice.

    Raises:
        UnknownNameError: if there is no such way.
    """
    pool = np.arange(1, alignment.depth) if among is None else np.asarray(among)
    pool = pool[pool > 0].astype(np.int64)
    count = max(0, min(count, len(pool)))
    rng = np.random.default_rng(noise.integer())
    if how == "random":
        return rng.permutation(pool)[:count]
    if how == "top":
        return np.sort(pool)[:count]
    if how == "maxmin":
        return pool[max_min(alignment.states[pool], count, rng)]
    if how == "weighted":
        known = sequence_weights(alignment.states) if weights is None else weights
        return pool[_by_weight(known[pool], count, rng)]
    if how == "cluster":
        if labels is None:
            labels = clusters(alignment.states)
        found = labels[pool]
        if not len(found):
            return pool
        one = rng.permutation(pool[found == rng.choice(found)])
        return one[:count]
    raise UnknownNameError(
        f"there is no selection '{how}'; there are {', '.join(get_args(Selection))}"
    )


def max_min(states: Ids, count: int, rng: np.random.Generator) -> Places:
    """Return `count` rows of ``(R, L)``, each as far as can be from those before it.

    The first is drawn. The distance is the number of columns that differ; of rows that
    are equally far, the first is taken.
    """
    planes = Planes.of(states)
    if not count:
        return np.zeros(0, np.int64)
    chosen = [int(rng.integers(len(planes)))]
    near = np.full(len(planes), np.iinfo(np.int32).max, np.int32)
    while len(chosen) < count:
        last = planes.select(np.array(chosen[-1:]))
        np.minimum(near, planes.length - equal_columns(last, planes)[0], out=near)
        near[chosen[-1]] = -1
        chosen.append(int(near.argmax()))
    return np.array(chosen, np.int64)


def _by_weight(
    weights: NDArray[np.float64], count: int, rng: np.random.Generator
) -> Places:
    """Return `count` places drawn without replacement in proportion to `weights`.

    The exponential race: the smallest of E_i / w_i is i with chance w_i / sum w.
    """
    race = rng.exponential(size=len(weights)) / weights
    order: Places = np.argsort(race, kind="stable")[:count]
    return order
