"""``mdlm classify compare``, as it is called."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mdlm_classify.cli import app
from mdlm_core.errors import ConfigError, DataError, UnknownNameError, UsageError

UP, DOWN = ["fine", "good", "fun"], ["dull", "bad", "noise"]
STORIES = ["film", "story", "play", "song", "book", "tale"]
PAIRS = [
    (f"{word} {thing} number {i}", label)
    for i, thing in enumerate(STORIES)
    for label, words in (("up", UP), ("down", DOWN))
    for word in words
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "verdict"])
        rows.writerows(PAIRS)
    return path


def call(data: Path, *more: object) -> Result:
    columns = ["--text", "review", "--label", "verdict"]
    arguments = ["compare", "--data", str(data), *columns, *map(str, more)]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_baselines_are_compared_and_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(data, "--models", "nb,tfidf-lr", "--out", out)
    table = result.stdout.splitlines()
    assert [line.split()[0] for line in table] == ["model", "nb", "tfidf-lr"]
    card = json.loads((out / "comparison.json").read_text())
    assert card["data"]["train"] + card["data"]["test"] == len(PAIRS)
    assert card["models"][0]["accuracy"]["value"] == 1.0
    assert (out / "comparison.md").read_text().startswith("| model | accuracy % |")
    assert "learning" in result.stderr
    again = call(data, "--models", "nb,tfidf-lr", "--out", out, "--json")
    assert "learning" not in again.stderr  # what is kept is not made again
    assert json.loads(again.stdout) == card


def test_models_of_this_package_leave_their_runs(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ["--tiny", "--device=cpu", "--set=mdlm:model.width=16", "--test", data]
    more += ["--duplicates=keep", "--test-rows=4"]
    result = call(data, "--models=nb,mdlm", "--out", out, *more, "--json")
    found = json.loads(result.stdout)
    assert [model["name"] for model in found["models"]] == ["nb", "mdlm"]
    assert found["models"][1]["against"]["rows"] == 4
    assert "width: 16" in (out / "runs" / "mdlm" / "config.yaml").read_text()
    call(data, "--models=nb,mdlm", "--out", out, *more)
    assert not (out / "runs" / "mdlm-2").exists()


def test_a_dry_run_learns_nothing(data: Path, tmp_path: Path) -> None:
    result = call(data, "--dry-run", "--out", tmp_path / "out")
    assert "28 texts to learn from, 8 to test on" in result.stderr
    assert "mdlm: masked diffusion told the class" in result.stderr
    assert not (tmp_path / "out").exists()


def test_refusals_come_before_learning(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is no model 'svm'"):
        call(data, "--models", "nb,svm")
    with pytest.raises(UsageError, match="--models names none"):
        call(data, "--models", ",")
    with pytest.raises(UsageError, match="--reference mdlm is not compared"):
        call(data, "--models", "nb", "--reference", "mdlm")
    with pytest.raises(UsageError, match="is a file"):
        call(data, "--models", "nb", "--out", data)
    with pytest.raises(ConfigError, match=r"train\.epoch"):
        call(data, "--models", "mdlm", "--set", "train.epoch=1")
    with pytest.raises(DataError, match=r"missing\.csv"):
        call(tmp_path / "missing.csv", "--models", "nb")
