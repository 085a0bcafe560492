"""Thresholds of the original description that a model of nothing passes.

`original_` functions are its numbers; here each stands beside that of what knows
nothing, or separates nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.metrics.baselines import random_codes, report
from mdlm_personality.metrics.disentanglement import pca_score
from mdlm_personality.metrics.diversity import cut, distinct
from mdlm_personality.metrics.flips import counterfactual_flip_rate, flips
from mdlm_personality.metrics.reconstruction import reconstruction

NOISE = Noise(0)


def generator(*path: str | int) -> np.random.Generator:
    return np.random.default_rng(NOISE.child(*path).integer())


def traits(rows: int = 400) -> np.ndarray:
    """Return traits with the weak correlations of questionnaires."""
    common = generator("common").standard_normal((rows, 1))
    own = generator("own").standard_normal((rows, 5))
    return np.clip(0.5 + 0.15 * (own + 0.3 * common), 0, 1)


# ---- disentanglement (PCA) > 0.7 ---------------------------------------------------


def test_a_random_map_passes_the_pca_score_and_not_the_report() -> None:
    v = traits()
    maps = [random_codes(v, 64, noise=NOISE.child("map", i)) for i in range(20)]
    assert np.mean([pca_score(z, v) > 0.7 for z in maps]) > 0.4
    assert np.mean([pca_score(z, v) for z in maps]) == pytest.approx(0.73, abs=0.07)

    found = report(maps[0], v, noise=NOISE, repeats=4)
    score = found["PCA score"]
    assert abs(score.value - score.random) < 3 * score.random_sd + 0.02
    gap = found["MIG"]
    assert gap.value < gap.random + 0.05
    apart = report(v, v, noise=NOISE, repeats=4)["MIG"]  # each trait a code
    assert apart.value > apart.random + 0.2


# ---- CLFR > 0.9 --------------------------------------------------------------------


def test_a_constant_passes_clfr_and_has_no_r2() -> None:
    v = traits()
    found = reconstruction(v, v.mean(0))
    assert found.score > 0.95  # the original's number, and its threshold is 0.9
    assert found.score == pytest.approx(found.constant)
    assert found.r2 == pytest.approx((0.0,) * 5, abs=1e-9)


# ---- distinct-2 > 0.5 --------------------------------------------------------------


def texts(count: int, words: int) -> list[str]:
    """Return texts of one law, whose words are as frequent as those of a language."""
    ranks = np.arange(1, 1001)
    law = 1 / ranks / (1 / ranks).sum()
    drawn = generator("words").choice(1000, size=(count, words), p=law)
    return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def original_distinct_2(found: list[str]) -> float:
    """Of all texts together, however many and long they are."""
    return distinct([text.split() for text in found], 2)


def test_distinct_n_is_of_a_fixed_number_of_texts_and_words() -> None:
    few, many = texts(20, 16), texts(600, 128)
    assert original_distinct_2(few) > 0.8
    assert original_distinct_2(many) < 0.5  # the same law: their threshold is of size
    size = {"count": 20, "words": 16, "noise": NOISE}
    ours = [distinct(cut(group, **size), 2) for group in (few, many)]
    assert ours[0] == pytest.approx(ours[1], abs=0.08)
    with pytest.raises(DataError, match="Ask for fewer"):
        cut(few, count=20, words=17, noise=NOISE)


# ---- a label that flips ------------------------------------------------------------


def test_texts_that_change_anyway_have_no_net_flips() -> None:
    """A model that does not listen: every text is drawn anew, whatever is set."""
    before, after, again = (
        generator("side", i).integers(0, 2, (600, 5)).astype(float) for i in range(3)
    )
    target = 1 - before[:, 0]
    raw = counterfactual_flip_rate(before[:, 0], after[:, 0], target)
    assert raw == pytest.approx(0.5, abs=0.07)
    found = flips(
        before,
        after,
        again,
        trait=0,
        target=target,
        edits=np.ones(600),
        noise=NOISE,
    )
    assert found.net.low < 0 < found.net.high
    assert found.off_target.value == pytest.approx(0.5, abs=0.05)
