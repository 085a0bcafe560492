"""Column statistics agree with scipy and with tables made by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr

from mdlm_core.errors import DataError
from mdlm_msa.alphabet import RESIDUES, STATE_OF, encode
from mdlm_msa.evaluation import profile


def states(*rows):
    return STATE_OF[np.stack([encode(row) for row in rows])]


def of(letter):
    return 20 if letter == "-" else RESIDUES.index(letter)


def test_frequencies_by_hand():
    rows = states("AL-", "AX-", "GLC")
    found = profile.frequencies(rows, np.array([1.0, 0.5, 2.0]))
    small = 1 / 21
    assert found[0, of("A")] == pytest.approx((1.5 + small) / 4.5)
    assert found[0, of("G")] == pytest.approx((2 + small) / 4.5)
    assert found[1, of("L")] == pytest.approx((3 + small) / 4)  # X is not counted
    assert found[2, of("-")] == pytest.approx((1.5 + small) / 4.5)
    assert np.allclose(found.sum(1), 1)
    plain = profile.frequencies(rows, pseudocount=0)
    assert plain[0, of("A")] == pytest.approx(2 / 3)


def test_a_column_without_symbols_is_uniform():
    found = profile.frequencies(states("AX", "GX"), pseudocount=0)
    assert np.allclose(found[1], 1 / 21)


def test_divergences_agree_with_scipy():
    draw = np.random.default_rng(0)
    p, q = draw.dirichlet(np.full(21, 0.3), (2, 9))
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    assert np.allclose(profile.jensen_shannon(p, q), expected, atol=1e-12)
    assert np.allclose(
        profile.kullback_leibler(p, q), scipy_entropy(p, q, base=2, axis=1)
    )
    assert np.allclose(profile.entropy(p), scipy_entropy(p, base=2, axis=1))


def test_ends_of_the_divergences():
    one, other = np.eye(21)[:1], np.eye(21)[1:2]
    assert profile.jensen_shannon(one, other)[0] == pytest.approx(1)
    assert profile.jensen_shannon(one, one)[0] == 0
    assert profile.kullback_leibler(one, other)[0] == np.inf
    assert profile.kullback_leibler(one, one)[0] == 0


def test_conservation_leaves_the_gap_out():
    rows = states("AA-A", "AG-C", "AA-D", "-G-E")
    found = profile.conservation(profile.frequencies(rows, pseudocount=0))
    assert found[0] == pytest.approx(np.log2(20))
    assert found[1] == pytest.approx(np.log2(20) - 1)
    assert np.isnan(found[2])
    assert found[3] == pytest.approx(np.log2(20) - 2)


def test_comparison_of_profiles():
    draw = np.random.default_rng(1)
    generated = draw.integers(0, 21, (30, 12)).astype(np.uint8)
    reference = np.sort(draw.integers(0, 21, (40, 12)), axis=0).astype(np.uint8)
    reference[:, :4] %= 3
    found = profile.compare(generated, reference)
    g, h = profile.frequencies(generated), profile.frequencies(reference)
    js = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(g, h, strict=True)]
    assert found.js == pytest.approx(np.mean(js))
    assert found.js_90 == pytest.approx(np.percentile(js, 90))
    assert found.kl == pytest.approx(scipy_entropy(h, g, base=2, axis=1).mean())
    rho = spearmanr(profile.conservation(g), profile.conservation(h)).statistic
    assert found.rho == pytest.approx(rho)


def test_weights_scale_to_the_number_of_rows():
    copies = states("AC", "AC", "AC", "AC")
    plain = profile.compare(copies, copies)
    weighted = profile.compare(copies, states("GD"), (np.full(4, 0.25), None))
    assert plain.js == pytest.approx(0)
    # four rows that are alike are as sure of it as without weights
    g = profile.frequencies(copies)
    h = profile.frequencies(states("GD"))
    assert weighted.js == pytest.approx(profile.jensen_shannon(g, h).mean())


def test_no_rank_correlation_without_variation():
    flat, varied = np.ones(5), np.arange(5.0)
    assert np.isnan(profile.rank_correlation(flat, varied))
    assert profile.rank_correlation(varied, -varied) == pytest.approx(-1)


def test_other_columns_are_refused():
    with pytest.raises(DataError, match="2 columns and the reference has 3"):
        profile.compare(states("AA"), states("AAA"))
    with pytest.raises(DataError, match="at least one"):
        profile.compare(states("AA")[:0], states("AA"))
