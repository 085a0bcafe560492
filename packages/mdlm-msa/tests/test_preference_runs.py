"""Whole runs: pairs made by a model, learned from, resumed, and used afterwards."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mdlm_core.catalog import load_catalog
from mdlm_core.cli import run as command
from mdlm_core.config import Component, resolve
from mdlm_core.errors import CheckpointError, ConfigError, MdlmError
from mdlm_core.evaluate import evaluate
from mdlm_core.kernels.noise import Noise
from mdlm_core.train import load_run, train
from mdlm_msa.alphabet import ID_OF_STATE
from mdlm_msa.cli.prefer import prefer
from mdlm_msa.formats.writing import write_alignment
from mdlm_msa.preference.pairs import read_pairs, write_pairs
from mdlm_msa.preference.task import Drifted

from .family_toys import relatives
from .preference_toy import pair

QUERIES = ("LAGVSERT", "VSETLLAG", "WCPCMKRL")
SETS = (
    "train.precision=fp32",
    "train.batch_size=4",
    "train.warmup=0",
    "sampler.steps=2",
    "task.eval_draws=2",
)


def settings(preset, *sets):
    return resolve(load_catalog(), preset=preset, sets=[*SETS, *sets], tiny=True).config


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return a run of two steps."""
    out = tmp_path_factory.mktemp("runs") / "reference"
    config = settings("msa/default", "train.steps=2", "train.eval_every=2")
    train(config, out=out, device="cpu")
    return out


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a file of pairs whose winners are like the query and losers are not."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rng = np.random.default_rng(0)
    found = []
    for query in QUERIES:
        for number in range(6):
            rows = np.repeat(pair(query, [query], ["-" * 8]).winner, 2, 0)
            change = rng.random(rows.shape) < 0.2
            other = ID_OF_STATE[rng.integers(20, size=rows.shape)]
            winner = np.where(change, other, rows)
            loser = ID_OF_STATE[rng.integers(21, size=rows.shape)]
            base = pair(query, [query], ["-" * 8], id=f"{query}{number}")
            found.append(
                type(base)(
                    query=base.query,
                    prompt=base.prompt,
                    winner=winner.astype(np.uint8),
                    loser=loser,
                    id=base.id,
                )
            )
    write_pairs(found, path)
    return path


def aligned(reference, pairs, *sets):
    more = (f"task.reference={reference}", f"data.path={pairs}", "data.holdout=0.3")
    return settings("msa/align", *more, "train.lr=1e-2", "task.drift=0", *sets)


def test_it_learns_which_alignments_win_and_can_be_used(reference, pairs, tmp_path):
    config = aligned(
        reference, pairs, "train.steps=20", "train.eval_every=10", "task.eval_rows=0"
    )
    outcome = train(config, out=tmp_path / "run", device="cpu")
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    before = next(line for line in lines if line["kind"] == "validation")
    assert before["loss"] == pytest.approx(np.log(2))
    assert before["drift"] == 0
    after = outcome.held_out
    assert after["accuracy"] > 0.8
    assert after["loss"] < before["loss"] - 0.05
    assert after["margin"] > 2 * after["margin_se"] > 0
    # a run needs its reference to go on, not to be used
    moved = reference.with_name("moved")
    reference.rename(moved)
    try:
        loaded = load_run(tmp_path / "run")
        found = evaluate(loaded, draws=2)
        assert np.isfinite(found["bound"]["nats_per_token"]["value"])
        assert all(
            "\n" in text
            for text in loaded.task.samples(loaded.module, loaded.source, seed=0)
        )
        names = list(loaded.module.state_dict())
        assert {n.split(".")[0] for n in names} == {"backbone", "checksum"}
        with pytest.raises(ConfigError, match="is no run"):
            loaded.task.evaluate(loaded.module, loaded.source)
    finally:
        moved.rename(reference)
    assert loaded.task.evaluate(loaded.module, loaded.source)["loss"] == pytest.approx(
        after["loss"]
    )


def test_a_run_that_was_resumed_is_the_run_that_was_not(reference, pairs, tmp_path):
    constant = ("train.save_every=2", "train.lr_schedule=constant")

    def go(out, steps, resume=False):
        config = aligned(reference, pairs, f"train.steps={steps}", *constant)
        train(config, out=out, resume=resume, device="cpu")
        return load_run(out, checkpoint="last", weights="raw").module.state_dict()

    whole = go(tmp_path / "whole", 4)
    go(tmp_path / "parts", 2)
    parts = go(tmp_path / "parts", 4, resume=True)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_another_reference_is_refused(reference, pairs, tmp_path):
    config = aligned(reference, pairs, "train.steps=2")
    train(config, out=tmp_path / "run", device="cpu")
    loaded = load_run(tmp_path / "run")
    loaded.module.checksum += 1
    with pytest.raises(CheckpointError, match="not those of"):
        loaded.task.evaluate(loaded.module, loaded.source)


