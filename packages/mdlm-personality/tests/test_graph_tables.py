"""Tables of traits and labels: what is read, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_personality.causal.tables import from_arrays, from_frame, read_table
from mdlm_personality.traits import TRAITS

HEAD = "openness,conscientiousness,extraversion,agreeableness,neuroticism,wellness"
LABELS = {"wellness": "beliefs"}


def written(tmp_path: Path, *rows: str, head: str = HEAD, name: str = "t.csv") -> Path:
    path = tmp_path / name
    text = "\n".join([head, *rows]) + "\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_traits_labels_and_what_is_missing(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "0.1,0.2,,1,NA,-1", "0,0,0,-1,0.5,", name=name)
    found = read_table(path, labels=LABELS)
    assert found.names == (*TRAITS, "wellness")
    assert found.tiers[-2:] == ("personality", "beliefs")
    nan = np.nan
    rows = [[0.1, 0.2, nan, 1, nan, -1], [0, 0, 0, nan, 0.5, nan]]
    assert np.array_equal(found.values, rows, equal_nan=True)
    assert found.column("E") == 2
    assert found.column("wellness") == 5
    with pytest.raises(UnknownNameError, match="Did you mean 'wellness'"):
        found.column("welness")


def test_tabs_scales_and_columns_of_other_names(tmp_path: Path) -> None:
    path = written(tmp_path, "2\t5\t9", head="Extra\tOpen\tsmoke", name="t.tsv")
    found = read_table(
        path,
        columns={"e": "extra", "openness": "Open"},
        labels={"smoke": "actions"},
        scale=(1, 5),
    )
    assert found.names == ("openness", "extraversion", "smoke")
    assert found.values.tolist() == [[1.0, 0.25, 9.0]]
    with pytest.raises(UnknownNameError, match="'n' is no column"):
        found.column("n")


def test_allowed_edges_go_from_tier_to_tier(tmp_path: Path) -> None:
    found = read_table(written(tmp_path, "0,0,0,0,0,1"), labels=LABELS)
    assert found.allowed().sum() == 5
    assert found.allowed()[:5, 5].all()
    assert found.allowed(within=True).sum() == 5 + 20


def test_what_stands_for_missing_can_be_told(tmp_path: Path) -> None:
    path = written(tmp_path, "0,0,0,0,0,9", "0,0,0,0,0,1")
    found = read_table(path, labels=LABELS, missing=("9",))
    assert np.isnan(found.values[0, 5])
    assert found.values[1, 5] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,0,1.2,0,0,1"], "row 2, column extraversion: 1.2 is no score"),
        (["0,0,0,0,0,1", "0,0,x,0,0,1"], "row 3, column extraversion: 'x' is no numb"),
        (["0,0,0,0,0,inf"], "row 2, column wellness: 'inf'"),
        (["0,0,0"], "row 2: 3 fields; the first row has 6"),
        ([], "no rows"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, *rows), labels=LABELS)


def test_files_and_columns_that_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "0,0,0,0,0,1")
    with pytest.raises(DataError, match=r"no column 'welness'.*mean 'wellness'"):
        read_table(path, labels={"welness": "beliefs"})
    with pytest.raises(ConfigError, match="tier 'belief'"):
        read_table(path, labels={"wellness": "belief"})
    with pytest.raises(ConfigError, match="is a trait"):
        read_table(path, labels={"openness": "beliefs"})
    lacking = written(tmp_path, "0,0", head="openess,extraversion", name="l.csv")
    with pytest.raises(DataError, match=r"'openness'.*mean 'openess'.*--columns"):
        read_table(lacking)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    wrong = tmp_path / "wrong.csv"
    wrong.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(wrong)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_table(tmp_path / "empty.csv")


def test_frames_and_arrays() -> None:
    frame = pd.DataFrame({name: [0.5, None] for name in TRAITS} | {"wellness": [1, 2]})
    found = from_frame(frame, labels=LABELS)
    assert found.values[0].tolist() == [0.5] * 5 + [1]
    assert np.isnan(found.values[1, :5]).all()
    with pytest.raises(DataError, match=r"need \(N, 2\)"):
        from_arrays([[1.0]], {"a": "beliefs", "b": "actions"})


def test_moments_and_complete_rows() -> None:
    tiers = {"a": "beliefs", "b": "actions"}
    found = from_arrays([[1, 2], [3, np.nan], [np.nan, 6]], tiers)
    mean, std = found.moments()
    assert (mean.tolist(), std.tolist()) == ([2, 4], [1, 2])
    scaled = found.standardised().values
    assert np.nanmean(scaled, axis=0).tolist() == [0, 0]
    with pytest.raises(DataError, match="1 of 3 rows"):
        found.complete()
    empty = from_arrays([[1, np.nan], [2, np.nan]], tiers)
    with pytest.raises(DataError, match=r"no row .* 'b'"):
        empty.moments()


def test_a_real_questionnaire() -> None:
    """Health falls with neuroticism: r = -0.34, as measured elsewhere on this table."""
    folder = Path(__file__).resolve().parents[4] / "shared/data/personality"
    path = folder / "questionnaire" / "spi_scores.csv.gz"
    if not path.exists():
        pytest.skip("there is no folder of personality data beside the checkout")
    found = read_table(path, labels={"health": "beliefs", "exer": "actions"})
    assert len(found) == 4000
    pair = found.values[:, [4, 5]]
    pair = pair[np.isfinite(pair).all(axis=1)]
    assert len(pair) == 3536
    assert np.corrcoef(pair.T)[0, 1] == pytest.approx(-0.34, abs=0.005)


def test_a_row_has_one_number_in_all_messages(tmp_path: Path) -> None:
    for cell in ("x", "7"):
        path = written(tmp_path, "0,0,0,0,0,1", "", f"0,0,{cell},0,0,1")
        with pytest.raises(DataError, match="row 4, column extraversion"):
            read_table(path, labels=LABELS)


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "none.csv")
    assert str(caught.value).count("none.csv") == 1
