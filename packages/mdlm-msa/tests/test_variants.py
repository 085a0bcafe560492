"""Variants: how they are written, what is refused, and what they score."""

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import STATE_OF, encode
from mdlm_msa.scoring.effects import score_variants
from mdlm_msa.scoring.effects_report import effects_card, effects_csv, effects_text
from mdlm_msa.scoring.rows import Target, score_rows
from mdlm_msa.scoring.variant_file import read_variants
from mdlm_msa.scoring.variants import Numbering, Variant, parse_variant

from .score_toys import ColumnLaws, JointLaw, random_laws

QUERY = "ACDEFGHIKL"


def numbering(query: str = QUERY, first: int = 1) -> Numbering:
    letters = query.encode()
    row = encode("".join(letter for letter in query if not letter.islower()))
    has = any(letter.islower() for letter in query)
    return Numbering.of(
        Alignment(rows=row[None], headers=("q",), letters=(letters,) if has else None),
        first,
    )


@pytest.mark.parametrize(
    ("text", "columns", "residues"),
    [
        ("A1G", (0,), "G"),
        ("C2W:A1G", (0, 1), "GW"),
        ("A1G,C2W", (0, 1), "GW"),
        ("A1G/C2W", (0, 1), "GW"),
        ("p.Ala1Gly", (0,), "G"),
        ("a1g", (0,), "G"),
        ("A1=", (), ""),
        ("A1A:C2W", (1,), "W"),
        ("WT", (), ""),
        ("", (), ""),
        ("ACDEFGHIKL", (), ""),
        ("GCDEFGHIKW", (0, 9), "GW"),
        ("gcdefghikl", (0,), "G"),
    ],
)
def test_variants_as_they_are_written(
    text: str, columns: tuple[int, ...], residues: str
) -> None:
    found = parse_variant(text, numbering())
    assert found.columns == columns
    assert found.residues == tuple(encode(residues).tolist())
    row = encode(QUERY)
    for column, residue in zip(columns, residues, strict=True):
        row[column] = encode(residue)[0]
    assert np.array_equal(found.applied(encode(QUERY)), row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("G1A", "the query has A at position 1, not G"),
        ("A11G", "position 11 is outside of the query, whose residues are 1 to 10"),
        ("A0G", "position 0 is outside"),
        ("A1*", "'A1*' has a stop codon"),
        ("A1-", "'A1-' has a deletion"),
        ("Ala1Ter", "a stop codon"),
        ("Ala1fs", "a frame shift"),
        ("A1J", "'A1J' has 'J'"),
        ("A1G:A1C", "changes position 1 twice"),
        ("1A", "'1A' is no substitution; write A24G"),
        ("A1G C2", "'C2' is no substitution"),
        ("ACDEF", "the sequence has 5 residues, and the query 10"),
        ("ACDEFGHIKX", "'L10X' has 'X'"),
        ("MCDEFGHIK", "9 residues"),
    ],
)
def test_variants_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_variant(text, numbering())


def test_a_sequence_with_a_residue_for_an_x_is_refused(tmp_path: Path) -> None:
    query = numbering("ACDXFGHIKL")
    assert parse_variant("WCDXFGHIKL", query).columns == (0,)
    with pytest.raises(DataError, match="has E at position 4, where the query has X"):
        parse_variant("WCDEFGHIKL", query)
    path = tmp_path / "v.csv"
    path.write_text("mutated_sequence\nWCDXFGHIKL\nACDEFGHIKL\n")
    with pytest.raises(DataError, match=r"v\.csv, line 3: the sequence has E at"):
        read_variants(path, query)


def test_numbers_of_residues_count_insertions_of_the_query() -> None:
    query = numbering("ACgDEF", first=24)
    assert parse_variant("D27W", query).columns == (2,)
    assert parse_variant("ACGWEF", query).columns == (2,)
    with pytest.raises(DataError, match="position 26 is an insertion of the query"):
        parse_variant("G26A", query)
    with pytest.raises(DataError, match="24 to 29"):
        parse_variant("A23G", query)


