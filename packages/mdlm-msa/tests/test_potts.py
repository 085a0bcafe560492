"""A Potts model against the sum over all rows, and its fit against gradients."""

from itertools import product

import numpy as np
import pytest
import torch

from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.evaluation.contacts_plm import PseudoLikelihood, fit
from mdlm_msa.evaluation.potts import Potts

S = 21


def toy(columns, seed=0, scale=0.8):
    draw = np.random.default_rng(seed)
    fields = draw.normal(0, 1, (columns, S))
    couplings = np.zeros((columns, S, columns, S))
    for i in range(columns):
        for j in range(i + 1, columns):
            block = draw.normal(0, scale, (S, S))
            couplings[i, :, j], couplings[j, :, i] = block, block.T
    return Potts(fields, couplings)


def everything(columns, symbols=S):
    return np.array(list(product(range(symbols), repeat=columns)), np.uint8)


def energy(model, row):
    found = sum(model.fields[i, a] for i, a in enumerate(row))
    for i, a in enumerate(row):
        for j in range(i + 1, len(row)):
            found += model.couplings[i, a, j, row[j]]
    return found


def test_energies_by_loops():
    model = toy(4)
    rows = np.random.default_rng(1).integers(0, S, (10, 4)).astype(np.uint8)
    expected = [energy(model, row) for row in rows]
    assert np.allclose(model.energies(rows), expected)


def test_conditionals_by_enumeration():
    model = toy(3)
    rows = everything(3)
    law = np.exp(model.energies(rows)).reshape(S, S, S)
    found = np.exp(model.conditionals(np.array([[4, 20, 7]], np.uint8)))[0]
    assert np.allclose(found[0], law[:, 20, 7] / law[:, 20, 7].sum())
    assert np.allclose(found[1], law[4, :, 7] / law[4, :, 7].sum())
    assert np.allclose(found[2], law[4, 20] / law[4, 20].sum())


def test_costs_given_the_gaps_by_enumeration():
    model = toy(3, scale=1.0)
    rows = np.array([[4, 9, 7], [4, 20, 7], [20, 20, 3], [20, 20, 20]], np.uint8)
    law = np.exp(model.energies(everything(3))).reshape(S, S, S)
    residues = slice(0, 20)
    expected = [
        law[4, 9, 7] / law[residues, residues, residues].sum(),
        law[4, 20, 7] / law[residues, 20, residues].sum(),
        law[20, 20, 3] / law[20, 20, residues].sum(),
        1.0,
    ]
    found = model.nats(rows, noise=Noise(0), chains=400, steps=30)
    assert np.allclose(found.nats, -np.log(expected), atol=0.05)
    assert found.residues.tolist() == [3, 2, 1, 0]
    assert (np.abs(found.nats + np.log(expected)) < 5 * found.se + 1e-9).all()
    start = np.full((3, 20), 1 / 20)
    other = model.nats(rows, noise=Noise(1), chains=400, steps=30, start=start)
    assert np.allclose(other.nats, -np.log(expected), atol=0.05)


def test_samples_have_the_law():
    model = toy(2)
    law = np.exp(model.energies(everything(2)))
    law /= law.sum()
    rows = model.sample(20000, Noise(0), sweeps=8).astype(int)
    found = np.bincount(rows[:, 0] * S + rows[:, 1], minlength=S * S) / len(rows)
    assert np.abs(found - law).sum() < 0.13  # 441 cells
    again = model.sample(50, Noise(0), sweeps=8)
    assert (again == model.sample(50, Noise(0), sweeps=8)).all()


@pytest.fixture
def objective():
    draw = np.random.default_rng(0)
    states = draw.integers(0, S, (30, 3)).astype(np.uint8)
    weights = draw.random(30)
    return PseudoLikelihood(
        states, weights, fields=0.3, couplings=0.2, dtype=torch.float64
    ), (states, weights)


def test_the_objective_by_loops(objective):
    value, (states, weights) = objective
    model = toy(3, seed=2)
    expected = 0.0
    for row, weight in zip(states, weights, strict=True):
        for i in range(3):
            logits = model.fields[i].copy()
            for j in range(3):
                if j != i:
                    logits += model.couplings[i, :, j, row[j]]
            law = np.exp(logits) / np.exp(logits).sum()
            expected -= weight * np.log(law[row[i]])
    expected += 0.3 * np.square(model.fields).sum()
    expected += 0.2 * np.square(model.couplings).sum() / 2  # each pair once
    h = torch.from_numpy(model.fields).ravel()
    j = torch.from_numpy(model.couplings).reshape(3 * S, 3 * S)
    assert float(value(h, j)[0]) == pytest.approx(expected)


def test_the_gradient_by_finite_differences(objective):
    value, _ = objective
    model = toy(3, seed=3)
    h = torch.from_numpy(model.fields).ravel()
    j = torch.from_numpy(model.couplings).reshape(3 * S, 3 * S)
    _, dh, dj = value(h, j)
    step = 1e-5
    for place in (0, 17, 40):
        up, down = h.clone(), h.clone()
        up[place] += step
        down[place] -= step
        slope = (value(up, j)[0] - value(down, j)[0]) / (2 * step)
        assert float(dh[place]) == pytest.approx(float(slope), abs=1e-6)
    for a, b in ((0, 21), (5, 60), (30, 50)):
        up, down = j.clone(), j.clone()
        for table, sign in ((up, step), (down, -step)):
            table[a, b] += sign
            table[b, a] += sign  # J stays symmetric
        slope = (value(h, up)[0] - value(h, down)[0]) / (2 * step)
        assert float(dj[a, b] + dj[b, a]) == pytest.approx(float(slope), abs=1e-6)
    assert float(dj[:S, :S].abs().max()) == 0  # a column and itself


def test_the_fit_finds_the_law_of_two_columns():
    draw = np.random.default_rng(0)
    states = np.full((200, 2), 0, np.uint8)
    states[:, 0] = draw.integers(0, 3, 200)
    states[:, 1] = np.where(draw.random(200) < 0.8, states[:, 0], 2)
    model = fit(states, np.ones(200), fields=1e-4, couplings=1e-4, steps=40)
    found = np.exp(model.conditionals(np.array([[0, 1]], np.uint8)))[0]
    after_one = states[states[:, 1] == 1, 0]
    after_zero = states[states[:, 0] == 0, 1]
    for symbol in range(3):
        assert found[0, symbol] == pytest.approx((after_one == symbol).mean(), abs=0.01)
        assert found[1, symbol] == pytest.approx(
            (after_zero == symbol).mean(), abs=0.01
        )


def test_what_cannot_be_fitted_is_refused():
    rows = np.zeros((3, 1), np.uint8)
    with pytest.raises(DataError, match="at least two columns"):
        fit(rows)
    with pytest.raises(ConfigError, match="negative"):
        fit(np.zeros((3, 2), np.uint8), couplings=-1)
