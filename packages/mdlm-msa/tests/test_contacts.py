"""Contacts: planted couplings come back, precision and files by hand."""

import numpy as np
import pytest

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.evaluation import contacts_mf
from mdlm_msa.evaluation.contacts_mf import (
    Structure,
    mean_field,
    pair_scores,
    precision,
    precisions,
    random_precision,
    read_structure,
)
from mdlm_msa.evaluation.contacts_plm import fit
from mdlm_msa.evaluation.potts import Potts

S = 21
PLANTED = {(0, 7), (1, 9), (3, 11), (4, 10)}


@pytest.fixture(scope="module")
def planted():
    """Rows of a Potts model with four coupled pairs of twelve columns, and a chain."""
    draw = np.random.default_rng(0)
    fields = draw.normal(0, 0.5, (12, S))
    couplings = np.zeros((12, S, 12, S))
    for i, j in PLANTED:
        block = draw.normal(0, 1.5, (S, S))
        couplings[i, :, j], couplings[j, :, i] = block, block.T
    return Potts(fields, couplings).sample(1500, Noise(0), sweeps=15)


def strongest(scores, count=4):
    i, j = np.triu_indices(len(scores), 1)
    best = np.argsort(-scores[i, j])[:count]
    return set(zip(i[best].tolist(), j[best].tolist(), strict=True))


def test_mean_field_finds_planted_couplings(planted):
    assert strongest(pair_scores(mean_field(planted))) == PLANTED


def test_pseudo_likelihood_finds_planted_couplings(planted):
    model = fit(planted, steps=20)
    assert strongest(pair_scores(model.couplings)) == PLANTED
    assert np.allclose(model.couplings, model.couplings.transpose(2, 3, 0, 1))


def test_mean_field_by_loops():
    draw = np.random.default_rng(1)
    states = draw.integers(0, S, (40, 3)).astype(np.uint8)
    states[3, 1] = 255  # counts as a gap
    weights = draw.random(40)
    share = weights / weights.sum()
    kept = np.minimum(states, 20)
    single = np.full((3, S), 0.5 / S)
    joint = np.full((3, S, 3, S), 0.5 / S**2)
    for row, mass in zip(kept, share, strict=True):
        for i in range(3):
            single[i, row[i]] += 0.5 * mass
            for j in range(3):
                joint[i, row[i], j, row[j]] += 0.5 * mass
    for i in range(3):
        joint[i, :, i] = np.diag(single[i])
    covariance = joint - single[:, :, None, None] * single[None, None]
    small = covariance[:, :20, :, :20].reshape(60, 60)
    expected = -np.linalg.inv(small).reshape(3, 20, 3, 20)
    found = mean_field(states, weights)
    assert np.allclose(found[:, :20, :, :20], expected, rtol=1e-3, atol=1e-3)
    assert not found[:, 20].any()


def test_scores_by_loops():
    draw = np.random.default_rng(2)
    couplings = draw.normal(size=(4, S, 4, S))
    couplings = couplings + couplings.transpose(2, 3, 0, 1)
    norm = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            if i != j:
                b = couplings[i, :, j]
                b = b - b.mean(0) - b.mean(1)[:, None] + b.mean()
                norm[i, j] = np.linalg.norm(b[:20, :20])
    mean = norm.sum(1) / 3
    expected = norm - np.outer(mean, mean) / (norm.sum() / 12)
    np.fill_diagonal(expected, 0)
    assert np.allclose(pair_scores(couplings), expected)


def test_a_change_of_gauge_changes_no_score():
    draw = np.random.default_rng(3)
    couplings = draw.normal(size=(4, S, 4, S))
    couplings = couplings + couplings.transpose(2, 3, 0, 1)
    shift = draw.normal(size=(4, 4, S))
    moved = couplings + shift.transpose(0, 2, 1)[:, :, :, None]
    moved = moved + shift.transpose(1, 0, 2)[:, None]
    assert np.allclose(pair_scores(moved), pair_scores(couplings))


def line(columns):
    """Columns along a line, ten Angstrom apart, but 0 and 8 near each other."""
    places = np.zeros((columns, 3))
    places[:, 0] = 10.0 * np.arange(columns)
    places[8] = 0, 5, 0
    return Structure(places)


def test_precision_by_hand():
    structure = line(10)
    scores = np.zeros((10, 10))
    scores[0, 8] = scores[8, 0] = 3
    scores[1, 9] = scores[9, 1] = 4
    # ten pairs are |i - j| >= 6 apart; one of them is in contact
    assert random_precision(structure) == pytest.approx(1 / 10)
    assert precision(scores, structure) == pytest.approx(1 / 10)
    assert precision(scores, structure, per=5) == pytest.approx(1 / 2)
    assert np.isnan(precision(scores, structure, separation=24))
    assert list(precisions(scores, structure)) == [
        "P@L |i-j|>=6",
        "P@L/5 |i-j|>=6",
        "P@L |i-j|>=24",
        "P@L/5 |i-j|>=24",
    ]


def test_pairs_that_the_structure_lacks_are_not_ranked():
    structure = line(10)
    structure.places[9] = np.nan
    scores = np.zeros((10, 10))
    scores[1, 9] = 4
    scores[0, 8] = 3
    assert structure.known == 9
    assert precision(scores, structure, per=10) == 1


def test_a_structure_is_read(tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("# column\tresidue\n1\tM\t0\t0\t0\n\n3 K 0 3 4\n")
    found = read_structure(path, "MXK")
    assert found.known == 2
    assert found.distances[0, 2] == pytest.approx(5)
    assert np.isnan(found.distances[0, 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 M 0 0", "line 1: '1 M 0 0' is not column"),
        ("x M 0 0 0", "line 1"),
        ("4 M 0 0 0", "column 4, and the query has 3"),
        ("1 M 0 0 0\n2 L 0 0 0", "line 2: column 2 is L, and the query has A"),
        ("# nothing\n", "no place"),
    ],
)
def test_what_is_no_structure_is_refused(tmp_path, text, said):
    path = tmp_path / "s.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_structure(path, "MAK")
    with pytest.raises(DataError, match="cannot be read"):
        read_structure(tmp_path / "none", "MAK")


def test_the_contact_distance_is_eight_angstrom():
    assert contacts_mf.CONTACT == 8
