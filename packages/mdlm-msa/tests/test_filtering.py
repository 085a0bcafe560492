"""Which rows a filter keeps, against hand-made rows and a plain loop."""

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mdlm_core.errors import ConfigError, DataError, UsageError
from mdlm_msa import inspection, weights
from mdlm_msa.alignment import Alignment
from mdlm_msa.cli import app
from mdlm_msa.config import FILTERS, RowFilter
from mdlm_msa.filtering import (
    diverse,
    filter_rows,
    non_redundant,
    unfit_family,
)
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.formats.writing import write_alignment
from mdlm_msa.gaps import coverage, gap_rate
from mdlm_msa.hhfilter import run_hhfilter

from .family_toys import REAL, aligned, relatives

QUERY = "ACDEFGHIKL"


def kept_of(rules: RowFilter, *rows: str) -> tuple[list[str], dict[str, int]]:
    kept, report = filter_rows(aligned(QUERY, *rows), rules)
    assert report.homologues == len(rows)
    assert report.kept == kept.depth - 1
    assert report.kept + sum(report.dropped.values()) == len(rows)
    return list(kept.headers), dict(report.dropped)


def greedy(states: np.ndarray, limit: float) -> list[int]:
    """Return what a plain loop over rows by coverage keeps."""
    letters = (states < 20).sum(1)
    order = [0, *sorted(range(1, len(states)), key=lambda r: (-letters[r], r))]
    kept: list[int] = []
    for r in order:
        shares = [(states[r] == states[k]).mean() for k in kept]
        if all(share <= limit + 1e-9 and share < 1 for share in shares):
            kept.append(r)
    return sorted(kept)


def test_default_asks_for_half_the_columns_and_unlike_rows() -> None:
    rows = ("AWWWW-----", "AWWW------", QUERY, "ACDEFGHIKV", "ACDEFGHIYY")
    kept, dropped = kept_of(FILTERS["default"], *rows)
    assert kept == ["0", "1", "4", "5"]  # 9 of 10 columns alike are just allowed
    assert dropped == {
        "coverage below 0.5": 1,
        "identity to a kept row above 0.9": 1,
    }


def test_identity_to_the_query_is_over_shared_residues() -> None:
    rules = RowFilter(min_coverage=0.0, min_identity=0.5, max_identity=1.0)
    kept, dropped = kept_of(rules, "AC--------", "ACWWW-----", "XXXXXXXXXA")
    assert kept == ["0", "1"]
    assert dropped == {"identity to the query below 0.5": 2}


def test_gaps_and_rows_without_a_residue() -> None:
    rules = RowFilter(min_coverage=0.0, max_gaps=0.1, max_identity=1.0)
    kept, dropped = kept_of(
        rules, "WWWWWWWWW-", "WWWWWWWW--", "----------", "XXXXXXXXXX"
    )
    assert kept == ["0", "1"]
    assert dropped == {"no residue": 2, "gaps above 0.1": 1}


def test_an_x_covers_nothing_and_is_no_gap() -> None:
    alignment = aligned(QUERY, "ACDEXXXX--", "ACDEF-----")
    assert coverage(alignment.states).tolist() == [1.0, 0.4, 0.5]
    assert gap_rate(alignment.states).tolist() == [0.0, 0.2, 0.5]
    texts = ("ACDEXXXX--", "ACDEF-----")
    covered = RowFilter(min_coverage=0.5, max_identity=1.0)
    assert kept_of(covered, *texts) == (["0", "2"], {"coverage below 0.5": 1})
    gaps = RowFilter(min_coverage=0.0, max_gaps=0.2, max_identity=1.0)
    assert kept_of(gaps, *texts) == (["0", "1"], {"gaps above 0.2": 1})


def test_of_two_rows_alike_the_one_with_more_residues_stays() -> None:
    rows = aligned(QUERY, "WXWXWXWXAA", "W-WYW-WYAA")
    assert non_redundant(rows.states, 0.5).tolist() == [0, 2]


def test_nothing_but_repetitions_goes_at_identity_one() -> None:
    kept, dropped = kept_of(FILTERS["none"], QUERY, "ACDEFGHIKV", "ACDEFGHIKV")
    assert kept == ["0", "2"]
    assert dropped == {"the same as a kept row": 2}


