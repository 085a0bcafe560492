"""What commands say of a run that is not complete, and of texts unlike others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdlm_classify.answers import Answers, rows
from mdlm_classify.cli.options import unfinished
from mdlm_core.catalog import load_catalog
from mdlm_core.cli import run
from mdlm_core.config import read_run

from .commands_toy import mdlm, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with train.csv and a trained run."""
    place = tmp_path_factory.mktemp("notes")
    table(place / "train.csv", 160, 0)
    arguments = ["--data", place / "train.csv", "--out", place / "run", "--tiny"]
    more = ["--set", "data.holdout=0.3", "--set", "train.sample_every=0"]
    assert run(["classify", "train", *map(str, arguments), *more]) == 0
    return place


def test_texts_of_unknown_words_alone_are_told_of(capsys, folder):
    given = ["--text", "qzx vvw", "--text", "____ xyzzy", "--text", "a fine xyzzy"]
    out, err = mdlm(capsys, "predict", folder / "run", *given, "--gaps", "--json")
    assert [row["tokens"] for row in json.loads(out)["texts"]] == [2, 1, 3]
    assert "no known token: 2 of 3 texts (2 of unknown words alone are scored" in err
    assert "get the prior" not in err
    _, err = mdlm(capsys, "predict", folder / "run", *given[:2], "--text", "")
    assert "no known token: 2 of 2 texts (1 of unknown words alone" in err
    assert "1 without any token get the prior" in err


def test_a_run_that_is_not_complete_says_so(capsys, folder):
    given = ["--text", "a fine film"]
    _, err = mdlm(capsys, "predict", folder / "run", *given)
    assert "not calibrated" not in err
    assert "step" not in err
    place = folder / "stopped"
    shutil.copytree(folder / "run", place)
    (place / "classifier.json").unlink()
    config = (place / "config.yaml").read_text()
    assert "steps: 5" in config
    (place / "config.yaml").write_text(config.replace("steps: 5", "steps: 27", 1))
    _, err = mdlm(capsys, "predict", place, *given)
    assert f"{place}: step 5 of 27" in err
    assert f"{place}: not calibrated; mdlm classify calibrate {place}" in err
    _, err = mdlm(capsys, "calibrate", place, "--dry-run")
    assert "not calibrated" not in err


def test_a_run_that_got_no_better_is_complete(folder):
    config = read_run(folder / "run", load_catalog())
    more = replace(config, train=replace(config.train, steps=27))
    assert unfinished(folder / "run", more) == "step 5 of 27"
    assert unfinished(folder / "run", config) == ""
    place = folder / "early"
    shutil.copytree(folder / "run", place)
    state = sorted(place.glob("checkpoints/step-*"))[-1] / "state.json"
    found = json.loads(state.read_text())
    found["progress"]["worse"] = 2
    state.write_text(json.dumps(found))
    for patience, said in ((0, "step 5 of 27"), (2, ""), (3, "step 5 of 27")):
        train = replace(config.train, steps=27, patience=patience)
        assert unfinished(place, replace(config, train=train)) == said


def test_answers_without_a_likelihood_have_no_doubt_of_draws():
    logs = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64).log()
    answers = Answers(
        labels=("a", "b"), log_posterior=logs, log_prior=torch.tensor([0.5, 0.5]).log()
    )
    found = list(rows(answers, abstain=0.6))
    assert [row["label"] for row in found] == ["b", None]
    assert found[1]["best"] == "a"  # the first of equals
    assert found[0]["trust"] == pytest.approx(0.8)
    assert "draws" not in found[0]
    moved = answers.under(torch.tensor([0.8, 0.2], dtype=torch.float64).log())
    assert moved.log_posterior.exp()[0].tolist() == pytest.approx([0.5, 0.5])