def test_another_model_is_refused(reference, pairs, tmp_path):
    for changed, message in (
        ("model.heads=1", r"model.heads is 1, and 2 in the reference.*msa align"),
        ("model.name=dit", "model.name is 'dit', and 'protein-dit'"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(
                aligned(reference, pairs, "train.steps=1", changed),
                out=tmp_path / changed,
                device="cpu",
            )
    config = replace(aligned(reference, pairs), masking=Component(name="other"))
    task = load_catalog().build("task", config.task, run=config, catalog=None)
    with pytest.raises(ConfigError, match=r"set masking.name=uniform"):
        task.build(None)


def test_it_stops_when_the_winners_become_less_likely(reference, pairs, tmp_path):
    config = aligned(
        reference,
        pairs,
        "train.steps=30",
        "train.eval_every=3",
        "train.lr=0.2",
        "task.sft=0",
        "task.drift=0.05",
    )
    with pytest.raises(Drifted, match=r"task.drift allows 5.0%; training stops"):
        train(config, out=tmp_path / "run", device="cpu")
    assert load_run(tmp_path / "run").step < 30


def test_pairs_from_the_command_line(reference, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one", "two")):
        family = relatives(31, 12, seed=seed, change=0.7, name=name)
        write_alignment(family, tmp_path / f"{name}.a3m", format="a3m")
    write_alignment(relatives(5, 12), tmp_path / "few.a3m", format="a3m")
    base = ["msa", "prefer"]
    assert command([*base, "*.a3m", "--out", "n.jsonl", "--prompt", "2"]) == 0
    shown = capsys.readouterr()
    assert "left out: 'few' has 4 homologues" in shown.err
    assert "8 pairs of 2 queries by 'profile'" in shown.out
    natural = list(read_pairs("n.jsonl"))
    assert [p.meta["source"] for p in natural] == ["natural"] * 8
    assert natural[0].prompt.shape == (2, 12)

    more = [
        "--model",
        str(reference),
        "--rows",
        "2",
        "--candidates",
        "4",
        "--prompt",
        "1",
    ]
    made = ["--steps", "2", "--candidates-out", "made", "--out", "g.jsonl", "--json"]
    assert command([*base, "one.a3m", "two.a3m", *more, *made, "--device", "cpu"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["pairs"] == 4
    generated = list(read_pairs("g.jsonl"))
    assert {p.meta["source"] for p in generated} == {"generated"}
    assert all(p.winner.shape == (2, 12) for p in generated)
    assert all(p.prompt.shape == (1, 12) for p in generated)

    # another program scores the same candidates, the other way round
    with open("made/candidates.csv") as file:
        table = list(csv.DictReader(file))
    with open("made/mine.csv", "w") as file:
        print("file,plddt", file=file)
        for line in table:
            print(f"{line['file']},{-float(line['score'])}", file=file)
    scores = ["--scores", "made/mine.csv", "--score-column", "plddt"]
    assert command([*base, *scores, "--out", "s.jsonl"]) == 0
    mine = {p.winner.tobytes(): p for p in read_pairs("s.jsonl")}
    for each in generated:
        other = mine[each.loser.tobytes()]
        assert (other.loser == each.winner).all()
        assert (other.prompt == each.prompt).all()
        assert other.score_difference == pytest.approx(each.score_difference)
        assert other.reward == "plddt"


def test_few_pairs_are_said_and_enough_for_tiny(reference, tmp_path, capsys):
    path, out = tmp_path / "one.a3m", tmp_path / "two.jsonl"
    write_alignment(relatives(31, 12, seed=0, change=0.7, name="one"), path)
    made = ["msa", "prefer", str(path), "--per-query", "2", "--out", str(out)]
    assert command(made) == 0
    said = capsys.readouterr().out
    assert "too few for 'mdlm msa align': 1 would be left" in said
    assert "--model RUN" not in said
    base = ["msa", "align", "--data", str(out), "--model", str(reference)]
    base += ["--device", "cpu", "--set", "data.length=512"]
    assert command([*base, "--out", str(tmp_path / "full"), "--steps", "1"]) == 1
    assert "is 1 pair to learn from" in capsys.readouterr().err
    run = ["--out", str(tmp_path / "run"), "--tiny", "--steps", "1"]
    assert command([*base, *run]) == 0
    assert "after 1 steps" in capsys.readouterr().out


def test_why_there_is_no_pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.fa").write_text(">q\nMKVLAMKVLA\n")
    with pytest.raises(MdlmError, match=r"no query is left.* 8 homologues") as caught:
        prefer(families=["q.fa"], **OUT)
    assert "--min-difference" not in str(caught.value)
    write_alignment(relatives(31, 12, seed=0, change=0.7), tmp_path / "one.a3m")
    with pytest.raises(MdlmError, match="less than --min-difference 100; lower it"):
        prefer(families=["one.a3m"], min_difference=100.0, **OUT)


OUT = {"out": Path("p.jsonl")}
TABLE = {"scores": Path("t.csv"), **OUT}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ["x"]}, "add --out FILE"),
        ({**OUT}, "give FAMILIES"),
        ({"families": ["x"], **TABLE}, "one of the two"),
        ({**TABLE}, "needs --score-column"),
        ({"families": ["x"], "score_column": "c", **OUT}, "give both"),
        ({"families": ["x"], "mix": True, **OUT}, "--mix is for --model"),
        ({"families": ["x"], "row_filter": "all", **OUT}, "default, msagpt, none"),
        ({"families": ["x"], "reward": "copies", **OUT}, "no reward 'copies'"),
        ({"families": ["x"], "rows": 0, **OUT}, "--rows is 0; it must be at least 1"),
        ({"families": ["x"], "out": Path("old")}, "exists; choose another file"),
        ({**TABLE, "score_column": "c"}, "no column 'c'; its columns are file, b"),
        ({**TABLE, "score_column": "b"}, "t.csv:2': there is no file 'none.a3m'"),
        ({**TABLE, "scores": Path("u.csv"), "score_column": "b"}, "'high'; it must"),
    ],
)
def test_what_prefer_refuses(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").write_text("kept")
    (tmp_path / "t.csv").write_text("file,b\nnone.a3m,3\n")
    (tmp_path / "u.csv").write_text("file,b\nu.csv,high\n")
    with pytest.raises(MdlmError, match=re.escape(message)):
        prefer(**options)
    assert (tmp_path / "old").read_text() == "kept"


def test_align_from_the_command_line(reference, pairs, tmp_path, capsys):
    out = tmp_path / "aligned"
    base = ["msa", "align", "--device", "cpu"]
    given = ["--data", str(pairs), "--model", str(reference), "--out", str(out)]
    small = [part for each in SETS for part in ("--set", each)]
    dumped = [*base, *given, "--objective", "ipo", "--beta", "0.3", "--dump-config"]
    assert command(dumped) == 0
    text = capsys.readouterr().out
    assert "objective: ipo" in text
    assert "width: 32" in text
    assert not out.exists()
    assert command([*base, *given, *small, "--steps", "2"]) == 0
    assert "in the right order" in capsys.readouterr().out
    assert command([*base, "--out", str(out), "--resume", "--steps", "3"]) == 0
    assert "after 3 steps" in capsys.readouterr().out
    assert command([*base, "--data", str(pairs), "--out", str(out)]) == 2
    assert "add --model RUN" in capsys.readouterr().err
    assert command([*base, "--resume"]) == 2
    assert "add --out RUN" in capsys.readouterr().err
    assert command([*base, "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "there is no run in" in capsys.readouterr().err
    loose = [*given[:-1], str(tmp_path / "loose"), "--set", "task.sft=0"]
    wild = ["--set", "train.lr=0.3", "--set", "task.drift=0.01", "--steps", "40"]
    often = ["--set", "train.eval_every=2"]
    assert command([*base, *loose, *small, *wild, *often]) == 0
    assert "stopped: the bound of held-out winners has risen" in capsys.readouterr().out


def test_held_out_masks_are_the_same_for_all_models(reference, pairs, tmp_path):
    config = aligned(reference, pairs, "train.steps=1")
    train(config, out=tmp_path / "run", device="cpu")
    loaded = load_run(tmp_path / "run")
    first = loaded.task.evaluate(loaded.module, loaded.source)
    assert loaded.task.evaluate(loaded.module, loaded.source) == first
    batch = next(loaded.source.batches("validation", size=2, seed=0))
    found = loaded.module.margins(batch, Noise(config.seed).child("evaluate"), 2)
    kept = loaded.module.margins(
        batch, Noise(config.seed).child("evaluate"), 2, keep=True
    )
    assert torch.equal(found.values, kept.values)
