"""What a run held out, and what it learned from, when it is read again later."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mdlm_classify.cli import train_runs
from mdlm_classify.cli.train_runs import Plan
from mdlm_classify.config import LabelledTextConfig
from mdlm_classify.data.prepare import divide, read
from mdlm_classify.data.rows import Rows
from mdlm_classify.data.source import build
from mdlm_classify.data.split import places
from mdlm_classify.data.texts import LabelledTexts
from mdlm_classify.evaluating import known_texts
from mdlm_classify.held_out import chosen
from mdlm_classify.training import IN_MEMORY, repeatable
from mdlm_core.cli import run
from mdlm_core.train import Outcome, processes

from .commands_toy import mdlm, table


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with train.csv, held.csv, and a run that held out the latter."""
    place = tmp_path_factory.mktemp("held-out")
    table(place / "train.csv", 60, 0)
    table(place / "held.csv", 20, 1)
    given = ["--data", place / "train.csv", "--validation", place / "held.csv"]
    more = ["--out", place / "run", "--tiny", "--device", "cpu"]
    assert run(["classify", "train", *map(str, [*given, *more])]) == 0
    return place


def test_texts_held_out_are_read_with_the_tokenizer_of_the_run(capsys, trained):
    before = (trained / "train.csv").read_text()
    given = ["calibrate", trained / "run", "--dry-run", "--json"]
    wanted, _ = mdlm(capsys, *given, "--data", trained / "held.csv")
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
    ]
    with (trained / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        rows = [" ".join(words[i:] + words[:i]) for i in range(10)]
        writer.writerows([text, ("good", "bad")[i % 2]] for i, text in enumerate(rows))
    try:
        found, _ = mdlm(capsys, *given)
    finally:
        (trained / "train.csv").write_text(before)
    assert json.loads(found) == json.loads(wanted)


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_texts_that_changed_are_not_those_held_out(capsys, trained, command):
    held = trained / "held.csv"
    before = held.read_text()
    held.write_text(before.replace("fine", "great") + "a lovely plot,good\n")
    try:
        _, err = mdlm(capsys, command, trained / "run", code=1)
    finally:
        held.write_text(before)
    assert "changed since" in err
    assert "--data" in err
    mdlm(capsys, command, trained / "run", "--json")


def test_only_texts_that_were_learned_from_are_known(tmp_path):
    path, free = table(tmp_path / "texts.csv", 40, 2), tmp_path / "free.txt"
    settings = LabelledTextConfig(path=str(path), rows=20, holdout=0.3)
    train, _, _, _ = read(settings)
    learned, held, _ = divide(train, None, settings)
    free.write_text(f"{held.texts[0]}\nanother film\n")
    asked = LabelledTexts.of([*train.texts, "Another film!"])
    for unlabelled, also in (("", set()), (str(free), {"Another film!"})):
        found = known_texts(replace(settings, unlabelled=unlabelled), asked)
        known = {
            text for text, is_known in zip(asked.texts, found, strict=True) if is_known
        }
        assert known == {*learned.texts, *also}


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_texts_given_in_memory_are_asked_for(capsys, trained, tmp_path, command):
    place = tmp_path / "run"
    shutil.copytree(trained / "run", place)
    config = yaml.safe_load((place / "config.yaml").read_text())
    config["data"] |= {"path": IN_MEMORY, "validation": ""}
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    _, err = mdlm(capsys, command, place, code=2)
    assert "given in memory" in err
    assert "--data" in err


def test_texts_that_were_not_kept_are_not_compared():
    gone = LabelledTextConfig(path="no longer here.csv")
    assert known_texts(gone, LabelledTexts.of(["a"])) is None


def test_places_are_spread_evenly():
    assert places(10, 2) == [2, 7]
    assert places(3, 0) == places(3, 5) == [0, 1, 2]


def test_only_the_texts_that_are_measured_are_made(tmp_path, monkeypatch):
    path = table(tmp_path / "texts.csv", 60, 3)
    source = build(LabelledTextConfig(path=str(path), holdout=0.5, min_count=1))
    documents, labels = source.documents("validation")
    made = []
    real = Rows.document
    monkeypatch.setattr(
        Rows, "document", lambda rows, *given: made.append(given) or real(rows, *given)
    )
    found, classes = chosen(source, 4)
    few = places(len(documents), 4)
    assert found == [documents[place] for place in few]
    assert classes.tolist() == labels[few].tolist()
    assert len(made) == 4


def test_no_stopwatch_decides_what_is_learned(capsys, trained):
    config = yaml.safe_load((trained / "run" / "config.yaml").read_text())
    assert config["train"]["precision"] == "fp32"
    given = ["train", "--data", trained / "train.csv", "--tiny", "--device", "cpu"]
    asked, _ = mdlm(capsys, *given, "--dump-config")
    assert yaml.safe_load(asked)["train"]["precision"] == "auto"
    plan = Plan("classify/default", ["train.precision=auto"], (), (), True, None)
    _, config = plan.resolve(None)
    assert plan.repeatable(config, "cpu").train.precision == "auto"
    assert repeatable(config, "cpu").train.precision == "fp32"


def test_other_processes_leave_before_one_calibrates(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(processes, "leave", lambda: done.append("leave"))
    monkeypatch.setattr(
        train_runs, "_calibrate", lambda *given: done.append("calibrate")
    )
    outcome = Outcome(tmp_path, 1, {}, [], None, 1)
    more = {"test": None, "device": "cpu", "imports": ()}
    train_runs.finish(outcome, None, None, **more)
    assert done == ["leave", "calibrate"]
    done.clear()
    monkeypatch.setattr("accelerate.PartialState.is_main_process", False)
    train_runs.finish(outcome, None, None, **more)
    assert done == ["leave"]
