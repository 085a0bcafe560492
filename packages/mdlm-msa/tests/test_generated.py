"""Generated rows beside baselines: each baseline is found out, and nature is not."""

from dataclasses import replace

import numpy as np
import pytest

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import STATE_OF, encode
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.evaluation import generators
from mdlm_msa.evaluation.compare import (
    GENERATED,
    beside_baselines,
    measure,
    require_query,
)
from mdlm_msa.evaluation.generators import MUTATION, NATURAL, PSSM
from mdlm_msa.evaluation.verdict import COPIED, NO_BETTER, verdict
from mdlm_msa.gaps import coverage, gap_rate, gap_runs
from mdlm_msa.substitution import conditional


def states(*rows):
    return STATE_OF[np.stack([encode(row) for row in rows])]


@pytest.fixture(scope="module")
def family():
    """A query and 400 rows whose columns go together in pairs."""
    made = synthetic_families(1, Noise(7), rows=(401, 401), columns=(40, 40))[0]
    return made.alignment.states[0], made.alignment.states[1:]


def test_gaps_by_hand():
    rows = states("A--A-", "-----", "AAXAA")
    assert gap_runs(rows).tolist() == [1, 1, 0, 0, 1]
    assert np.allclose(coverage(rows), [0.4, 0, 0.8])
    assert np.allclose(gap_rate(rows), [0.6, 1, 0])


def test_natural_rows_are_a_random_choice():
    """In any order of the file, such as that of a search: the nearest rows first."""
    natural = np.arange(20, dtype=np.uint8).repeat(10).reshape(-1, 2)  # row i: i // 5
    ranks = []
    for seed in range(40):
        made = generators.all_of(natural[0], natural, natural, 10, Noise(seed))
        found = made[NATURAL][:, 0]
        assert len(found) == 10
        assert np.bincount(found).max() <= 5  # without replacement
        ranks.append(found.mean())
    assert np.mean(ranks) == pytest.approx(natural[:, 0].mean(), abs=1.0)
    made = generators.all_of(natural[0], natural, natural, 500, Noise(0))
    assert np.array_equal(made[NATURAL], natural)


def test_draws_follow_the_law():
    law = np.random.default_rng(0).dirichlet(np.ones(21), 3)
    rows = generators.draw(law, 40000, np.random.default_rng(1))
    for column in range(3):
        found = np.bincount(rows[:, column], minlength=21) / len(rows)
        assert np.abs(found - law[column]).max() < 0.01


def test_a_symbol_without_mass_is_never_drawn():
    law = np.zeros((1, 21))
    law[0, [3, 9]] = 0.5
    rows = generators.draw(law, 1000, np.random.default_rng(0))
    assert set(rows[:, 0].tolist()) == {3, 9}


def test_samples_of_a_profile_have_its_columns():
    draw = np.random.default_rng(0)
    natural = draw.integers(0, 20, (200, 12)).astype(np.uint8)
    natural[:100, 2] = 20
    natural[:, 7] = np.where(draw.random(200) < 0.9, 3, natural[:, 7])
    rows = generators.sample_pssm(natural, 4000, Noise(0))
    assert np.abs((rows == 20).mean(0) - (natural == 20).mean(0)).max() < 0.03
    assert (rows[:, 7] == 3).mean() == pytest.approx(0.9, abs=0.05)
    assert (generators.sample_pssm(natural, 4000, Noise(0)) == rows).all()


def test_mutated_queries_keep_what_they_should():
    draw = np.random.default_rng(0)
    query = draw.integers(0, 20, 60).astype(np.uint8)
    near = np.tile(query, (50, 1))
    change = draw.random(near.shape) < 0.3
    near[change] = draw.integers(0, 20, change.sum())
    near[:, 5:9] = 20
    rows = generators.mutate(query, near, 3000, Noise(0))
    assert (rows[:, 5:9] == 20).all()
    kept = np.delete(rows == query, range(5, 9), axis=1)
    expected = np.delete(near == query, range(5, 9), axis=1).mean()
    assert kept.mean() == pytest.approx(expected, abs=0.02)
    # rows that have nothing of the query: the law of substitution alone
    far = draw.integers(0, 20, near.shape).astype(np.uint8)
    rows = generators.mutate(query, far, 3000, Noise(0))
    stay = conditional().diagonal()[query].mean()
    assert (rows == query).mean() == pytest.approx(stay, abs=0.01)


