"""``mdlm msa score`` from files to numbers."""

import csv
import json
from pathlib import Path

import pytest

from mdlm_core.cli import run
from mdlm_core.errors import UsageError
from mdlm_msa.cli import score_answers

from .score_toys import write_run

ROWS = ("ACDEFGHIKL", "ACDE-GHIKW", "ACDEFGwwHIVL", "WYV--GHIKL", "XCDEFGHIKL")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    write_run(folder / "run")
    text = "".join(f">row {i}\n{row}\n" for i, row in enumerate(ROWS))
    (folder / "family.a3m").write_text(text)
    (folder / "query.fasta").write_text(f">q\n{ROWS[0]}\n")
    (folder / "wrong.csv").write_text("A1G\nG2A\n")
    (folder / "other.a3m").write_text(">q\nACDEFGHIKV\n>r\nACDEFGHIKL\n")
    (folder / "variants.csv").write_text(
        "mutant,DMS_score\nA1G,0.5\nA1G:C2W,-1\nL10V,1.5\n"
    )
    return folder


def score(folder: Path, *arguments: str) -> int:
    paths = [
        str(folder / text) if text in {p.name for p in folder.iterdir()} else text
        for text in arguments
    ]
    model = ["--model", str(folder / "run"), "--device", "cpu"]
    return run(["msa", "score", *paths, *model])


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rows_are_scored_given_the_query(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.csv"
    assert score(files, "family.a3m", "--draws", "4", "--out", str(out), "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert [line["scored"] for line in card["rows"]] == [10, 9, 10, 8, 9]
    assert [line["given"] for line in card["rows"]] == [0, 1, 1, 1, 1]
    assert card["homologues"]["rows"] == 4
    assert card["homologues"]["bits_per_residue"] < 4.5
    assert set(card["homologues"]["baselines"]) == {
        "background",
        "BLOSUM62 given the query",
    }
    lines = read(out)
    assert [line["name"] for line in lines] == [f"row {i}" for i in range(5)]
    for line, known in zip(lines, card["rows"], strict=True):
        value = float(line["bits_per_residue"])
        assert value == pytest.approx(known["bits_per_residue"], rel=1e-4)
    assert score(files, "family.a3m", "--draws", "4", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == card["rows"]  # the seed decides


def test_prompt_is_shown_without_the_row_itself(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "places.csv"
    arguments = ["--prompt", "family.a3m", "--uncertainty", "--out", str(out)]
    assert score(files, "family.a3m", *arguments, "--draws", "2", "--batch", "3") == 0
    text = capsys.readouterr().out
    assert "PSSM of the rows shown" in text
    lines = read(out)
    assert len(lines) == 10 + 9 + 10 + 8 + 9
    assert {line["letter"] for line in lines if line["row"] == "4"} == set("WYVGHIKL")
    for line in lines:
        assert 0 < float(line["alone"]) < 15
        assert 0 < float(line["entropy"]) < 4.33
    assert score(files, "family.a3m", "--prompt", "family.a3m", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert [line["given"] for line in card["rows"]] == [4, 4, 4, 4, 4]


@pytest.mark.parametrize("method", ["nelbo", "masked-marginal"])
def test_variants_are_scored(
    files: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "effects.csv"
    arguments = ["--variants", "variants.csv", "--method", method, "--out", str(out)]
    assert score(files, "family.a3m", *arguments, "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["given"] == 5  # the query and its four homologues
    assert card["measured"] == 3
    assert -1 <= card["spearman"] <= 1
    names = [line["variant"] for line in card["variants"]]
    assert names == ["A1G", "A1G:C2W", "L10V"]
    assert all(line["score"] < 0 for line in card["variants"])
    assert [line["variant"] for line in read(out)] == names
    assert score(files, "query.fasta", "--variants", "variants.csv") == 0
    assert "given 1 rows, by nelbo" in capsys.readouterr().out


def test_existing_files_are_kept(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("mine")
    assert score(files, "query.fasta", "--draws", "2", "--out", str(out)) == 2
    assert out.read_text() == "mine"
    assert (
        score(files, "query.fasta", "--draws", "2", "--out", str(out), "--force") == 0
    )
    assert len(read(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["query.fasta", "--select", "maxmn"], 2, "--select is 'maxmn'"),
        (["query.fasta", "--method", "quick"], 2, "--method is 'quick'"),
        (["query.fasta", "--gaps", "free"], 2, "--gaps is 'free'"),
        (["query.fasta", "--draws", "0"], 2, "--draws is 0; it must be at least 1"),
        (["query.fasta", "--max-similar", "0"], 2, "must be in (0, 1]"),
        (["query.fasta", "--uncertainty"], 2, "give --out FILE"),
        (["query.fasta", "--length", "20"], 2, "allow it with --length 24"),
        (["query.fasta", "--prompt", "other.a3m"], 1, "has V in column 10"),
        (["query.fasta", "--variants", "wrong.csv"], 1, "wrong.csv, line 2: the query"),
        (["query.fasta", "--variants", "no.csv"], 1, "there is no file 'no.csv'"),
        (["query.fasta", "--min-coverage", "2"], 2, "--min-coverage is 2.0; it must"),
        (["none.fasta"], 1, "none.fasta"),
    ],
)
def test_wrong_demands_are_refused(
    files: Path,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert score(files, *arguments) == status
    assert message in capsys.readouterr().err


def test_rows_that_do_not_fit_are_told(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompt", "family.a3m", "--length", "37", "--draws", "2"]
    assert score(files, "query.fasta", *arguments) == 0
    assert "note: 1 of 4 rows of the prompt are shown" in capsys.readouterr().err


def test_positions_that_no_draw_hid_are_left_empty(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "places.csv"
    base = ["family.a3m", "--per-position", "--out", str(out), "--force"]
    assert score(files, *base, "--draws", "1") == 0
    said = capsys.readouterr().err
    lines = read(out)
    widths = {len(line.split(",")) for line in out.read_text().splitlines()}
    assert widths == {9}  # as many fields in a line as in the header
    never = [line for line in lines if line["hidden"] == "0"]
    assert 0 < len(never) < len(lines)
    assert f"{len(never)} of {len(lines)} positions were hidden in none" in said
    assert all(line["bits"] == line["se"] == "" for line in never)
    assert all(float(line["bits"]) > 0 for line in lines if line not in never)
    assert score(files, *base, "--draws", "64") == 0
    assert "were hidden in none" not in capsys.readouterr().err
    assert all(float(line["bits"]) > 0 for line in read(out))


def test_rows_are_shown_as_in_generation(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short.a3m"
    short.write_text(f">q\n{ROWS[0]}\n>a\nA-------K-\n>b\nWCDEFGHIKW\n")
    base = ["query.fasta", "--prompt", str(short), "--draws", "2", "--json"]
    assert score(files, *base) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["rows"][0]["given"] == 1
    assert "never shown to the model: 1 coverage below 0.5" in shown.err
    assert score(files, *base, "--min-coverage", "0.2") == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["given"] == 2


def test_rows_are_chosen_as_in_training(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def seen(*_: object, **settings: object) -> None:
        asked.append(settings["select"])
        raise UsageError("enough")

    monkeypatch.setattr("mdlm_msa.scoring.shown.show", seen)
    assert score(files, "family.a3m", "--prompt", "family.a3m") == 2
    assert score(files, "family.a3m", "--select", "top") == 2
    assert asked == ["random", "top"]


def test_progress_without_a_terminal_is_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(score_answers, "_EVERY", 0.0)
    with score_answers._progress(40, "variants in a draw") as done:
        done(3)
        done(4)
    assert capsys.readouterr().err == (
        "3 of 40 variants in a draw\n7 of 40 variants in a draw\n"
    )