def test_the_query_is_never_dropped() -> None:
    """Not for its X, not for its gaps, not for a row of better coverage."""
    alignment = aligned("XXXX------", "ACDEFGHIKL")
    rules = RowFilter(min_coverage=1.0, max_gaps=0.0, min_identity=1.0)
    kept, _ = filter_rows(alignment, rules)
    assert kept.headers == ("0",)


def test_the_query_comes_before_rows_of_better_coverage() -> None:
    alignment = aligned("ACDEFGHIK-", "ACDEFGHIKL", "WWWWWGHIKL")
    assert non_redundant(alignment.states, 0.8).tolist() == [0, 2]


@pytest.mark.parametrize("limit", [0.3, 0.6, 0.9, 1.0])
def test_redundancy_against_a_loop(limit: float) -> None:
    for seed, rows in ((0, 60), (1, 700)):  # less, and more, than a block
        states = relatives(rows, 23, seed, change=0.4).states
        states[5] = states[3]
        found = non_redundant(states, limit)
        if rows == 60:
            assert found.tolist() == greedy(states, limit)
        alike = (states[found][:, None] == states[found][None]).mean(-1)
        np.fill_diagonal(alike, 0)
        assert alike.max() <= min(limit + 1e-9, 1 - 1 / 23)
        assert found[0] == 0
        # Whatever is left out is like a row that is kept, so that none is missing.
        rest = np.setdiff1d(np.arange(rows), found)
        near = (states[rest][:, None] == states[found][None]).mean(-1).max(1, initial=0)
        assert ((near > limit + 1e-9) | (near == 1)).all()


def test_diverse_rows_are_as_many_as_asked_and_less_alike() -> None:
    alignment = relatives(300, 40, change=0.3)
    found = diverse(alignment.states, 20)
    assert len(found) == 21
    assert found[0] == 0

    def alike(rows: np.ndarray) -> float:
        states = alignment.states[rows]
        table = (states[:, None] == states[None]).mean(-1)
        return float(table[np.triu_indices(len(table), 1)].max())

    random = np.random.default_rng(0).permutation(300)[:21]
    assert alike(found) < alike(random) - 0.1
    assert len(diverse(alignment.states, 10_000)) == len(
        non_redundant(alignment.states)
    )


def test_families_that_are_left_out() -> None:
    alignment = aligned(QUERY, "ACDEFGHIKV")
    assert unfit_family(alignment, RowFilter()) == ""
    assert "asks for 9" in unfit_family(alignment, FILTERS["msagpt"])
    assert "fewer than 25" in unfit_family(
        alignment, RowFilter(min_length=25, max_length=50)
    )
    assert "more than 5" in unfit_family(alignment, RowFilter(max_length=5))
    with pytest.raises(ConfigError, match=r"filter.max_gaps is 2; it must be in"):
        RowFilter(max_gaps=2)


def test_too_strict_for_distant_families() -> None:
    """MSAGPT's rules keep nothing of a family at 13 % identity, the default most."""
    if not REAL.is_dir():
        pytest.skip("the real families are not beside the checkout")
    alignment = read_alignment(REAL / "1bcf.a3m.gz").canonical()
    assert filter_rows(alignment, FILTERS["msagpt"])[1].kept == 0
    assert filter_rows(alignment, FILTERS["default"])[1].kept > 1000


# ---- the command --------------------------------------------------------------


def write(path: Path, alignment: Alignment) -> Path:
    return write_alignment(alignment, path)


def test_command_keeps_insertions_and_counts(tmp_path: Path) -> None:
    source, target = tmp_path / "in.a3m", tmp_path / "out.a3m"
    source.write_text(
        ">q\nACDEFGHIKL\n>same x\tcol\nACDEFGHIKL\n>short\nAW--------\n"
        ">other\nAWDEFghGWIKL\n>other\nAWWWWGWIKL\n"
    )
    done = CliRunner().invoke(app, ["filter", str(source), str(target), "--json"])
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.output)
    assert numbers["homologues"] == 4
    assert numbers["kept"] == 2
    assert numbers["dropped"] == {
        "coverage below 0.5": 1,
        "identity to a kept row above 0.9": 1,
    }
    assert target.read_text() == (
        ">q\nACDEFGHIKL\n>other\nAWDEFghGWIKL\n>other\nAWWWWGWIKL\n"
    )
    again = CliRunner().invoke(app, ["filter", str(source), str(target)])
    assert isinstance(again.exception, UsageError)
    assert "--force" in str(again.exception)