def test_numbers_by_hand():
    query = states("ACDEF")[0]
    rows = states("ACDEF", "ACD--", "ACD--", "GGGGG")
    found, _ = measure(rows, states("ACDEY", "ACDEW"), query, known=rows[1:2])
    assert found.rows == 4
    assert found.duplicates == pytest.approx(2 / 4)  # the query, and one row twice
    assert found.identity_mean == pytest.approx(3 / 4)
    assert found.nearest == pytest.approx((0.8 + 1 + 1 + 0) / 4)
    assert found.nearest_query == pytest.approx(3 / 4)
    assert found.nearest_known == pytest.approx(3 / 4)
    assert found.repeated == pytest.approx(2 / 4)
    assert found.gap_error == pytest.approx(0.2)
    assert found.neff == pytest.approx(3)  # the two that are the same share a weight
    assert found.neff_share == pytest.approx(3 / 4)
    assert found.neff_gain is None
    gained, _ = measure(rows, rows, query, shown=query[None])
    assert gained.neff_gain == pytest.approx(2)


def judged(family, rows, **settings):
    query, natural = family
    found = beside_baselines(rows, natural[200:], query, Noise(0), **settings)
    return found, verdict(found)


def test_natural_rows_pass(family):
    found, says = judged(family, family[1][:100])
    assert says.better is True
    assert list(found.lines) == [GENERATED, *list(found.lines)[1:]]
    assert found.count == 100
    natural = found.lines[NATURAL]
    assert natural.residue_r > 0.1
    assert abs(found.lines[PSSM].residue_r) < 0.05
    assert found.lines[MUTATION].js > natural.js
    assert len(found.pssm_r) == 8


def test_samples_of_a_profile_fail(family):
    rows = generators.sample_pssm(family[1][:200], 100, Noise(1))
    found, says = judged(family, rows)
    assert says.better is False
    assert says.words == NO_BETTER
    assert "is needed" in says.reasons[0]
    # and the columns alone cannot tell
    assert found.lines[GENERATED].js < 1.3 * found.lines[NATURAL].js


def test_mutated_queries_fail(family):
    rows = generators.mutate(family[0], family[1][:200], 100, Noise(1))
    assert judged(family, rows)[1].better is False


def test_copies_fail(family):
    query, natural = family
    of_query = judged(family, generators.copies(query, 50))[1]
    assert (of_query.better, of_query.words) == (False, COPIED)
    of_reference = judged(family, natural[200:300])[1]
    assert (of_reference.better, of_reference.words) == (False, COPIED)
    of_known = judged(family, natural[:50], known=natural[:50])[1]
    assert "100% of the rows repeat" in of_known.reasons[0]
    shallow = beside_baselines(
        generators.copies(query, 9), natural[:10], query, Noise(0)
    )
    assert verdict(shallow).better is False


def test_scrambled_columns_fail(family):
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 20, (100, len(family[0]))).astype(np.uint8)
    says = judged(family, rows)[1]
    assert "further from the reference" in says.reasons[0]


def test_too_little_to_tell_is_said(family):
    query, natural = family
    shallow = beside_baselines(natural[:5], natural[5:15], query, Noise(0))
    says = verdict(shallow)
    assert says.better is None
    assert "10 homologues" in says.reasons[0]
    assert list(shallow.lines) == [GENERATED]
    draw = np.random.default_rng(0)
    worse = draw.integers(0, 20, (7, len(query))).astype(np.uint8)
    for rows in (natural[:7], worse):
        few = judged(family, rows)[1]
        assert few.better is None
        assert "there are 7 rows" in few.reasons[0]


def test_a_difference_that_is_not_seen_is_none(family):
    """Columns as far from the reference as those of mutated queries: pairs decide."""
    found = judged(family, generators.sample_pssm(family[1][:200], 100, Noise(1)))[0]
    rows, mutated = found.lines[GENERATED], found.lines[MUTATION]
    for more, words in ((0.0049, "is needed"), (0.0051, "further from")):
        lines = {**found.lines, GENERATED: replace(rows, js=mutated.js + more)}
        assert words in verdict(replace(found, lines=lines)).reasons[0]


def test_the_same_noise_gives_the_same_numbers(family):
    one, other = (judged(family, family[1][:60], most=40)[0] for _ in range(2))
    assert repr(one.lines) == repr(other.lines)
    assert one.count == 40
    assert "40 of the 60 generated rows" in one.notes[0]


def test_another_query_is_refused():
    require_query("ACD", "ACD", "x")
    with pytest.raises(DataError, match="has 2 columns"):
        require_query("ACD", "AC", "x")
    with pytest.raises(DataError, match="has G in column 2"):
        require_query("ACD", "AGD", "x")
