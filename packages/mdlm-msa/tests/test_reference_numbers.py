"""Numbers of real families, where their alignments lie beside the checkout."""

import json
from pathlib import Path

import numpy as np
import pytest

from mdlm_core.kernels.noise import Noise
from mdlm_msa.evaluation.compare import beside_baselines
from mdlm_msa.evaluation.contacts_mf import (
    mean_field,
    pair_scores,
    precision,
    read_structure,
)
from mdlm_msa.evaluation.generators import COPIES, MUTATION, NATURAL, PSSM
from mdlm_msa.evaluation.held_out import split_rows
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.laws import (
    background_law,
    bits,
    copy_law,
    pssm,
    substitution_law,
)

DATA = Path(__file__).parents[4] / "shared" / "data" / "msa"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the alignments of real families"
)


def read(name):
    return read_alignment(DATA / f"{name}.a3m.gz").canonical()


@pytest.mark.parametrize("name", ["7mrx", "casp13_T1001", "hmmer_fn3"])
def test_bits_of_baselines(name):
    known = json.loads((DATA / "stats.json").read_text())[name]
    alignment = read(name)
    family = split_rows(alignment, Noise(0).child(name))
    states = alignment.states
    held = states[family.held_out_rows]
    some = np.random.default_rng(1).choice(family.train_rows, 16)
    laws = {
        "b_bg": background_law(alignment.length),
        "b_blosum": substitution_law(states[0]),
        "b_copy": copy_law(states[0]),
        "b_pssm16": pssm(states[some]),
        "b_pssm_all": pssm(states[family.train_rows]),
    }
    for key, law in laws.items():
        # another split of the rows; a few dozen of them in the small families
        assert bits(law, held) == pytest.approx(known[key], abs=0.2), key


@pytest.mark.parametrize(("name", "value"), [("7mrx", 0.43), ("6e6r", 0.25)])
def test_contacts_of_natural_rows(name, value):
    alignment = read(name)
    covered = alignment.is_residue.mean(1) >= 0.5
    structure = read_structure(DATA / "structures" / f"{name}.cb.tsv", alignment.query)
    scores = pair_scores(mean_field(alignment.states[covered]))
    assert precision(scores, structure) == pytest.approx(value, abs=0.011)


def test_generators_of_a_real_family():
    alignment = read("6e6r")
    rows = alignment.states[1:]
    rows = rows[(rows < 20).mean(1) >= 0.5]
    lines = beside_baselines(
        rows[:200], rows[200:], alignment.states[0], Noise(0)
    ).lines
    assert lines[NATURAL].js < 0.06
    assert lines[NATURAL].pair_r > 0.1
    assert abs(lines[PSSM].pair_r) < 0.03
    assert abs(lines[PSSM].residue_r) < 0.03
    assert lines[PSSM].js < 0.07
    assert lines[MUTATION].js > 0.1
    assert lines[COPIES].js > 0.5
    assert lines[COPIES].neff_share == pytest.approx(1 / 200)
