"""Which rows are chosen, against enumeration, closed forms and plain loops."""

from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare

from mdlm_core.errors import UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.clusters import clusters, dbscan
from mdlm_msa.config.data import Selection
from mdlm_msa.selection import select_rows

from .family_toys import aligned, relatives

WAYS: tuple[Any, ...] = get_args(Selection)
NOISE = Noise(5)


@pytest.mark.parametrize("how", WAYS)
def test_every_way_never_takes_the_query_or_a_row_twice(how: Selection) -> None:
    alignment = relatives(40, 25, change=0.5)
    for count in (0, 1, 7, 39, 1000):
        found = select_rows(alignment, count, how, NOISE.child(count))
        assert found.dtype == np.int64
        assert len(set(found.tolist())) == len(found)
        assert not len(found) or (found.min() >= 1 and found.max() < 40)
        if how != "cluster":  # a subfamily may be smaller
            assert len(found) == min(count, 39)
        again = select_rows(alignment, count, how, NOISE.child(count))
        np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("how", WAYS)
def test_too_few_rows_are_no_error(how: Selection) -> None:
    assert select_rows(aligned("ACD"), 64, how, NOISE).tolist() == []
    assert select_rows(aligned("ACD", "ACE"), 64, how, NOISE).tolist() == [1]
    only = np.array([0, 2], np.int64)
    found = select_rows(aligned("ACD", "ACE", "AWE"), 64, how, NOISE, among=only)
    assert found.tolist() == [2]


def test_top_is_the_order_of_the_file_and_random_is_even() -> None:
    alignment = relatives(6, 10)
    assert select_rows(alignment, 3, "top", NOISE).tolist() == [1, 2, 3]
    seen: Counter[tuple[int, ...]] = Counter()
    for i in range(2000):
        pair = select_rows(alignment, 2, "random", NOISE.child(i))
        seen[tuple(sorted(pair.tolist()))] += 1
    assert len(seen) == 10
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_unknown_way() -> None:
    way: Any = "best"
    with pytest.raises(UnknownNameError, match="random, top, maxmin"):
        select_rows(relatives(4, 5), 2, way, NOISE)


def test_maxmin_is_the_farthest_row_each_time() -> None:
    alignment = relatives(60, 33, change=0.6)
    distance = cdist(alignment.rows, alignment.rows, "hamming")
    starts = set()
    for seed in range(5):
        found = select_rows(alignment, 15, "maxmin", NOISE.child(seed)).tolist()
        starts.add(found[0])
        for k in range(1, 15):
            rest = [r for r in range(1, 60) if r not in found[:k]]
            nearest = distance[np.ix_(rest, found[:k])].min(1)
            assert nearest[rest.index(found[k])] == nearest.max()
    assert len(starts) > 1  # the first is drawn


def test_maxmin_leaves_the_query_out_of_the_distances() -> None:
    """Row 1 equals the query, and is still the farthest from the others."""
    alignment = aligned("AAAA", "AAAA", "WWWW", "WWWV")
    for seed in range(4):
        found = select_rows(alignment, 2, "maxmin", NOISE.child(seed)).tolist()
        assert 1 in found


def test_maxmin_of_rows_that_are_the_same() -> None:
    alignment = aligned("AAAA", *["CCCC"] * 4)
    found = select_rows(alignment, 3, "maxmin", NOISE).tolist()
    assert len(set(found)) == 3


def test_weighted_is_without_replacement_in_proportion() -> None:
    """The chance of i then j is w_i / W * w_j / (W - w_i)."""
    alignment = relatives(4, 10)
    weights = np.array([9.0, 1.0, 2.0, 4.0])
    draws = 3000
    seen: Counter[tuple[int, ...]] = Counter()
    for i in range(draws):
        pair = select_rows(
            alignment, 2, "weighted", NOISE.child(i), weights=weights
        ).tolist()
        seen[tuple(pair)] += 1
    pairs = [(i, j) for i in (1, 2, 3) for j in (1, 2, 3) if i != j]
    chance = [weights[i] / 7 * weights[j] / (7 - weights[i]) for i, j in pairs]
    assert sum(chance) == pytest.approx(1)
    expected = np.array(chance) * draws
    assert chisquare([seen[pair] for pair in pairs], expected).pvalue > 1e-3


def test_weighted_prefers_rows_that_stand_alone() -> None:
    crowd = ["ACDEFGHIKL"] * 18
    alignment = aligned("MMMMMMMMMM", *crowd, "WWWWWWWWWW")
    alone = sum(
        19 in select_rows(alignment, 1, "weighted", NOISE.child(i)).tolist()
        for i in range(200)
    )
    assert 70 < alone < 130  # the crowd shares a weight of 1


def subfamilies(seed: int = 0) -> tuple[Any, np.ndarray]:
    """Return three subfamilies of 30, 20 and 10 rows, mixed, and who is in which."""
    sizes, rng = (30, 20, 10), np.random.default_rng(seed)
    parts = [relatives(n, 40, seed=9 + i, change=0.1) for i, n in enumerate(sizes)]
    order = rng.permutation(60)
    texts = np.concatenate([part.rows for part in parts])[order]
    owner = np.repeat([0, 1, 2], sizes)[order]
    first = aligned("A" * 40)
    from dataclasses import replace

    rows = np.concatenate([first.rows, texts])
    return replace(first, rows=rows, headers=("",) * 61), owner


def test_planted_subfamilies_are_found() -> None:
    alignment, owner = subfamilies()
    labels = clusters(alignment.states)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels[1:], owner)  # by size
    sizes = Counter()
    for i in range(300):
        found = select_rows(alignment, 12, "cluster", NOISE.child(i), labels=labels)
        one = set(owner[found - 1].tolist())
        assert len(one) == 1
        sizes[one.pop()] += 1
    share = np.bincount(owner) / 60
    assert chisquare([sizes[c] for c in range(3)], 300 * share).pvalue > 1e-3


def test_density_against_the_plain_algorithm() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 40, (60, 2))
    distance = np.abs(points[:, None] - points[None]).sum(-1).astype(np.int32)
    for radius in (1, 3, 5, 8, 80):
        found = dbscan(distance, radius, 3)
        near = distance <= radius
        core = near.sum(1) >= 3
        owner = np.full(60, -1)
        for start in range(60):  # grow each cluster from core to core
            if core[start] and owner[start] < 0:
                owner[start] = start
                todo = [start]
                while todo:
                    here = todo.pop()
                    for there in (near[here] & core).nonzero()[0].tolist():
                        if owner[there] < 0:
                            owner[there] = start
                            todo.append(there)
        same = owner[core][:, None] == owner[core][None]
        np.testing.assert_array_equal(found[core][:, None] == found[core][None], same)
        border = ~core & (near & core[None]).any(1)
        assert (found[border] >= 0).all()
        assert (found[~core & ~border] == -1).all()
        for row in border.nonzero()[0]:
            there = (core & (found == found[row])).nonzero()[0]
            assert distance[row, there].min() == distance[row, core].min()


def test_no_density_is_one_family() -> None:
    assert clusters(aligned("AAAA").states).tolist() == [0]
    assert clusters(aligned("AAAA", "CCCC").states).tolist() == [0, 0]
