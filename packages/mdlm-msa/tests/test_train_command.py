"""``mdlm msa train`` of one family, and what its model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdlm_core.cli import run
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.runs import load_run
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.formats.writing import write_alignment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two families, a model of any and a model of the first."""
    made = tmp_path_factory.mktemp("train")
    for name, family in zip("ab", synthetic_families(2, Noise(3)), strict=True):
        rows = family.alignment.select(np.arange(30))
        write_alignment(rows, made / f"{name}.a3m")
    data = ["--data", str(made / "a.a3m"), "--tiny", "--set", "data.length=400"]
    assert run(["msa", "train", *data, "--out", str(made / "any")]) == 0
    own = ["--family", "--from", str(made / "any"), "--out", str(made / "own")]
    assert run(["msa", "train", *data, *own]) == 0
    return made


def test_a_model_of_a_family_begins_with_its_columns(folder: Path) -> None:
    found = load_run(folder / "own")
    profile = found.module.backbone.profile  # type: ignore[union-attr]
    (family,) = found.source.families.values()  # type: ignore[attr-defined]
    assert profile.query.tolist() == family.alignment.rows[0].tolist()
    assert found.config.model.config.columns == family.alignment.length  # type: ignore[union-attr]
    assert found.config.model.config.pseudocount == 40  # type: ignore[union-attr]
    assert found.config.task.config.warm_start == str(folder / "any")  # type: ignore[union-attr]


def test_it_scores_rows_but_not_its_query(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = str(folder / "a.a3m")
    given = ["msa", "score", own, "--model", str(folder / "own"), "--draws", "2"]
    assert run([*given, "--prompt", own]) == 0
    assert "29 homologues" in capsys.readouterr().out
    alone = folder / "alone.a3m"
    alone.write_text("\n".join((folder / "a.a3m").read_text().splitlines()[:2]) + "\n")
    given[2] = str(alone)
    assert run(given) == 2
    assert "the query alone" in capsys.readouterr().err


def test_another_family_and_a_window_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(folder / "own"), "--draws", "2"]
    assert run(["msa", "score", str(folder / "b.a3m"), *model]) != 0
    assert "this is a model of one family" in capsys.readouterr().err
    out = ["--out", str(folder / "new.a3m"), "--window", "20", "--rows", "1"]
    assert run(["msa", "generate", str(folder / "a.a3m"), *model, *out]) != 0
    assert "this is a model of one family" in capsys.readouterr().err


def test_going_on_heeds_the_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ["msa", "train", "--resume", "--out", str(folder / "any")]
    for more, told in (
        (["--family"], "a model of any family"),
        (["--size", "small"], "--size"),
        (["--data", "nothere"], "data.path"),
    ):
        assert run([*on, *more]) == 2
        assert told in capsys.readouterr().err
