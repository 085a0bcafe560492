"""Structural equations of tables: least squares, bootstrap, searches, units."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from mdlm_core.errors import DataError, UnknownNameError, UsageError
from mdlm_core.kernels import Noise
from mdlm_personality.causal.graph import Edge
from mdlm_personality.causal.search import find_support
from mdlm_personality.causal.sem import bootstrap, effects, fit, fit_tiered
from mdlm_personality.causal.simulate import linear_data
from mdlm_personality.causal.stability import Stability, check_scale
from mdlm_personality.causal.tables import Table, from_arrays

TIERS = {
    "extraversion": "personality",
    "neuroticism": "personality",
    "trust": "beliefs",
    "outings": "actions",
}
TRUTH = np.array(
    [[0, 0, 0.9, 0.5], [0, 0, -0.7, 0], [0, 0, 0, 0.8], [0, 0, 0, 0]], dtype=float
)
UNITS = np.array([0.2, 0.1, 1.0, 5.0])


def table(rows: int = 1500, seed: int = 0, missing: float = 0.0) -> Table:
    values = linear_data(TRUTH, rows, Noise(seed)) * UNITS + [0.5, 0.4, 3.0, 10.0]
    rng = np.random.default_rng(1)
    values[rng.random(values.shape) < missing] = np.nan
    return from_arrays(values, TIERS)


def test_equations_are_those_of_least_squares() -> None:
    made = table(missing=0.2)
    sem = fit_tiered(made)
    for name, parents in (("trust", (0, 1)), ("outings", (0, 1, 2))):
        j = made.column(name)
        used = made.values[:, [*parents, j]]
        used = used[np.isfinite(used).all(axis=1)]
        other = LinearRegression().fit(used[:, :-1], used[:, -1])
        assert sem.weight[list(parents), j].tolist() == pytest.approx(
            other.coef_.tolist(), rel=1e-8
        )
        assert sem.intercept[j] == pytest.approx(other.intercept_, rel=1e-8)
        assert sem.r2[j] == pytest.approx(other.score(used[:, :-1], used[:, -1]))
        left = used[:, -1] - other.predict(used[:, :-1])
        freedom = len(used) - len(parents) - 1
        assert sem.scale[j] == pytest.approx(np.sqrt((left**2).sum() / freedom))
        assert sem.rows[j] == len(used) < 1500
    assert sem.weight[0, 1] == 0  # none within a tier


def test_planted_effects_come_back_in_the_units_of_the_table() -> None:
    sem = fit_tiered(table(20_000))
    truth = TRUTH * UNITS[None, :] / UNITS[:, None]
    assert np.abs(sem.weight - truth)[truth == 0].max() < 0.2
    ratio = sem.weight[truth != 0] / truth[truth != 0]
    assert np.abs(ratio - 1).max() < 0.05
    assert sem.total()[0, 3] == pytest.approx((0.5 + 0.9 * 0.8) * 25, rel=0.05)
    assert set(sem.edges()) == {(0, 2), (0, 3), (1, 2), (2, 3)}
    assert set(effects(sem, ["neuroticism"], least=0.1)) == {(1, 2), (1, 3)}


def test_expected_values_under_interventions() -> None:
    made = table()
    sem = fit_tiered(made)
    before, after = sem.expected(), sem.expected({"trust": 4.0})
    assert list(before.values()) == pytest.approx(made.values.mean(axis=0).tolist())
    assert after["trust"] == 4.0
    assert after["extraversion"] == before["extraversion"]
    moved = (4.0 - before["trust"]) * sem.weight[2, 3]
    assert after["outings"] - before["outings"] == pytest.approx(moved)
    with pytest.raises(UsageError, match="no node"):
        sem.expected({"trsut": 1.0})


def test_the_tiers_of_a_fit_can_be_others() -> None:
    made = table()
    sem = fit_tiered(made, {"outings": "beliefs"})
    assert not sem.support[2, 3]
    with pytest.raises(UnknownNameError, match="outings"):
        fit_tiered(made, {"outing": "beliefs"})


def test_bootstrap_intervals_are_as_wide_as_theory_says() -> None:
    made = table(400)
    sem = fit_tiered(made)
    found = bootstrap(made, sem, Noise(0), draws=200)
    design = np.column_stack((np.ones(400), made.values[:, :2]))
    error = sem.scale[2] * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))[1]
    width = found.weight_high[0, 2] - found.weight_low[0, 2]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert found.weight_low[0, 2] < sem.weight[0, 2] < found.weight_high[0, 2]
    assert found.total_low[0, 3] < sem.total()[0, 3] < found.total_high[0, 3]
    assert found.share[0, 2] == 1
    assert found.share[1, 3] < 0.8
    assert found.share[0, 1] == 0
    signs = bootstrap(made, sem, Noise(0), draws=50, least=0.0)
    assert 0.5 < signs.share[1, 3] < 1  # an effect of 0 has either sign
    again = bootstrap(made, sem, Noise(0), draws=200)
    assert (again.weight_low == found.weight_low).all()
    with pytest.raises(UsageError, match="2 draws"):
        bootstrap(made, sem, Noise(0), draws=1)


def test_draws_that_cannot_be_fitted_are_counted() -> None:
    made = table(40)
    made.values[:, 0] = 0.0
    made.values[0, 0] = 1.0  # a third of the draws have no such row
    sem = fit_tiered(made)
    found = bootstrap(made, sem, Noise(0), draws=50)
    assert 5 < found.skipped < 25


def test_tables_that_cannot_be_fitted() -> None:
    made = table(30)
    flat = made.values.copy()
    flat[:, 2] = 1.0
    with pytest.raises(DataError, match=r"'trust' .* is 1 in all 30 rows"):
        fit_tiered(from_arrays(flat, TIERS))
    with pytest.raises(DataError, match="more than 4"):
        fit_tiered(from_arrays(made.values[:4], TIERS))
    twin = made.values.copy()
    twin[:, 1] = 2 * twin[:, 0]
    with pytest.raises(DataError, match="linearly dependent"):
        fit_tiered(from_arrays(twin, TIERS))
    cycle = np.zeros((4, 4), dtype=bool)
    cycle[0, 2] = cycle[2, 0] = True
    with pytest.raises(
        UsageError, match=r"extraversion -> trust|trust -> extraversion"
    ):
        fit(made, cycle)


def test_structures_of_a_table() -> None:
    made = table(missing=0.05)
    assert find_support(made, "tiered").sum() == 2 + 3
    chain = find_support(made, "fixed", edges=["e -> trust -> outings"])
    assert np.argwhere(chain).tolist() == [[0, 2], [2, 3]]
    again = find_support(made, "fixed", edges=[Edge("n", "trust")])
    assert np.argwhere(again).tolist() == [[1, 2]]
    with pytest.raises(UsageError, match="twice"):
        find_support(made, "fixed", edges=["e -> trust", "extraversion -> trust"])
    with pytest.raises(UsageError, match=r"trust -> outings -> trust|outings -> trust"):
        find_support(made, "fixed", edges=["trust -> outings", "outings -> trust"])
    with pytest.raises(UnknownNameError, match="'o' is no column"):
        find_support(made, "fixed", edges=["o -> trust"])  # a trait, but not here
    with pytest.raises(UsageError, match="only with it"):
        find_support(made, "tiered", edges=["e -> trust"])
    with pytest.raises(UsageError, match="only with it"):
        find_support(made, "fixed")


@pytest.mark.parametrize("structure", ["dagma", "notears"])
def test_searches_keep_to_the_tiers(structure: str) -> None:
    found = find_support(table(), structure)  # type: ignore[arg-type]
    backwards = ~table().allowed(within=True)
    assert not (found & backwards).any()
    assert found[0, 2]
    assert found[1, 2]
    assert found[2, 3]


def test_assumed_graphs_do_not_depend_on_units() -> None:
    found = check_scale(table(), lambda seen: find_support(seen, "tiered"), Noise(0))
    assert found.stable
    assert found.warning() is None
    assert (found.raw == found.standardised).all()
    assert found.rescaled[0, 2] == 1


def test_one_rescaling_is_enough_for_a_warning() -> None:
    edges = np.zeros((2, 2), dtype=bool)
    found = Stability(edges, edges, np.zeros((2, 2)), 0, (0, 3), 0.5)
    assert not found.stable
    assert "1 of 2 random rescalings" in (found.warning() or "")


def test_searches_depend_on_units_and_say_so() -> None:
    def search(seen: Table) -> np.ndarray:
        return find_support(seen, "notears", units="raw", tiers=False)

    found = check_scale(table(), search, Noise(0), draws=1)
    assert not found.stable
    assert "depends on units" in (found.warning() or "")
    assert max(found.distances) > 0
    assert 0 <= found.varsortability <= 1


def test_standardising_makes_a_search_indifferent_to_units() -> None:
    found = check_scale(
        table(), lambda seen: find_support(seen, "notears"), Noise(0), draws=2
    )
    assert found.stable
