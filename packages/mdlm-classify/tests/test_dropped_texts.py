"""What ``mdlm classify train`` says of texts that it does not learn from."""

from __future__ import annotations

import pytest

from .commands_toy import mdlm, table


@pytest.mark.parametrize("dry", [False, True])
def test_training_says_which_texts_it_drops(capsys, tmp_path, dry):
    path = table(tmp_path / "rep.csv", 60, 0)
    head, *rows = path.read_text().splitlines()
    rows = list({row.rpartition(",")[0]: row for row in rows}.values())
    label = "good" if rows[1].endswith("bad") else "bad"
    other = rows[1].rpartition(",")[0] + "," + label
    path.write_text("\n".join([head, *rows, rows[0], other]))
    more = ["--dry-run"] if dry else ["--set", "train.steps=1"]
    more += ["--set", "train.sample_every=0"]
    given = ["--data", path, "--out", tmp_path / "run", "--tiny"]
    said, _ = mdlm(capsys, "train", *given, *more)
    told = f"{len(rows) + 2} texts of {path}: 2 repeated, 1 of them with another label"
    assert f"{told}: dropped" in said
