import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.metrics.baselines import random_codes, report
from mdlm_personality.metrics.disentanglement import dci, mig, pca_score, sap

NOISE = Noise(3)
RNG = np.random.default_rng(0)
TRAITS = RNG.uniform(size=(400, 5))
BIG5 = ["openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"]


def _bins(x):
    return np.minimum(((x - x.min()) / np.ptp(x) * 20).astype(int), 19)


def test_mig_is_the_gap_of_scikit_learns_mutual_information():
    codes = TRAITS @ RNG.standard_normal((5, 7)) + 0.1 * RNG.standard_normal((400, 7))
    gaps = []
    for k in range(5):
        v = _bins(TRAITS[:, k])
        found = sorted(mutual_info_score(_bins(z), v) for z in codes.T)
        gaps.append((found[-1] - found[-2]) / mutual_info_score(v, v))
    assert mig(codes, TRAITS) == pytest.approx(np.mean(gaps), abs=1e-12)


def test_mig_of_bits_is_known():
    bits = np.array([[a, b] for a in (0, 1) for b in (0, 1)] * 20, dtype=float)
    assert mig(bits, bits) == pytest.approx(1)
    twice = np.concatenate([bits, bits], axis=1)
    assert mig(twice, bits) == pytest.approx(0, abs=1e-12)


def test_perfect_codes_have_perfect_scores():
    order = TRAITS[:, ::-1] * [1, -2, 3, -4, 5]
    found = dci(order, TRAITS, noise=NOISE)
    assert found.disentanglement > 0.999
    assert found.completeness > 0.999
    assert found.informativeness > 0.99
    assert sap(order, TRAITS, noise=NOISE) > 0.95
    assert mig(order, TRAITS) > 0.8


def test_forest_agrees_on_perfect_codes():
    found = dci(TRAITS[:200], TRAITS[:200], noise=NOISE, regressor="forest")
    assert found.disentanglement > 0.8


def test_sap_is_the_gap_of_held_out_r2():
    z = TRAITS[:, :1] + 0.2 * RNG.standard_normal((400, 1))
    other = TRAITS[:, :1] + 0.5 * RNG.standard_normal((400, 1))
    order = np.random.default_rng(NOISE.child("halves").integer()).permutation(400)
    fit, test = order[:200], order[200:]

    def r2(x):
        line = np.polyfit(x[fit, 0], TRAITS[fit, 0], 1)
        error = TRAITS[test, 0] - np.polyval(line, x[test, 0])
        return (
            1
            - error.var() / TRAITS[test, 0].var()
            - (error.mean() ** 2 / TRAITS[test, 0].var())
        )

    found = sap(np.hstack([z, other]), TRAITS[:, :1], noise=NOISE)
    assert found == pytest.approx(r2(z) - r2(other), abs=1e-9)


def test_one_code_of_two_factors_is_complete_and_not_disentangled():
    z = (TRAITS[:, :1] + TRAITS[:, 1:2]) / 2
    found = dci(z, TRAITS[:, :2], noise=NOISE)
    assert found.completeness == pytest.approx(1)
    assert found.disentanglement < 0.05


def test_codes_of_other_people_are_not_disentangled():
    rng = np.random.default_rng(7)
    found = [
        dci(
            rng.uniform(size=(100, 4)), rng.uniform(size=(100, 5)), noise=NOISE.child(i)
        )
        for i in range(12)
    ]
    assert np.mean([each.disentanglement for each in found]) < 0.1


def test_a_random_map_passes_the_pca_score_and_fails_the_others():
    found = report(TRAITS, TRAITS, noise=NOISE, repeats=3)
    maps = [
        pca_score(random_codes(TRAITS, 64, noise=NOISE.child(i)), TRAITS)
        for i in range(20)
    ]
    assert 0.68 < np.mean(maps) < 0.80
    assert found["PCA score"].random > 0.6
    assert found["MIG"].value > 0.8 > 0.2 > found["MIG"].random
    assert (
        found["DCI disentanglement"].value > 0.9 > found["DCI disentanglement"].random
    )
    for name in ("MIG", "SAP", "PCA score", "DCI disentanglement"):
        assert found[name].constant == pytest.approx(0, abs=1e-12)
        assert found[name].shuffled < found[name].value / 3
    assert found["DCI disentanglement"].shuffled == 0


def test_a_random_map_of_measured_traits():
    pd = pytest.importorskip("pandas")
    here = Path(__file__).resolve().parents[3].parent
    path = here / "shared/data/personality/questionnaire/spi_scores.csv.gz"
    if not path.exists():
        pytest.skip("there is no table of SPI scores beside the checkout")
    traits = pd.read_csv(path)[BIG5].to_numpy()
    maps = [
        pca_score(random_codes(traits, 64, noise=NOISE.child(i)), traits)
        for i in range(20)
    ]
    assert np.mean(maps) == pytest.approx(0.73, abs=0.05)


def test_people_of_whom_a_trait_is_not_known_are_left_out():
    holes = TRAITS.copy()
    holes[:100, 2] = np.nan
    found = report(TRAITS, holes, noise=NOISE, repeats=1)
    again = report(TRAITS[100:], holes[100:], noise=NOISE, repeats=1)
    assert found["MIG"].value == again["MIG"].value


@pytest.mark.parametrize(
    ("codes", "factors"),
    [
        (TRAITS[:10], TRAITS[:10]),
        (TRAITS, TRAITS[:300]),
        (TRAITS * math.nan, TRAITS),
        (TRAITS, np.ones_like(TRAITS)),
    ],
)
def test_what_cannot_be_measured_is_said(codes, factors):
    with pytest.raises(DataError):
        mig(codes, factors)
