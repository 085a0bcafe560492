"""BLOSUM62 against biopython's, and its laws against its definition."""

import numpy as np

from mdlm_msa.alphabet import RESIDUES
from mdlm_msa.substitution import background, blosum62, conditional


def test_scores_are_biopythons() -> None:
    from Bio.Align import substitution_matrices

    theirs = substitution_matrices.load("BLOSUM62")
    expected = [[theirs[a][b] for b in RESIDUES] for a in RESIDUES]
    np.testing.assert_array_equal(blosum62(), expected)


def test_background_is_that_of_the_scores() -> None:
    """With q_ab = p_a p_b 2^(S/2) every row of q sums to p_a, but for rounding of S."""
    p = background()
    assert p.sum() == np.float64(1)
    sums = (p * 2.0 ** (blosum62() / 2)).sum(1)
    assert abs(sums - 1).max() < 0.11  # half a half-bit is 19 %, and it averages out
    shuffled = np.roll(p, 1)
    assert abs((shuffled * 2.0 ** (blosum62() / 2)).sum(1) - 1).max() > 0.15


def test_law_given_a_residue() -> None:
    law = conditional()
    np.testing.assert_allclose(law.sum(1), 1, rtol=1e-12)
    ratio = np.log2(law / background()) * 2  # S_ab and a constant of the row
    np.testing.assert_allclose(
        ratio - blosum62(), np.repeat(np.diag(ratio - blosum62())[:, None], 20, 1)
    )
    i, v, w = (RESIDUES.index(a) for a in "IVW")
    assert law[i, v] > 5 * law[i, w]
