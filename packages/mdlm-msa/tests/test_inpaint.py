"""Rows that are filled, rows that are chosen, and what is kept on record."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_msa import inspection
from mdlm_msa.alphabet import STATE_OF, decode, encode
from mdlm_msa.config import GenerationConfig
from mdlm_msa.generation import summary
from mdlm_msa.generation.choose import best, chosen, diverse, read_scores
from mdlm_msa.generation.holes import chances, holes
from mdlm_msa.generation.inpaint import inpaint
from mdlm_msa.generation.prompt_text import read_prompt
from mdlm_msa.generation.provenance import (
    Model,
    clean,
    fingerprint,
    inpainted_record,
    marked,
    marked_inpainted,
    record,
    write_record,
)
from mdlm_msa.generation.recorded import recorded_prompt
from mdlm_msa.generation.subfamilies import subfamilies
from mdlm_msa.generation.summary import describe, measure
from mdlm_msa.weights import neff

from .generation_toys import QUERY, ROWS, Context, Flat, family, write
from .score_toys import ColumnLaws, random_laws

LACKING = (
    QUERY,
    "MKSAXIAKQR--SFVRSHFS",
    "-KTAYLAKXRQISFVKTH--",
    "MRTAYIARQRQLSYVKSHFT",
)
MODEL = Model(name="toy", fingerprint="0")


def fill(what, source=None, model=None, *, rows=None, columns=None, **settings):
    more = {"below": settings.pop("below")} if "below" in settings else {}
    return inpaint(
        model or Context(),
        family(*LACKING) if source is None else source,
        what,
        GenerationConfig(**{"steps": 6, **settings}),
        schedule=LogLinear(0.0),
        length=256,
        rows=rows,
        columns=columns,
        **more,
    )


def places(mask) -> dict[int, list[int]]:
    return {
        row: np.flatnonzero(line).tolist()
        for row, line in enumerate(mask)
        if line.any()
    }


# ---- filling ----------------------------------------------------------------------


def test_holes_by_hand():
    source = family(*LACKING)
    assert places(holes(source, "gaps")) == {1: [10, 11], 2: [0, 18, 19]}
    assert places(holes(source, "x")) == {1: [4], 2: [8]}
    assert places(holes(source, "fragments")) == {2: [0, 18, 19]}
    columns = np.zeros(20, bool)
    columns[[2, 5]] = True
    assert places(holes(source, "columns", columns=columns)) == {
        1: [2, 5],
        2: [2, 5],
        3: [2, 5],
    }
    with pytest.raises(UsageError, match="needs columns"):
        holes(source, "columns")
    with pytest.raises(UsageError, match="one of gaps"):
        holes(source, "ends")


@pytest.mark.parametrize("what", ["gaps", "x", "fragments"])
@pytest.mark.parametrize("sampler", ["ddpm", "remask"])
def test_what_lacks_is_filled_and_nothing_else_changes(what, sampler):
    source = family(*LACKING)
    found = fill(what, sampler=sampler)
    empty = holes(source, what)
    assert np.array_equal(found.written, empty)
    assert np.array_equal(found.alignment.rows[~empty], source.rows[~empty])
    assert bool((STATE_OF[found.alignment.rows[empty]] < 20).all())
    assert found.changed == int(empty.sum())
    assert found.rows == tuple(np.flatnonzero(empty.any(1)).tolist())


def test_a_row_alone_does_not_depend_on_the_others_that_are_filled():
    both = fill("gaps", together=1, prompt=1)
    one = fill("gaps", together=1, prompt=1, rows=[2], batch=1)
    assert decode(one.alignment.rows[2]) == decode(both.alignment.rows[2])
    assert decode(one.alignment.rows[1]) == LACKING[1]
    assert one.shown[2] == both.shown[2]
    assert set(both.shown) == {1, 2}
    every = fill("gaps", together=1, prompt=9).shown
    assert {row: sorted(others) for row, others in every.items()} == {
        1: [2, 3],
        2: [1, 3],
    }


def test_letters_that_were_not_written_stay_as_they_were():
    rows = (QUERY, "UKBAXIAKQR--SFVRSHFO", "ZKTAYIAKQRQISFVKSHFU", LACKING[3])
    letters = (
        *(QUERY.encode(), b"UKBAJbbIAKQR--SFVRSHFO"),
        *(row.encode() for row in rows[2:]),
    )
    source = replace(family(*rows), letters=letters)
    found = fill("gaps", source)
    kept = found.alignment
    filled = decode(kept.rows[1])
    assert f"{filled[:10]}--{filled[12:]}" == rows[1]
    assert [decode(row) for row in kept.rows[2:]] == list(rows[2:])
    new = filled[10:12].encode()
    assert kept.letters == (
        letters[0],
        letters[1].replace(b"--", new),
        *letters[2:],
    )
    assert found.changed == 2
    unknown = fill("x", source)
    assert places(unknown.written) == {1: [4]}
    assert decode(unknown.alignment.rows[1])[:4] == "UKBA"
    assert any("not in what is written" in note for note in found.notes)


def test_rows_that_say_nothing_are_not_shown_to_others():
    source = family(*LACKING, "-" * 20, QUERY)
    found = fill("fragments", source, rows=[2], prompt=9)
    assert sorted(found.shown[2]) == [1, 3]
    assert any("never shown" in note for note in found.notes)


def test_columns_may_get_gaps_unless_told_otherwise():
    every = np.ones(20, bool)
    free = fill("columns", columns=every).alignment.rows[1:]
    none = fill("columns", columns=every, gaps="none").alignment.rows[1:]
    assert "-" in decode(free.ravel())
    assert "-" not in decode(none.ravel())


def test_insertions_stay_where_they_are():
    letters = (
        QUERY.encode(),
        b"MKSAaaXIAKQR--SFVRSHFSk",
        *(x.encode() for x in LACKING[2:]),
    )
    source = replace(family(*LACKING), letters=letters)
    found = fill("gaps", source).alignment
    filled = decode(found.rows[1])
    assert found.letters[1].decode() == f"{filled[:4]}aa{filled[4:]}k"
    assert found.letters[3] == letters[3]


def test_unlikely_residues_are_those_below_the_bound():
    laws = random_laws(20)[:, :21]
    model = ColumnLaws(laws)
    source = family()
    mass = laws[:, :20] / laws[:, :20].sum(1, keepdims=True)
    states = source.states
    expected = np.zeros(states.shape, bool)
    for row in range(1, source.depth):
        for column in range(20):
            state = states[row, column]
            expected[row, column] = state < 20 and mass[column, state] < 0.02
    found = fill("unlikely", source, model, below=0.02)
    assert np.array_equal(found.written, expected)
    with pytest.raises(UsageError, match="probability in"):
        fill("unlikely", source, model, below=1.0)


def test_every_residue_is_judged_once_given_the_others():
    row = family().rows[3]
    found = chances(
        Flat(),
        row,
        family().rows[:1],
        number=3,
        noise=Noise(0),
        at_once=3,
        schedule=LogLinear(0.0),
    )
    there = STATE_OF[row] < 20
    assert np.isnan(found[~there]).all()
    assert found[there] == pytest.approx(1 / 20)


def test_nothing_to_fill_and_rows_that_cannot_be_filled():
    with pytest.raises(DataError, match="no row that may be filled has an X"):
        fill("x", family())
    with pytest.raises(UsageError, match="row 1 cannot be filled: it is the query"):
        fill("gaps", rows=[0])
    with pytest.raises(UsageError, match="there are 4 rows"):
        fill("gaps", rows=[9])
    with pytest.raises(UsageError, match="template is for new rows"):
        fill("gaps", gaps="template")


def test_filled_rows_say_so():
    found = fill("gaps")
    headers = marked_inpainted(found, model="my run").headers
    assert headers[0] == "row1 of toy"
    assert headers[1] == "mdlm|my_run|seed=0|filled=2 row2 of toy"
    assert headers[3] == "row4 of toy"
    kept = inpainted_record(found, MODEL, what="gaps", file="out.a3m")
    assert kept["written"] == 5
    assert [row["row"] for row in kept["rows"]] == [2, 3]
    assert kept["rows"][1]["columns"] == [1, 19, 20]
    assert [row["letters"] for row in kept["prompt"]] == list(LACKING)
    json.dumps(kept, allow_nan=False)


# ---- choosing ---------------------------------------------------------------------


def test_diverse_rows_by_hand():
    states = np.stack(
        [STATE_OF[encode(text)] for text in ("AAAA", "AAAC", "CCCC", "AACC")]
    )
    cost = np.array([1.0, 2.0, 4.0, 3.0])
    # without likelihood: 0 first as the least costly, then 2 at distance 1, then 3
    assert diverse(states, cost, 3, weight=0.0).tolist() == [0, 2, 3]
    # values with w = 3 after 0: 1/4 + 3 * 2/3, 1 + 0, 1/2 + 3 * 1/3
    assert diverse(states, cost, 2, weight=3.0).tolist() == [0, 1]
    assert diverse(states, cost, 9).tolist()[0] == 0
    assert sorted(diverse(states, cost, 9).tolist()) == [0, 1, 2, 3]
    assert best(np.array([1.0, np.nan, 3.0, 2.0]), 3).tolist() == [2, 3, 0]


def test_chosen_rows_keep_what_is_known_of_them():
    found = write(rows=8, draws=2)
    few = chosen(found, 3)
    kept = [decode(row) for row in few.alignment.rows[1:]]
    whole = [decode(row) for row in found.alignment.rows[1:]]
    assert few.alignment.query == QUERY
    assert [found.rows[whole.index(row)] for row in kept] == list(few.rows)
    assert min(row.nats_per_residue for row in found.rows) == pytest.approx(
        few.rows[0].nats_per_residue
    )
    by_score = chosen(found, 2, scores=[0, 1, 2, 3, 9, 5, 6, 7])
    assert [decode(row) for row in by_score.alignment.rows[1:]] == [whole[4], whole[7]]
    with pytest.raises(UsageError, match="2 scores for 8"):
        chosen(found, 2, scores=[1, 2])
    with pytest.raises(UsageError, match="likelihood"):
        chosen(write(rows=3), 2)


def test_scores_are_read_by_header(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("name,plddt,x\nb,70.5,1\na,60,2\n")
    assert read_scores(path, ["a one", "b", "c"]).tolist()[:2] == [60, 70.5]
    assert np.isnan(read_scores(path, ["a one", "b", "c"])[2])
    assert read_scores(path, ["a", "b"], column="x").tolist() == [2, 1]
    with pytest.raises(DataError, match="no column 'ptm'"):
        read_scores(path, ["a", "b"], column="ptm")
    with pytest.raises(DataError, match="line 2: no row has the header 'b'"):
        read_scores(path, ["a"])
    path.write_text("name\tplddt\na\thigh\n")
    with pytest.raises(DataError, match="line 2: the score 'high' is no number"):
        read_scores(path, ["a"])
    with pytest.raises(UsageError, match="no file"):
        read_scores(tmp_path / "none.csv", ["a"])


# ---- provenance -------------------------------------------------------------------


def test_headers_say_model_seed_row_and_cost():
    found = write(rows=3, draws=2, model=Flat(), seed=7)
    headers = marked(found, model="a b|c\t>").headers
    assert headers[0] == "row1 of toy"
    assert headers[1:] == tuple(
        f"mdlm|a_b_c__|seed=7|row={i}|nll=2.996" for i in (1, 2, 3)
    )
    assert clean("") == "model"
    odd = family(QUERY.replace("Y", "U"), ROWS[1].replace("Y", "O"))
    kept = marked(write(odd, rows=1), model="m", keep_input=True)
    assert [decode(row) for row in kept.rows[:2]] == [decode(r) for r in odd.rows]
    assert kept.depth == 3
    whole = marked(found, model="m", keep_input=True)
    assert whole.depth == len(ROWS) + 3
    assert whole.headers[: len(ROWS)] == family().headers


def test_the_record_holds_what_made_the_rows(tmp_path):
    found = write(rows=3, draws=1, prompt=2, together=2, seed=3)
    kept = record(
        found,
        MODEL,
        file="out.a3m",
        sampler={"name": "ddpm", "steps": 8},
        measured=measure(found),
    )
    place = write_record(tmp_path / "out.a3m", kept)
    assert place.name == "out.a3m.json"
    read = json.loads(place.read_text())
    assert read["settings"]["seed"] == 3
    assert read["model"]["name"] == "toy"
    assert read["sampler"]["steps"] == 8
    assert read["query"]["residues"] == 20
    assert [part["canvas"] for part in read["shown"]] == [0, 1]
    row = read["shown"][0]["rows"][0]
    assert found.source.headers[row["row"] - 1] == row["header"]
    prompt = recorded_prompt(tmp_path / "out.a3m")
    told = sorted({0, *(row for rows in found.shown.values() for row in rows)})
    assert np.array_equal(prompt.rows, found.source.rows[told])
    assert prompt.headers == tuple(found.source.headers[i] for i in told)
    assert recorded_prompt(tmp_path / "other.a3m") is None
    (tmp_path / "other.a3m.json").write_text('{"rows": []}')
    with pytest.raises(DataError, match="--prompt"):
        recorded_prompt(tmp_path / "other.a3m")
    assert len(read["rows"]) == 3
    assert read["acceptance"] == 1.0
    assert "too few natural rows" in read["measured"]["verdict"]


def test_the_fingerprint_is_that_of_the_weights():
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    with torch.no_grad():
        other.bias[0] += 1e-3
    assert fingerprint(one) != fingerprint(other)


def test_the_summary_counts_what_new_rows_add():
    found = write(rows=4, draws=1)
    numbers = measure(found)
    assert numbers["neff_gain"] == pytest.approx(
        numbers["neff_both"] - numbers["neff_input"]
    )
    both = np.vstack([found.source.states, found.alignment.states[1:]])
    assert numbers["neff_both"] == pytest.approx(neff(both))
    assert numbers["neff_new"] == pytest.approx(neff(both[-4:]))
    assert numbers["neff_input"] == pytest.approx(neff(found.source.states))
    assert numbers["rows"] == 4
    nats = sum(row.nats for row in found.rows)
    residues = sum(row.residues for row in found.rows)
    assert numbers["bits_per_residue"] == pytest.approx(nats / residues / np.log(2))
    lines = describe(numbers)
    assert any(line.startswith("Neff") for line in lines)
    assert describe({}) == []


def test_effective_rows_of_new_and_known_ones_together():
    known = family().states
    new = np.vstack([known[[1, 1, 4]], (known[:2] + 7) % 20])
    both = np.vstack([known, new])
    expected = neff(new), neff(known), neff(both)
    assert summary.effective(known, new) == pytest.approx(expected)
    assert neff(both) < neff(known) + neff(new) - 1


def test_rows_of_the_input_beyond_a_bound_do_not_count(monkeypatch):
    found = write(rows=4)
    monkeypatch.setattr(inspection, "NEFF_ROWS", 3)
    compared = []
    weights = summary.sequence_weights
    monkeypatch.setattr(
        summary,
        "sequence_weights",
        lambda states: compared.append(len(states)) or weights(states),
    )
    numbers = measure(found)
    assert sorted(compared) == [3, 4]  # nothing is compared twice
    assert (numbers["neff_rows"], numbers["input_rows"]) == (3, 6)
    assert numbers["neff_input"] <= 3
    assert "on 3 of the 6 rows of the input" in describe(numbers)[0]


def test_the_summary_says_when_rows_are_no_better_than_a_pssm():
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
    laws = rng.dirichlet(np.full(20, 0.3), 30)
    rows = [
        bytes(letters[[rng.choice(20, p=law) for law in laws]]).decode()
        for _ in range(90)
    ]
    found = write(family(*rows), rows=20, tokens=512, model=Flat())
    numbers = measure(found)
    assert numbers["better_than_pssm"] is not True
    assert numbers["unseen"] == 89 - len({r for s in found.shown.values() for r in s})
    lines = describe(numbers)
    assert any("PSSM" in line for line in lines)


# ---- prompts and subfamilies ------------------------------------------------------


def test_prompt_text_is_read():
    found = read_prompt(" MKT A <M>MK-A<M>")
    assert [decode(row) for row in found.rows] == ["MKTA", "MK-A"]
    with pytest.raises(UsageError, match="row 2 has 3 letters and the query 4"):
        read_prompt("MKTA<M>MKT")
    with pytest.raises(UsageError, match="query is empty"):
        read_prompt("<M>MK")
    lower = read_prompt("mkTA<m>mk-a")
    assert [decode(row) for row in lower.rows] == ["MKTA", "MK-A"]
    assert lower.notes == {"letters of lower case read as upper case": 5}
    assert any("nucleotides" in note for note in read_prompt("ACGTUACGU").notes)
    with pytest.raises(DataError, match="'J'"):
        read_prompt("MKJ")


def test_subfamilies_have_the_query_and_their_rows():
    near = ["MKTAYIAKQRQISFVKSHFS"[:i] + "W" + QUERY[i + 1 :] for i in range(4)]
    other = "GGSAPPDDEELLNNQQRRTT"
    far = [other[:i] + "W" + other[i + 1 :] for i in range(6)]
    parts = list(subfamilies(family(QUERY, *near, *far), 5))
    assert [part.depth for part in parts] == [7, 5]
    assert all(part.query == QUERY for part in parts)
    assert {decode(row) for row in parts[0].rows[1:]} == set(far)
    assert [part.name for part in parts] == ["toy.1", "toy.2"]
    assert len(list(subfamilies(family(QUERY, *near, *far), 1))) == 1
    with pytest.raises(UsageError, match="need homologues"):
        list(subfamilies(family(QUERY), 2))