@pytest.mark.parametrize("sign", [",", "\t", ";"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_proteingym_are_read(tmp_path: Path, sign: str, packed: bool) -> None:
    lines = ["mutant,mutated_sequence,DMS_score,DMS_score_bin"]
    lines += ["A1G,GCDEFGHIKL,-0.5,0", "A1G:C2W,GWDEFGHIKL,1e-1,1", "C2V,AVDE,NA,0"]
    text = "\n".join(lines).replace(",", sign).encode() + b"\n"
    path = tmp_path / ("v.csv.gz" if packed else "v.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    found = read_variants(path, numbering())
    assert [variant.name for variant in found] == ["A1G", "A1G:C2W", "C2V"]
    assert [variant.measured for variant in found] == [-0.5, 0.1, None]
    assert [variant.line for variant in found] == [2, 3, 4]
    chosen = read_variants(path, numbering(), measured="DMS_score_bin")
    assert [variant.measured for variant in chosen] == [0, 1, 0]


def test_files_without_a_header_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("\nA1G\n\nC2W\n")
    found = read_variants(path, numbering())
    assert [(variant.name, variant.line) for variant in found] == [
        ("A1G", 2),
        ("C2W", 4),
    ]
    path.write_text("A1G,2.5\n")
    assert read_variants(path, numbering())[0].measured == 2.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mutant\nA1G\nG2A\n", "v.csv, line 3: the query has C at position 2, not G"),
        ("mutant\nG40A\n", "v.csv, line 2: position 40 is outside"),
        ("mutant,score\nA1G,high\n", "line 2: the measured value is 'high'"),
        ("mutant,score\nA1G,inf\n", "line 2: the measured value is inf"),
        ("mutant,score\nA1G\n", "line 2: it has 1 fields, and the header 2"),
        ("mutant\n", "has no variant"),
        ("\n", "is empty"),
        ('mutant\n"A1G\n', "line 2"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_variants(path, numbering())


def test_numbering_that_would_fit_is_said(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("mutant\nA24G\nC25W:D26F\nL33W\n")
    with pytest.raises(DataError, match="All wild types fit with --first 24"):
        read_variants(path, numbering())
    assert len(read_variants(path, numbering(first=24))) == 3
    path.write_text("mutant\nA24G\nA25W\n")
    with pytest.raises(DataError) as error:
        read_variants(path, numbering())
    assert "--first" not in str(error.value)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("change,effect_size\nA1G,1\n")
    with pytest.raises(UsageError, match="change, effect_size, none of which"):
        read_variants(path, numbering())
    with pytest.raises(UsageError, match="did you mean 'change'"):
        read_variants(path, numbering(), column="chang")
    found = read_variants(path, numbering(), column="change", measured="effect_size")
    assert found[0].measured == 1
    with pytest.raises(DataError, match="there is no file"):
        read_variants(tmp_path / "none.csv", numbering())


def test_scores_are_log_ratios_of_a_law_of_columns() -> None:
    laws = random_laws(10)
    query = encode(QUERY)
    texts = ("A1G", "C2W:D3Y", "WT", "L10V")
    variants = [parse_variant(text, numbering()) for text in texts]
    exact = [
        sum(
            math.log2(laws[c, STATE_OF[r]] / laws[c, STATE_OF[query[c]]])
            for c, r in zip(variant.columns, variant.residues, strict=True)
        )
        for variant in variants
    ]
    model, given = ColumnLaws(laws), query[None]
    settings = {"noise": Noise(0), "draws": 8}
    quick = score_variants(
        model, query, variants, given, method="masked-marginal", **settings
    )
    assert quick.score == pytest.approx(exact, abs=1e-4)
    assert quick.se.tolist() == [0] * 4
    done: list[int] = []
    bound = score_variants(
        model, query, variants, given, **settings, batch=2, done=done.append
    )
    assert sum(done) == 4 * 8 < 4 * len(done)  # told after each batch, not each draw
    assert bound.score[2] == bound.se[2] == 0
    for score, truth in zip(bound.score, exact, strict=True):
        assert score == pytest.approx(truth, abs=1e-4)
    assert (bound.se < 1e-5).all()


def test_bounds_judge_substitutions_together() -> None:
    """AA and WW are likely, AW and WA are not."""
    joint = np.array([[0.45, 0.05], [0.05, 0.45]])
    letters = tuple(encode("AW").tolist())
    model, query = JointLaw(joint, letters), encode("AA")
    variants = [
        parse_variant(text, numbering("AA")) for text in ("A1W", "A2W", "A1W:A2W")
    ]
    settings = {"noise": Noise(0), "draws": 64}
    given = encode("DD")[None]
    bound = score_variants(model, query, variants, given, **settings)
    exact = math.log2(1 / 9)
    assert (abs(bound.score - [exact, exact, 0]) <= 4 * bound.se + 1e-4).all()
    assert (bound.se < 0.4).all()
    quick = score_variants(
        model, query, variants, given, method="masked-marginal", **settings
    )
    assert quick.score == pytest.approx([exact, exact, 2 * exact], abs=1e-4)


def test_rank_correlation_leaves_out_what_was_not_measured() -> None:
    laws = random_laws(10)
    values = {"A1G": 0.3, "C2W": 0.1, "D3Y": 0.7, "E4K": None, "F5L": -2.0}
    variants = [
        Variant(v.name, v.columns, v.residues, values[v.name])
        for v in (parse_variant(name, numbering()) for name in values)
    ]
    query = encode(QUERY)
    found = score_variants(
        ColumnLaws(laws), query, variants, query[None],
        method="masked-marginal", noise=Noise(0),
    )  # fmt: skip
    ours = rankdata(found.score[[0, 1, 2, 4]])
    rank = np.corrcoef(ours, rankdata([0.3, 0.1, 0.7, -2.0]))[0, 1]
    assert found.spearman() == (pytest.approx(rank), 4)
    card = effects_card(found, {"model": "m"})
    assert card["spearman"] == pytest.approx(rank)
    assert card["variants"][3]["measured"] is None
    lines = effects_csv(found).splitlines()
    assert lines[0] == "variant,score,se,measured"
    assert lines[4].startswith("E4K,")
    assert lines[4].endswith(",0,")
    text = effects_text(found, numbering())
    assert f"Spearman with 4 measured values: {rank:.3f}" in text
    few = score_variants(
        ColumnLaws(laws), query, variants[:2], query[None],
        method="masked-marginal", noise=Noise(0),
    )  # fmt: skip
    assert math.isnan(few.spearman()[0])
    assert effects_card(few, {})["spearman"] is None
    with pytest.raises(DataError, match="no variant"):
        score_variants(ColumnLaws(laws), query, [], query[None], noise=Noise(0))


def test_differences_are_those_of_two_bounds() -> None:
    """Of a model whose conditionals fit no joint law, so that orders matter."""

    class Inconsistent(JointLaw):
        def conditional(self, row: list[int], column: int) -> np.ndarray:
            law = super().conditional(row, column)
            tilted = law ** (1 + 0.7 * column)
            return tilted / tilted.sum()

    joint = np.random.default_rng(2).dirichlet(np.full(16, 0.5)).reshape(2, 2, 2, 2)
    model = Inconsistent(joint + 0.02, tuple(encode("AW").tolist()))
    query = encode("AAAA")
    variants = [parse_variant(text, numbering("AAAA")) for text in ("A1W", "A2W:A4W")]
    given = encode("DDDD")[None]
    ours = score_variants(
        model, query, variants, given, draws=60, noise=Noise(1), batch=64
    )
    rows = [query, *(variant.applied(query) for variant in variants)]
    plain = score_rows(
        model,
        [Target(row, given) for row in rows],
        draws=200,
        noise=Noise(2),
        ids=[0] * len(rows),
    )
    values = plain.values[0] - plain.values[1:]
    for index in range(2):
        plain_se = values[index].std() / math.sqrt(200)
        error = math.hypot(ours.se[index], plain_se)
        assert abs(ours.score[index] - values[index].mean()) < 4 * error
        assert ours.se[index] * math.sqrt(60 / 200) < plain_se


def test_law_of_columns_needs_one_draw() -> None:
    laws = random_laws(10)
    query = encode("ACDEFXHIKL")
    variants = [
        parse_variant(text, numbering("ACDEFXHIKL")) for text in ("A1G", "L10V")
    ]
    found = score_variants(
        ColumnLaws(laws), query, variants, query[None], draws=2, noise=Noise(0)
    )
    exact = [
        math.log2(laws[c, STATE_OF[encode(b)[0]]] / laws[c, STATE_OF[encode(a)[0]]])
        for c, a, b in ((0, "A", "G"), (9, "L", "V"))
    ]
    assert found.score == pytest.approx(exact, abs=1e-5)
    assert found.se == pytest.approx(0, abs=1e-5)
