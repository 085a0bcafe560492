"""Families that resemble others, and runs that have learned from a family before."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from mdlm_core.cli import run
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import RESIDUES
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.data.learned import learned_before
from mdlm_msa.data.related import related_queries, words
from mdlm_msa.data.source import MSASource
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.formats.writing import write_alignment

from .family_toys import REAL, aligned, relatives


def changed(query: str, share: float, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return "".join(
        RESIDUES[rng.integers(20)] if rng.random() < share else letter
        for letter in query
    )


def family(query: str, name: str) -> Alignment:
    rows = [query, *(changed(query, 0.5, seed) for seed in range(1, 9))]
    return aligned(*rows, name=name)


def source(*families: Alignment, hold_out: tuple[str, ...]) -> MSASource:
    config = AlignmentsConfig(filter="none", hold_out=hold_out)
    return MSASource.from_alignments(families, config)


FIRST, SECOND = (relatives(2, 80, seed).query for seed in (0, 1))


def test_words_leave_out_gaps_and_x() -> None:
    assert words("LAG--VSX") == {"LAGVS"}
    assert words("LAGV") == set()


def test_a_held_out_family_like_another_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, part = changed(FIRST, 0.15), FIRST[20:60]
    made = [
        family(FIRST, "one"),
        family(near, "near"),
        family(part, "part"),
        family(SECOND, "two"),
    ]
    held = ("near", "part", "two")
    with caplog.at_level(logging.WARNING):
        found = source(*made, hold_out=held)
    known, own = words(FIRST), words(near)
    share = len(known & own) / min(len(known), len(own))
    assert 0.2 < share < 0.9
    assert found.card()["related_to_training"] == {
        "near": {"family": "one", "words": round(share, 3)},
        "part": {"family": "one", "words": 1.0},
    }
    (said,) = [r.getMessage() for r in caplog.records]
    assert said.startswith("2 families held out whole resemble one that is learned")
    assert "'part' shares 100% of the five-letter words of its query with 'one'" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        plain = source(made[0], made[3], hold_out=("two",))
        monkeypatch.setenv("RANK", "1")
        source(*made, hold_out=held)
    assert plain.card()["related_to_training"] == {}
    assert not caplog.records


def test_a_few_common_words_are_no_relation() -> None:
    short = family(FIRST[:12], "short")  # 8 words, of which the other has 4
    other = family(FIRST[:8] + SECOND[:70], "other")
    divided = source(short, other, hold_out=("short",))
    assert related_queries(divided.families) == {}


def test_real_families_are_not_related_by_chance() -> None:
    files = sorted(REAL.glob("*.a3m.gz"))
    if not files:
        pytest.skip(f"there are no real families in '{REAL}'")
    every = [read_alignment(file, max_rows=1) for file in files]
    found = source(*every, hold_out=tuple(a.name for a in every[::2]))
    for held, (name, part) in related_queries(found.families).items():
        assert part > 0.3, (held, name)


def card(folder: Path, content: object) -> Path:
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps(content))
    return folder


def test_a_run_that_learned_from_the_family_is_said(tmp_path: Path) -> None:
    one, two = family(FIRST, "one"), family(SECOND, "two")
    base = card(tmp_path / "run", source(one, two, hold_out=("two",)).card())
    said = learned_before(base, family(FIRST, "another name"))
    assert said is not None
    assert "has learned from the family 'one', which has the same query" in said
    said = learned_before(base, family(changed(FIRST, 0.1), "one"))
    assert said is not None
    assert "from a family called 'one', with another query" in said
    assert learned_before(base, two) is None, "it was held out"
    for old in (card(tmp_path / "old", {"families": 3}), tmp_path):
        said = learned_before(old, two)
        assert said is not None
        assert "is not known" in said


def test_a_model_of_a_family_begun_with_one_that_knows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, query in (("one", FIRST), ("two", SECOND)):
        write_alignment(family(query, name), tmp_path / "data" / f"{name}.a3m")
    base = tmp_path / "run"
    quick = ["--tiny", "--device", "cpu", "--steps", "1", "--set", "train.eval_every=1"]
    begin = ["--data", str(tmp_path / "data"), "--hold-out", "two", *quick]
    assert run(["msa", "train", *begin, "--out", str(base)]) == 0
    capsys.readouterr()
    for name, known in (("one", True), ("two", False)):
        own = ["--family", "--from", str(base), "--data", f"{tmp_path}/data/{name}.a3m"]
        out = ["--out", str(tmp_path / name), "--dry-run"]
        assert run(["msa", "train", *own, *quick[:3], *out]) == 0
        assert ("has learned from the family" in capsys.readouterr().err) is known
