"""Held-out rows: the split, what a known law costs, and the table over families."""

import numpy as np
import pytest
import torch

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GAP, MASK, RESIDUES, STATE_OF, VOCAB_SIZE
from mdlm_msa.data.family import Family
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.evaluation import held_out
from mdlm_msa.evaluation.held_out import (
    MODEL,
    PSSM,
    PSSM_ALL,
    Cost,
    HeldOutTable,
    evaluate_model,
    split_rows,
)
from mdlm_msa.identity import identity_pair
from mdlm_msa.laws import nats, pssm


class Columns(torch.nn.Module):
    """A backbone that knows a law for each column, and looks at nothing else."""

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self, law):
        super().__init__()
        self.law = torch.full((len(law) + 1, VOCAB_SIZE), -30.0)
        self.law[1:, 1:21] = torch.from_numpy(np.log(law)).float()
        self.sizes = set()

    def hidden(self, batch, t=None):
        self.sizes.add(batch.length)
        return batch.positions[..., :1].float()

    def logits(self, hidden):
        return self.law[hidden[:, 0].long()]


@pytest.fixture(scope="module")
def families():
    made = synthetic_families(3, Noise(3), rows=(40, 60), columns=(20, 25))
    return {
        family.name: split_rows(family.alignment, Noise(1).child(family.name))
        for family in made
    }


def test_the_split_keeps_its_rules(families):
    for family in families.values():
        states = family.alignment.states
        train, held = set(family.train_rows), set(family.held_out_rows)
        assert train
        assert held
        assert not train & held
        assert 0 not in train | held
        known = np.concatenate([[0], family.train_rows])
        assert identity_pair(states[family.held_out_rows], states[known]).max() < 0.9
        assert ((states[list(train | held)] < 20).mean(1) >= 0.5).all()


def test_the_split_takes_a_share_and_has_a_most():
    rows = np.random.default_rng(0).integers(1, 21, (101, 30)).astype(np.uint8)
    alignment = Alignment(rows=rows, headers=("r",) * 101)
    found = split_rows(alignment, Noise(0))
    assert len(found.held_out_rows) == 25
    assert len(found.train_rows) == 75
    assert len(split_rows(alignment, Noise(0), most=7).held_out_rows) == 7
    again = split_rows(alignment, Noise(0)).held_out_rows
    assert (found.held_out_rows == again).all()
    assert (found.held_out_rows != split_rows(alignment, Noise(1)).held_out_rows).any()


def test_a_law_of_columns_costs_what_it_says(families):
    name, family = next(iter(families.items()))
    states = family.alignment.states
    law = pssm(states[family.train_rows])
    family = Family(
        name=name,
        alignment=family.alignment,
        train_rows=family.train_rows,
        held_out_rows=family.held_out_rows[:4],
    )
    table = evaluate_model(
        Columns(law), {name: family}, ks=(0, 2), draws=300, noise=Noise(0)
    )
    rows, residues = nats(law, states[family.held_out_rows])
    exact = rows.sum() / residues.sum() / np.log(2)
    model = {cost.k: cost for cost in table.costs if cost.law == MODEL}
    for k in (0, 2):
        assert model[k].residues.tolist() == residues.tolist()
        assert model[k].bits == pytest.approx(exact, rel=0.02)
    same = next(cost for cost in table.costs if cost.law == PSSM_ALL)
    assert same.bits == pytest.approx(exact)


def test_prompts_are_nested_and_batches_change_nothing(families, monkeypatch):
    shown = []
    real = held_out.pssm

    def spy(states):
        shown.append(states)
        return real(states)

    monkeypatch.setattr(held_out, "pssm", spy)
    name, family = next(iter(families.items()))
    law = pssm(family.alignment.states)
    settings = {"ks": (1, 3), "draws": 2, "rows": 5, "noise": Noise(2)}
    one = evaluate_model(Columns(law), {name: family}, **settings)
    seen = [states for states in shown if len(states) in (1, 3)]
    for small, large in zip(seen[:5], seen[5:], strict=True):
        assert (small[0] == large[0]).all()
    other = evaluate_model(Columns(law), {name: family}, tokens_at_once=1, **settings)
    for a, b in zip(one.costs, other.costs, strict=True):
        assert np.allclose(a.nats, b.nats)
        assert len(a.nats) == 5


def test_a_family_that_is_held_out_whole_is_divided(families):
    alignment = next(iter(families.values())).alignment
    whole = Family(
        name="w",
        alignment=alignment,
        train_rows=np.zeros(0, np.int64),
        held_out_rows=np.arange(1, alignment.depth),
    )
    table = evaluate_model(None, {"w": whole}, ks=(0, 4), noise=Noise(0))
    assert {cost.k for cost in table.costs} == {None, 0, 4}
    assert not table.left_out
    assert all(cost.law != MODEL for cost in table.costs)
    assert table.lines()[0].gain is None


