"""Laws of residues by their formulas, and what they need for rows."""

import numpy as np
import pytest

from mdlm_msa import laws
from mdlm_msa.alphabet import RESIDUES, STATE_OF, encode
from mdlm_msa.substitution import background, conditional


def states(*rows):
    return STATE_OF[np.stack([encode(row) for row in rows])]


def of(letter):
    return RESIDUES.index(letter)


def test_every_law_is_normalised():
    rows = states("ACDX", "AC-E", "GC-E")
    for law in (
        laws.uniform(4),
        laws.background_law(4),
        laws.substitution_law(rows[0]),
        laws.copy_law(rows[0]),
        laws.pssm(rows),
        laws.pssm(rows[:0]),
    ):
        assert law.shape == (4, 20)
        assert np.allclose(law.sum(1), 1)


def test_pssm_by_hand():
    rows = states("A-", "A-", "G-", "X-")
    law = laws.pssm(rows)
    share = np.zeros(20)
    share[[of("A"), of("G")]] = 2 / 3, 1 / 3
    prior = 2 / 3 * conditional()[of("A")] + 1 / 3 * conditional()[of("G")]
    assert np.allclose(law[0], (3 * share + 10 * prior) / 13)
    assert np.allclose(law[1], background())
    weighted = laws.pssm(rows, np.array([0.5, 0.5, 1, 1]), pseudocount=1)
    share[[of("A"), of("G")]] = 0.5
    prior = share @ conditional()
    assert np.allclose(weighted[0], (2 * share + prior) / 3)


def test_laws_of_the_query():
    query = states("WX")[0]
    assert np.allclose(laws.substitution_law(query)[0], conditional()[of("W")])
    assert np.allclose(laws.substitution_law(query)[1], background())
    law = laws.copy_law(query, keep=0.81)
    assert law[0, of("W")] == pytest.approx(0.81)
    assert law[0, of("A")] == pytest.approx(0.01)


def test_costs_by_hand():
    law = laws.pssm(states("ACDE"))
    rows = states("AC-X", "GGGG")
    nats, residues = laws.nats(law, rows)
    p = law[np.arange(4), rows.clip(max=19)]
    assert residues.tolist() == [2, 4]
    assert nats[0] == pytest.approx(-np.log(p[0, 0] * p[0, 1]))
    assert nats[1] == pytest.approx(-np.log(p[1]).sum())
    gaps = np.array([0.1, 0.2, 0.3, 0.4])
    nats, symbols = laws.nats(law, rows, gaps)
    assert symbols.tolist() == [3, 4]
    expected = p[0, 0] * 0.9 * p[0, 1] * 0.8 * 0.3
    assert nats[0] == pytest.approx(-np.log(expected))
    assert laws.bits(laws.uniform(4), rows) == pytest.approx(np.log2(20))


def test_the_gap_law():
    rows = states("A-", "A-", "A-", "C-")
    law = laws.gap_law(rows)
    mean = 4.5 / 9
    assert np.allclose(law, [(0 + mean) / 5, (4 + mean) / 5])
    assert np.allclose(laws.gap_law(rows[:0]), 0.5)
