"""Densities of times: exact inverses, full support, weights that undo them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.density import Density, end_cells, midpoints, with_ends
from mdlm_llada.sft.measure import TimeLaw, stratified

CELLS = 1_000_000
"""Points of the midpoint rule in u: the mean over them is the mean over draws."""


def steep(n=30):
    """Return a density with large steps between neighbours, and flat pieces."""
    points = midpoints(n)
    values = 0.2 + (points * 9).sin().square() * torch.linspace(1, 5, n).double()
    values[3:6] = 1.0
    return Density.of(*end_cells(points, values))


def plain(density, t):
    """Return the density at `t` by numpy alone."""
    nodes, values = density.nodes.numpy(), density.values.numpy()
    return np.interp(t, nodes, values) / np.trapezoid(values, nodes)


def mean_over_draws(density, f):
    """Return the mean of f(t) / p(t) over draws t, without chance."""
    t = density.quantile(midpoints(CELLS))
    return float((f(t) / density.at(t)).mean())


@pytest.mark.parametrize("power", [0, 0.5, 3])
def test_the_weighted_mean_is_the_integral_over_all_times(power):
    """Two faults show here: times never drawn near 0 and 1, and another law of draws.

    With draws from the grid alone the mean for power 0 is 1 - 1 / n = 0.967.
    """
    expected = 1 / (power + 1)
    assert mean_over_draws(steep(), lambda t: t**power) == pytest.approx(
        expected, rel=2e-5
    )


def test_draws_reach_both_ends():
    density = steep()
    ends = density.quantile(torch.tensor([0.0, 1e-12, 1 - 1e-12, 1.0]).double())
    assert ends[0] == 0
    assert ends[3] == pytest.approx(1, abs=1e-15)
    assert ends[1] < 1e-10
    assert ends[2] > 1 - 1e-10
    assert bool((density.at(with_ends(midpoints(7))) > 0).all())


def test_the_inverse_is_exact():
    density, u = steep(), Noise(1).uniform(torch.arange(2000), 1)[:, 0]
    t = density.quantile(u)
    torch.testing.assert_close(density.mass(t), u, rtol=0, atol=1e-14)
    for value, share in zip(t[:8].tolist(), u[:8].tolist(), strict=True):
        nodes = [x for x in density.nodes.tolist() if 0 < x < value]
        found, _ = integrate.quad(
            lambda x: plain(density, x), 0, value, points=nodes or None, epsabs=1e-10
        )
        assert found == pytest.approx(share, abs=1e-9)


def test_draws_follow_the_density():
    density, edges = steep(), np.linspace(0, 1, 101)
    t = density.quantile(Noise(2).uniform(torch.arange(200_000), 1)[:, 0])
    met, _ = np.histogram(t.numpy(), edges)
    fine = np.unique(np.concatenate([edges, density.nodes.numpy()]))
    sums = integrate.cumulative_trapezoid(plain(density, fine), fine, initial=0)
    wanted = np.diff(np.interp(edges, fine, sums)) * met.sum()
    assert stats.chisquare(met, wanted).pvalue > 1e-3


def test_the_uniform_share_is_mixed_after_normalising():
    points, values = midpoints(20), 1 + midpoints(20)
    once = Density.of(*end_cells(points, values)).mixed(0.25)
    scaled = Density.of(*end_cells(points, 1000 * values)).mixed(0.25)
    torch.testing.assert_close(once.values, scaled.values)
    alone = Density.of(*end_cells(points, values))
    torch.testing.assert_close(once.values, 0.75 * alone.values + 0.25)
    assert float((1 / once.values).max()) <= 4


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_density_must_be_positive(bad):
    with pytest.raises(ConfigError, match=r"at 0\.5000; it must be positive"):
        Density.of(torch.tensor([0, 0.5, 1]), torch.tensor([1, bad, 1]))


@pytest.mark.parametrize("nodes", [[0, 0, 1], [0.5, 0.2, 1], [-0.1, 0.5, 1]])
def test_nodes_must_rise(nodes):
    with pytest.raises(ConfigError, match="rise"):
        Density.of(torch.tensor(nodes), torch.ones(3))


# ---- strata -----------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(32, 5), (32, 8), (7, 7), (5, 9), (64, 1)])
def test_strata_are_filled_evenly(n, k):
    u = stratified(Noise(3), torch.arange(n), n, k)
    counts = (u * k).long().bincount(minlength=k)
    if k > 1:
        assert set(counts.tolist()) <= {n // k, -(-n // k)}
    assert bool(((u > 0) & (u < 1)).all())


def test_each_number_alone_is_uniform():
    u = torch.stack(
        [stratified(Noise(4, (i,)), torch.arange(7), 7, 3) for i in range(500)]
    )
    for row in u.T:
        assert stats.kstest(row.numpy(), "uniform").pvalue > 1e-4


def test_a_row_is_drawn_alike_in_any_piece_of_the_batch():
    rows = torch.tensor([30, 2, 17])
    whole = stratified(Noise(5), torch.arange(32), 32, 6)
    assert torch.equal(stratified(Noise(5), rows, 32, 6), whole[rows])


def test_strata_take_away_the_spread_between_them():
    """Var of a mean over n times in k strata = (sigma^2 - sigma_between^2) / n."""
    n, k = 16, 4
    means = torch.stack(
        [
            stratified(Noise(6, (i,)), torch.arange(n), n, k).square().mean()
            for i in range(600)
        ]
    )
    edges = np.linspace(0, 1, k + 1)
    inside = np.diff(edges**3) / 3 * k
    between = np.var(inside)
    expected = (1 / 5 - 1 / 9 - between) / n
    assert float(means.var()) == pytest.approx(expected, rel=4 * math.sqrt(2 / 600))


# ---- the law of times -------------------------------------------------------


def test_without_a_fit_times_are_uniform_and_weights_are_one():
    for config in (TimesConfig(), TimesConfig(ppots=True), TimesConfig(model="AP")):
        times = TimeLaw(config, t_min=0.01).draw(Noise(0), torch.arange(4096), 4096)
        torch.testing.assert_close(times.weight, torch.ones_like(times.weight))
        assert times.t.min() >= 0.01
        assert stats.kstest((times.t - 0.01) / 0.99, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("is_stratified", [False, True])
def test_custom_times_have_their_density_and_weight(is_stratified):
    config = TimesConfig(
        model="custom", custom=(3.0, 1.0, 0.5), stratified=is_stratified
    )
    n = 40_000
    times = TimeLaw(config).draw(Noise(1), torch.arange(n), n)
    tau = (times.t - 1e-3) / (1 - 1e-3)
    density = np.interp(tau, [0, 0.5, 1], np.array([3, 1, 0.5]) / 1.375)
    np.testing.assert_allclose(times.weight, 1 / density, rtol=1e-12)
    error = float(times.weight.std()) / math.sqrt(n)
    assert float(times.weight.mean()) == pytest.approx(1, abs=4 * error)
    assert float((times.weight * tau).mean()) == pytest.approx(0.5, abs=4 * error)


def test_a_mixed_custom_density_has_bounded_weights():
    config = TimesConfig(model="custom", custom=(1.0, 1e-9), mix_uniform=0.5)
    assert TimeLaw(config).draw(Noise(2), torch.arange(999), 999).weight.max() <= 2


def test_weights_are_capped():
    config = TimesConfig(model="custom", custom=(1.0, 1e-3), max_weight=5.0)
    weight = TimeLaw(config).draw(Noise(3), torch.arange(4000), 4000).weight
    assert weight.max() == 5.0


def test_clipped_times_stay_inside_and_have_no_weight():
    config = TimesConfig(model="clipped", clip_low=0.3, clip_high=0.8)
    times = TimeLaw(config, t_min=1e-3).draw(Noise(4), torch.arange(4000), 4000)
    tau = (times.t - 1e-3) / (1 - 1e-3)
    assert stats.kstest((tau - 0.3) / 0.5, "uniform").pvalue > 1e-3
    assert bool((times.weight == 1).all())
    assert bool((tau >= 0.3).all() & (tau <= 0.8).all())


def test_clipped_times_have_no_uniform_share():
    with pytest.raises(ConfigError, match="leaves times out"):
        TimesConfig(model="clipped", mix_uniform=0.1)


def test_times_of_a_step_do_not_depend_on_the_cut():
    law = TimeLaw(TimesConfig(model="custom", custom=(2.0, 1.0), stratified=True))
    whole = law.draw(Noise(5), torch.arange(12), 12)
    rows = torch.tensor([4, 11])
    part = law.draw(Noise(5), rows, 12)
    assert torch.equal(part.t, whole.t[rows])
    assert torch.equal(part.weight, whole.weight[rows])


def test_the_law_stays_exact_in_a_bfloat16_model():
    law = TimeLaw(TimesConfig(model="custom", custom=(0.3, 1.7, 0.9)))
    before = law.density.clone()
    module = torch.nn.ModuleList([torch.nn.Linear(2, 2), law]).bfloat16()
    assert module[0].weight.dtype == torch.bfloat16
    assert torch.equal(module[1].density, before)
    assert module[1].grid.dtype == torch.float64