def test_command_counts_neff_on_so_many_rows_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.a3m", tmp_path / "out.a3m"
    rows = ["ACDEFGHIKL", "CCDEFGHIKV", "WWDEFGHIKV", "WWWWWGHIKV", "WWWWWYYYYV"]
    source.write_text("".join(f">r{i}\n{row}\n" for i, row in enumerate(rows)))
    counted: list[int] = []
    real = weights.neff
    monkeypatch.setattr(
        weights, "neff", lambda states: counted.append(len(states)) or real(states)
    )
    monkeypatch.setattr(inspection, "NEFF_ROWS", 3)
    words = ["filter", str(source), str(target), "--force"]
    done = CliRunner().invoke(app, [*words, "--preset", "none", "--json"])
    card = json.loads(done.stdout)
    assert counted == [3]  # what is the same is not counted again
    assert (card["neff_before_rows"], card["neff_rows"]) == (3, 3)
    assert card["neff_before"] == card["neff"] <= 3
    done = CliRunner().invoke(app, [*words, "--min-identity", "0.5"])
    assert counted == [3, 3, 3]
    assert "before: counted on 3 of the 5 rows, drawn at random" in done.stdout
    monkeypatch.setattr(inspection, "NEFF_ROWS", 20_000)
    done = CliRunner().invoke(app, words)
    assert "counted on" not in done.stdout


def test_subsample_is_the_same_command(tmp_path: Path) -> None:
    source = write(tmp_path / "in.a3m", relatives(50, 30))
    chosen = []
    for name in ("a", "b"):
        target = tmp_path / f"{name}.a3m"
        arguments = [str(source), str(target), "--select", "maxmin", "--rows", "7"]
        done = CliRunner().invoke(app, ["subsample", *arguments])
        assert done.exit_code == 0, done.output
        assert "7 of 49 homologues kept" in done.output
        chosen.append(target.read_text())
    assert chosen[0] == chosen[1]
    assert chosen[0].count(">") == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "maxmin"], "go together"),
        (["--rows", "3"], "go together"),
        (["--select", "best", "--rows", "3"], "no selection 'best'"),
        (["--select", "top", "--rows", "0"], "at least 1"),
        (["--preset", "strict"], "no rules 'strict'"),
        (["--diff", "-1"], "must be 0 or more"),
        (["--max-gaps", "7"], r"must be in \[0, 1\]"),
        (["--from", "pdb"], "no format 'pdb'"),
        (["--hhfilter", "no-such-program"], "no program 'no-such-program'"),
    ],
)
def test_command_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    source = write(tmp_path / "in.a3m", aligned(QUERY, "ACDEFGHIWW"))
    target = tmp_path / "out.a3m"
    done = CliRunner().invoke(app, ["filter", str(source), str(target), *arguments])
    assert done.exit_code
    with pytest.raises((ConfigError, UsageError), match=message):
        raise done.exception or AssertionError(done.output)
    assert not target.exists()


PROGRAM = """#!{python}
import sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
text = open(given["-i"]).read().split(">")[1:]
print(given["-id"], given["-cov"], given["-qid"], given["-diff"], file=sys.stderr)
if given["-qid"] == "77":
    sys.exit(3)
open(given["-o"], "w").write("".join(">" + row for row in text[::2]))
"""


def test_the_other_program_gets_the_rules(tmp_path: Path) -> None:
    program = tmp_path / "hhfilter"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    alignment = aligned(QUERY, "ACDEFGHIKL", "AWDEFGWIKL")
    rules = RowFilter(min_coverage=0.5, max_gaps=0.25, max_identity=0.9)
    kept, report = run_hhfilter(alignment, rules, program, diff=5)
    assert kept.headers == ("0", "2")
    assert report.dropped == {"hhfilter": 1}
    wrong = RowFilter(min_identity=0.77, max_identity=0.9, max_gaps=0.25)
    with pytest.raises(DataError, match="exit code 3: 90 75 77 0"):
        run_hhfilter(alignment, wrong, program)
