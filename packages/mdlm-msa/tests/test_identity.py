"""Identities and weights against loops, scipy, and numbers of real families."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mdlm_msa.alphabet import STATE_OF, Ids
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.identity import (
    Planes,
    alike,
    equal_columns,
    identity_all,
    identity_pair,
    nearest_identity,
)
from mdlm_msa.weights import neff, sequence_weights

from .family_toys import REAL, aligned, relatives


def random_states(rows: int, columns: int, seed: int = 0) -> Ids:
    """Return states of all kinds: residues, gaps, and letters without a state."""
    rng = np.random.default_rng(seed)
    return STATE_OF[rng.integers(1, 28, (rows, columns)).astype(np.uint8)]


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 200])
def test_identity_over_all_columns(columns: int) -> None:
    a, b = random_states(9, columns), random_states(7, columns, seed=1)
    expected = 1 - cdist(a, b, "hamming")
    np.testing.assert_allclose(identity_all(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(identity_all(a), 1 - cdist(a, a, "hamming"), atol=1e-6)


@pytest.mark.parametrize("columns", [1, 64, 130])
def test_identity_where_both_have_a_residue(columns: int) -> None:
    a, b = random_states(9, columns), random_states(7, columns, seed=1)
    b[:, ::2] = a[:7, ::2]
    expected = np.zeros((9, 7))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            both = [(p, q) for p, q in zip(x, y, strict=True) if p < 20 and q < 20]
            if both:
                expected[i, j] = sum(p == q for p, q in both) / len(both)
    np.testing.assert_allclose(identity_pair(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(nearest_identity(a, b), expected.max(1), atol=1e-6)


def test_the_two_measures_by_hand() -> None:
    states = aligned("ACDE-", "AC---", "-----", "ACXEX").states
    found = identity_all(states)
    np.testing.assert_allclose(found[0], [1, 0.6, 0.2, 0.6])
    found = identity_pair(states)
    np.testing.assert_allclose(found[0], [1, 1, 0, 1])
    np.testing.assert_allclose(found[2], [0, 0, 0, 0])  # no column in common
    assert nearest_identity(states, states[:0]).tolist() == [0, 0, 0, 0]


def test_tables_larger_than_a_tile() -> None:
    states = random_states(300, 70)
    np.testing.assert_allclose(
        identity_all(states), 1 - cdist(states, states, "hamming"), atol=1e-6
    )


@pytest.mark.parametrize("columns", [7, 64, 150])
def test_alike_is_the_count_of_equal_columns(columns: int) -> None:
    """Among few rows that are alike, and among many."""
    for change in (0.02, 0.5):
        states = relatives(200, columns, change=change).states
        planes, plain = Planes.sorted(states), Planes.of(states)
        equal = equal_columns(plain, plain)
        np.testing.assert_array_equal(equal_columns(planes, planes), equal)
        for least in (0, columns // 2, columns - columns // 10, columns):
            np.testing.assert_array_equal(alike(planes, planes, least), equal >= least)
        part = planes.select(slice(3, 20))
        np.testing.assert_array_equal(
            alike(part, planes, columns // 2), equal[3:20] >= columns // 2
        )


def test_weights_against_a_loop() -> None:
    states = relatives(300, 41, change=0.25).states
    near = (1 - cdist(states, states, "hamming")) >= 0.8 - 1e-9
    np.testing.assert_allclose(sequence_weights(states), 1 / near.sum(1))
    assert neff(states) == pytest.approx((1 / near.sum(1)).sum())
    assert 1 < neff(states) < 300


def test_threshold_is_reached_exactly() -> None:
    """8 of 10 equal columns are 80 %, in spite of the binary form of 0.8."""
    states = aligned("AAAAAAAAAA", "AAAAAAAACC", "AAAAAAADDD").states
    np.testing.assert_allclose(sequence_weights(states), [1 / 2, 1 / 2, 1])
    same = aligned(*["ACDEF"] * 4).states
    assert neff(same) == 1


@pytest.mark.parametrize("name", ["1bcf", "1ycr", "5tpn", "hmmer_fn3"])
def test_numbers_of_real_families(name: str) -> None:
    if not REAL.is_dir():
        pytest.skip("the real families are not beside the checkout")
    facts = json.loads((REAL / "stats.json").read_text())[name]
    states = read_alignment(REAL / f"{name}.a3m.gz").states
    assert neff(states) == pytest.approx(facts["neff"])
    middle = np.median(identity_pair(states[:1], states[1:]))
    assert middle == pytest.approx(facts["id_med"], abs=1e-6)
