"""Synthetic families: the same each time, and as they say they are."""

import numpy as np
import pytest

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import ID_OF_BYTE
from mdlm_msa.data.family import Family
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.identity import identity_pair
from mdlm_msa.substitution import background, blosum62


@pytest.fixture(scope="module")
def families() -> list[Family]:
    return synthetic_families(24, Noise(0))


def test_they_depend_on_the_noise_alone(families: list[Family]) -> None:
    again = synthetic_families(3, Noise(0))  # and not on how many there are
    other = synthetic_families(3, Noise(1))
    for i in range(3):
        here, there = again[i].alignment, families[i].alignment
        np.testing.assert_array_equal(here.rows, there.rows)
        assert here.letters == there.letters
        assert here.headers == there.headers
        assert other[i].alignment.query != here.query
    assert [family.name for family in again] == [f"synthetic-00{i}" for i in range(3)]


def test_sizes_and_rows(families: list[Family]) -> None:
    for family in families:
        alignment = family.alignment
        assert 60 <= alignment.depth <= 200
        assert 30 <= alignment.length <= 60
        assert len(alignment.headers) == alignment.depth
        assert (alignment.is_residue | alignment.is_gap).all()
        assert alignment.is_residue[0].all()  # the query defines the columns
        assert alignment.is_residue.any(1).all()
        assert family.train_rows.tolist() == list(range(1, alignment.depth))
        assert not len(family.held_out_rows)
    small = synthetic_families(2, Noise(3), rows=(2, 2), columns=(8, 8))
    assert [family.alignment.rows.shape for family in small] == [(2, 8), (2, 8)]


def test_insertions_leave_the_columns_as_they_are(families: list[Family]) -> None:
    letters = families[0].alignment.letters
    assert letters is not None
    lower = bytes(range(ord("a"), ord("z") + 1))
    rows = [
        ID_OF_BYTE[np.frombuffer(row.translate(None, lower), np.uint8)]
        for row in letters
    ]
    np.testing.assert_array_equal(np.stack(rows), families[0].alignment.rows)
    assert letters[0] == letters[0].upper()
    assert any(row != row.upper() for row in letters)


def test_rows_are_relatives_of_many_degrees(families: list[Family]) -> None:
    for family in families:
        states = family.alignment.states
        alike = identity_pair(states[:1], states[1:])[0]
        assert 0.2 < np.median(alike) < 0.75
        assert alike.max() - alike.min() > 0.15
    gaps = np.mean([family.alignment.is_gap.mean() for family in families])
    assert 0.02 < gaps < 0.2


def test_gaps_come_in_runs_that_relatives_share(families: list[Family]) -> None:
    """Runs inside of rows, not the ends of fragments."""
    lengths, shared = [], []
    for family in families:
        gap = np.pad(family.alignment.is_gap[1:], ((0, 0), (1, 1)))
        step = np.diff(gap.astype(int), axis=1)
        starts, ends = np.argwhere(step == 1), np.argwhere(step == -1)
        inside = (starts[:, 1] > 0) & (ends[:, 1] < family.alignment.length)
        runs = np.stack([starts[inside, 1], ends[inside, 1]], 1)
        lengths += (runs[:, 1] - runs[:, 0]).tolist()
        shared.append(len(np.unique(runs, axis=0)) / len(runs))
    assert 3 < np.mean(lengths) < 6
    assert np.mean(shared) < 0.5


def test_substitutions_are_those_of_blosum(families: list[Family]) -> None:
    """Log odds of pairs in a column go with the scores, as in real families."""
    counts = np.zeros((20, 20))
    for family in families:
        states = family.alignment.states
        for column in states.T:
            n = np.bincount(column[column < 20], minlength=20).astype(float)
            counts += np.outer(n, n) - np.diag(n)
    p = counts / counts.sum()
    marginal = p.sum(0)
    odds = np.log2(p / np.outer(marginal, marginal))
    upper = np.triu_indices(20, 1)
    assert np.corrcoef(odds[upper], blosum62()[upper])[0, 1] > 0.5
    assert np.corrcoef(marginal, background())[0, 1] > 0.6


def test_contacts_are_the_pairs_that_vary_together(families: list[Family]) -> None:
    """Of all pairs of columns the contacts have the highest corrected information."""
    hits, total = 0, 0
    for family in families:
        contacts = family.contacts
        assert contacts is not None
        assert (contacts[:, 1] - contacts[:, 0] >= 4).all()
        assert len(set(contacts.ravel().tolist())) == contacts.size
        found = strongest(family, len(contacts))
        hits += len(found & {tuple(pair) for pair in contacts.tolist()})
        total += len(contacts)
    assert total > 100
    assert hits / total > 0.4  # by chance less than 0.01


def strongest(family: Family, count: int) -> set[tuple[int, int]]:
    """Return the pairs with most mutual information, less the product of means."""
    states = family.alignment.states
    hot = np.stack([states == a for a in range(20)], -1).astype(float)  # (R, L, 20)
    rows, columns = states.shape
    flat = hot.reshape(rows, -1)
    joint = (flat.T @ flat / rows).reshape(columns, 20, columns, 20)
    single = hot.mean(0)
    product = single[:, :, None, None] * single[None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / product), 0)
    table = terms.sum((1, 3))
    np.fill_diagonal(table, 0)
    mean = table.sum(0) / (columns - 1)
    table -= np.outer(mean, mean) / mean.mean()
    table[np.abs(np.subtract.outer(range(columns), range(columns))) < 4] = -1
    i, j = np.triu_indices(columns, 1)
    best = np.argsort(-table[i, j])[:count]
    return set(zip(i[best].tolist(), j[best].tolist(), strict=True))