def test_what_cannot_be_measured_is_said(families):
    few = Alignment(
        rows=np.random.default_rng(0).integers(1, 21, (4, 12)).astype(np.uint8),
        headers=("a", "b", "c", "d"),
    )
    found = split_rows(few, Noise(0))
    nothing = Family.of(few)
    law = pssm(few.states)
    table = evaluate_model(
        Columns(law),
        {"few": found, "nothing": nothing},
        ks=(0, 16),
        draws=2,
        noise=Noise(0),
        longest=1000,
    )
    assert table.left_out["nothing"] == "no held-out row"
    assert table.left_out["few, k = 16"] == "only 2 rows to prompt with"
    assert "left out: few, k = 16: only 2 rows" in table.text()
    short = evaluate_model(
        Columns(law), {"few": found}, ks=(0, 1), draws=2, noise=Noise(0), longest=30
    )
    assert "the canvas would take 41 tokens" in short.left_out["few, k = 1"]
    with pytest.raises(DataError, match="none of the 1 families"):
        evaluate_model(None, {"nothing": nothing}, noise=Noise(0))


def test_only_residues_count_and_gaps_are_given(families):
    name, family = next(iter(families.items()))
    rows = family.alignment.rows.copy()
    held = family.held_out_rows
    rows[held[0], :5] = GAP
    alignment = Alignment(rows=rows, headers=family.alignment.headers)
    changed = Family(
        name=name,
        alignment=alignment,
        train_rows=family.train_rows,
        held_out_rows=held[:1],
    )
    law = np.full((rows.shape[1], 20), 1 / 20)
    table = evaluate_model(Columns(law), {name: changed}, ks=(0,), noise=Noise(0))
    cost = next(cost for cost in table.costs if cost.law == MODEL)
    assert cost.residues[0] == (STATE_OF[rows[held[0]]] < len(RESIDUES)).sum()
    assert cost.nats[0] == pytest.approx(cost.residues[0] * np.log(20), rel=1e-5)


def test_gaps_are_scored_if_asked(families):
    name, family = next(iter(families.items()))
    states = family.alignment.states
    held = family.held_out_rows
    law = np.full((states.shape[1], 20), 1 / 20)
    model = Columns(law)
    model.law[1:, GAP] = np.log(1 / 4)
    model.law[1:, 1:21] += np.log(3 / 4)
    table = evaluate_model(
        model, {name: family}, ks=(2,), draws=300, noise=Noise(0), gaps="scored"
    )
    costs = {cost.law: cost for cost in table.costs}
    gaps = (states[held] == 20).sum()
    residues = (states[held] < 20).sum()
    assert costs[MODEL].residues.sum() == gaps + residues
    exact = gaps * np.log2(4) + residues * np.log2(20 * 4 / 3)
    assert costs[MODEL].bits == pytest.approx(exact / (gaps + residues), rel=0.02)
    # nothing was seen: a gap has one half
    exact = gaps + residues * (1 + np.log2(20))
    assert costs["uniform"].bits == pytest.approx(exact / (gaps + residues))
    assert costs[PSSM_ALL].bits < costs["uniform"].bits


def made_table():
    """Four families; the model is better than a PSSM by 0.1, 0.2, 0.3 and 0.4 bits."""
    costs = []
    for index in range(4):
        for law, k, bits in (
            ("uniform", None, 4.0),
            (PSSM, 0, 3.0 + index),
            (MODEL, 0, 2.9 + index * 0.9),
        ):
            nats = np.array([10.0, 30.0]) * bits * np.log(2)
            residues = np.array([10.0, 30.0])
            costs.append(
                Cost(family=f"f{index}", law=law, k=k, nats=nats, residues=residues)
            )
    return HeldOutTable(costs=tuple(costs), left_out={}, seed=5)


def test_lines_over_families():
    lines = {line.law: line for line in made_table().lines()}
    assert lines[PSSM].mean == pytest.approx(4.5)
    assert lines[PSSM].median == pytest.approx(4.5)
    assert lines[PSSM].gain == pytest.approx(0.25)
    assert 0.1 <= lines[PSSM].gain_low < 0.25 < lines[PSSM].gain_high <= 0.4
    assert lines[MODEL].gain is None
    assert lines["uniform"].low == lines["uniform"].high == pytest.approx(4)
    # the mean of four values, resampled: standard error sd / 2
    values = np.array([3.0, 4, 5, 6])
    width = lines[PSSM].high - lines[PSSM].low
    assert width == pytest.approx(2 * 1.96 * values.std() / 2, rel=0.1)
    assert "+0.250" in made_table().text()
    assert made_table().as_dict()["families"][0]["residues"] == 40


def test_one_family_has_no_interval():
    table = made_table()
    costs = tuple(cost for cost in table.costs if cost.family == "f0")
    alone = HeldOutTable(costs=costs, left_out={}, seed=0)
    for line in alone.lines():
        assert (line.low, line.high, line.gain_low, line.gain_high) == (None,) * 4
    text = next(line for line in alone.text().splitlines() if PSSM in line)
    assert text.split()[-3:] == ["–", "+0.100", "(–)"]


def test_only_families_with_k_rows_are_compared():
    table = made_table()
    kept = tuple(
        cost for cost in table.costs if cost.family != "f0" or cost.law != PSSM
    )
    lines = HeldOutTable(costs=kept, left_out={}, seed=0).lines()
    assert {line.families for line in lines} == {3}
