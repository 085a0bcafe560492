"""a3m and a2m as they are met, each against what a person would read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_core.errors import DataError, UnknownNameError
from mdlm_msa.alphabet import decode
from mdlm_msa.formats import records
from mdlm_msa.formats.a3m import read_blocks
from mdlm_msa.formats.letters import where
from mdlm_msa.formats.options import Reading
from mdlm_msa.formats.reading import read_alignment, read_alignments

DOT, GAP = ord("."), ord("-")
DATA = Path(__file__).parents[4] / "shared" / "data" / "msa"


def written(folder: Path, data: bytes, name: str = "family.a3m") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def letters(lines: Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(lines).encode(), np.uint8).reshape(len(lines), -1)


def rows(found: object) -> list[str]:
    return [decode(row) for row in found.rows]  # type: ignore[attr-defined]


def test_insertions_dots_wraps_and_line_ends(tmp_path: Path) -> None:
    data = (
        b"#3\t1\n# more\n>101\nMK\nV\n\n>a\tb 1\r\nMaa.K-\r\n>a\tb 1\n-kV.V\n> \nM K\tV"
    )
    found = read_alignment(written(tmp_path, data), keep_letters=True)
    assert rows(found) == ["MKV", "MK-", "-VV", "MKV"]
    assert found.headers == ("101", "a\tb 1", "a\tb 1", " ")
    assert found.letters == (b"MKV", b"MaaK-", b"-kVV", b"MKV")
    assert found.comments == ("#3\t1", "# more")
    assert found.name == "family"
    assert found.notes["'.' dropped"] == 2
    assert found.notes["line breaks inside sequences"] == 1
    assert found.rows.dtype == np.uint8


def test_letters_are_left_out_unless_wanted(tmp_path: Path) -> None:
    path = written(tmp_path, b">q\nMKV\n>r\nMaKV\n")
    assert read_alignment(path).letters is None
    plain = written(tmp_path, b">q\nMKV\n>r\nMKV\n")
    assert read_alignment(plain, keep_letters=True).letters is None


def test_odd_letters_are_kept_or_counted(tmp_path: Path) -> None:
    found = read_alignment(written(tmp_path, b">q\nBZUOX\n>r\nJJ*A-\n>s\nAAAAA*\n"))
    assert rows(found) == ["BZUOX", "XXXA-", "AAAAA"]
    assert found.notes == {
        "letters J read as X": 2,
        "letters * read as X": 1,
        "stop signs after the last column removed": 1,
    }


def test_canonical_letters_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, b">q\nBZUOX\n>r\nUUbJA-\n")
    found = read_alignment(path, keep_letters=True).canonical()
    assert rows(found) == ["XXCKX", "CCXA-"]
    assert found.letters == (b"XXCKX", b"CCxXA-")
    assert found.notes["letters U changed to C"] == 3
    strict = read_alignment(path).canonical(rare="x")
    assert rows(strict) == ["XXXXX", "XXXA-"]
    assert strict.notes["letters O changed to X"] == 1


def test_secondary_structure_is_no_protein(tmp_path: Path) -> None:
    data = b">ss_pred\nCHH\n>ss_conf\n998\n>q\nMKV\n>r\nMKV\n"
    found = read_alignment(written(tmp_path, data))
    assert found.headers == ("q", "r")
    assert found.notes == {"rows of secondary structure left out": 2}


QUERY_IN_LOWER_CASE = b">q\nMabK\n>r\nMcK\n>s\nMK\n"


def test_lower_case_in_the_query(tmp_path: Path) -> None:
    path = written(tmp_path, QUERY_IN_LOWER_CASE)
    dropped = read_alignment(path)
    assert rows(dropped) == ["MK", "MK", "MK"]
    assert dropped.notes["letters of the query in lower case, in no column"] == 2
    kept = read_alignment(path, query_insertions="keep", keep_letters=True)
    assert rows(kept) == ["MABK", "M--K", "M--K"]
    assert kept.letters == (b"MABK", b"M--cK", b"M--K")
    with pytest.raises(DataError, match=r"row 1 \('q'\).*2 letters in lower case"):
        read_alignment(path, query_insertions="error")


def test_another_row_as_the_query(tmp_path: Path) -> None:
    path = written(tmp_path, b">q\nMKV\n>r x\nMaaK-\n>s\nM-V\n")
    found = read_alignment(path, query="r", keep_letters=True)
    assert rows(found) == ["MK", "MK", "M-"]
    assert found.letters == (b"MaaK", b"MKv", b"M-v")
    assert found.headers == ("r x", "q", "s")
    for name in ("r x", "2"):
        assert rows(read_alignment(path, query=name)) == rows(found)
    with pytest.raises(UnknownNameError, match="no row 'sl'"):
        read_alignment(path, query="sl")


def test_nul_bytes_between_blocks(tmp_path: Path) -> None:
    same = b">101\nMKV\n>a\nMK-\n\0>101\nMKV\n>b\nM-V\n\0"
    found = read_alignment(written(tmp_path, same))
    assert found.headers == ("101", "a", "b"), "no row but the query, again"
    assert found.notes["further copies of the query left out"] == 1
    assert found.notes["blocks joined, with NUL bytes between them"] == 2
    other = b"\0#4\t1\n>101\nMKV\n\0>102\nMKVL\n>b\nMK-L\n"
    path = written(tmp_path, other)
    both = list(read_alignments(path))
    assert [a.name for a in both] == ["family_101", "family_102"]
    assert [rows(a) for a in both] == [["MKV"], ["MKVL", "MK-L"]]
    assert both[0].comments == ("#4\t1",)
    with pytest.raises(DataError, match="more than one alignment"):
        read_alignment(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no sequence"),
        (b"\n \n", "holds no sequence|begins with"),
        (b"#a\n", "holds no sequence"),
        (b">q\n", r"row 1 \('q'\) has no sequence"),
        (b">q\nMKV\n>r one\n>s\nMKV\n", r"row 2 \('r one'\) has no sequence"),
        (b">q\nMKV\n>r\nMK\n", r"row 2 \('r'\) has 2 columns.*the query has 3"),
        (b">q\nMKV\n>r\nMK\n>s\nMKVV\n", r"row 2 \('r'\) has 2"),
        (
            b">q\nMKV\n>r\nMKV\n>s\nM1V\n",
            r"row 3 \('s'\) has '1' \(byte 49\) at letter 2",
        ),
        (b">q\nM\0V\n", r"row 1 \('q'\) has a NUL byte at letter 2"),
        (b">q\nM>V\n", r"row 1 \('q'\) has '>'"),
        (b">q\nmkv\n", "the query, has letters in lower case only"),
        (b">q\n---\n>r\nMKV\n", "gaps only"),
        (b"MKV\n", "begins with 'MKV'"),
        (b">q\nMKV\n>r\nM\xc3\xa9V\n", "byte 195"),
    ],
)
def test_bad_files_name_file_row_and_rule(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = written(tmp_path, data)
    with pytest.raises(DataError, match=message) as caught:
        read_alignment(path)
    assert "family" in str(caught.value)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_alignment(tmp_path / "none.a3m")
    packed = gzip.compress(b">q\nMKV\n" * 100)
    with pytest.raises(DataError, match="could not be read"):
        read_alignment(written(tmp_path, packed[:-12], "cut.a3m.gz"))
    good = read_alignment(written(tmp_path, packed, "whole.a3m.gz"))
    assert (good.name, good.depth) == ("whole", 100)


LINE = st.sampled_from([b">q\n", b">r s\n", b"MKV\n", b"M-", b"aK", b"V\n", b"#c\n"])


def by_lines(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Read line by line: block, header and sequence of every record."""
    found: list[tuple[int, bytes, bytes]] = []
    block = 0
    for line in data.split(b"\n"):
        if line.startswith(b"\0"):
            block += 1
        text = line.lstrip(b"\0")
        if text.startswith(b">"):
            found.append((block, text[1:], b""))
        elif not text.startswith(b"#"):
            found[-1] = (*found[-1][:2], found[-1][2] + text)
    return found


@given(st.lists(LINE, max_size=12), st.integers(1, 30))
def test_pieces_are_what_lines_are(lines: list[bytes], size: int) -> None:
    data = b">q\nMKV\n" + b"".join(lines)
    for text in (data, data.replace(b"\n>r", b"\n\0>r"), data + b"\n\0>s\nM"):
        found = [
            (piece.block, header, body.replace(b"\n", b""))
            for piece in records.pieces(io.BytesIO(text), size)
            for header, body in zip(piece.headers, piece.bodies, strict=True)
        ]
        assert found == by_lines(text)


def many(count: int) -> bytes:
    random = np.random.default_rng(3)
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY-", np.uint8)
    body = letters[random.integers(0, 21, (count, 12))]
    body[0] = np.frombuffer(b"MKVLAWDEFGHI", np.uint8)
    return b"".join(b">r%d\n%s\n" % (i, row.tobytes()) for i, row in enumerate(body))


def test_a_random_choice_of_rows_is_the_same_in_any_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, many(900))
    whole = read_alignment(path)
    chosen = read_alignment(path, max_rows=50, seed=4)
    assert chosen.depth == 51
    assert chosen.headers[0] == "r0"
    places = [int(header[1:]) for header in chosen.headers]
    assert places == sorted(places), "in the order of the file"
    assert (chosen.rows == whole.rows[places]).all()
    assert chosen.notes["rows left out, at random"] == 849
    pieces = records.pieces
    monkeypatch.setattr(
        "mdlm_msa.formats.a3m.pieces", lambda stream: pieces(stream, 400)
    )
    again = read_alignment(path, max_rows=50, seed=4)
    assert again.headers == chosen.headers
    assert (again.rows == chosen.rows).all()
    assert read_alignment(path).headers == whole.headers
    assert read_alignment(path, max_rows=50, seed=5).headers != chosen.headers
    assert read_alignment(path, max_rows=2000, seed=4).depth == 900


def test_every_row_has_the_same_chance(tmp_path: Path) -> None:
    path = written(tmp_path, many(41))
    drawn = np.zeros(41)
    for seed in range(300):
        for header in read_alignment(path, max_rows=10, seed=seed).headers:
            drawn[int(header[1:])] += 1
    assert drawn[0] == 300
    expected = 300 * 10 / 40
    spread = (expected * (1 - 10 / 40)) ** 0.5
    assert abs(drawn[1:] - expected).max() < 4 * spread


def test_a_named_query_is_never_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, many(500))
    found = read_alignment(path, max_rows=3, query="r477")
    assert found.headers[0] == "r477"
    assert "r0" in found.headers


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real families is absent")
def test_it_agrees_with_pyhmmer_on_every_real_family() -> None:
    easel = pytest.importorskip("pyhmmer.easel")
    names = sorted(DATA.glob("*.a3m.gz"))
    assert len(names) == 33
    for path in names:
        found = read_alignment(path, keep_letters=True)
        text = gzip.decompress(path.read_bytes())
        with easel.MSAFile(io.BytesIO(text), digital=False, format="a2m") as file:
            msa = file.read()
        table = letters(msa.alignment)
        match = ~np.isin(letters([msa.reference])[0], list(b".-~"))
        theirs = table[:, match]
        assert (letters(rows(found)) == np.where(theirs == DOT, GAP, theirs)).all()
        words = [header.split()[0] for header in found.headers]
        assert words == list(msa.names), path.name
        if found.letters is not None:
            upper = bytes(range(65, 91)) + b"-"
            ours = [row.translate(None, upper) for row in found.letters]
            outside = [row.tobytes().translate(None, b".-") for row in table[:, ~match]]
            assert ours == [row.lower() for row in outside], path.name


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real families is absent")
def test_no_row_of_a_real_family_is_lost() -> None:
    for path in sorted(DATA.glob("*.a3m.gz")):
        text = gzip.decompress(path.read_bytes())
        (found,) = read_blocks(path, Reading())
        assert found.depth == text.count(b"\n>") + text.startswith(b">")


def test_only_rows_called_as_annotations_are_left_out(tmp_path: Path) -> None:
    data = b">q\nMKV\n>ss_predX_ECOLI\nMK-\n>ss_pred PSIPRED\nHHH\n>sa_dssp\nMMM\n"
    found = read_alignment(written(tmp_path, data))
    assert found.headers == ("q", "ss_predX_ECOLI")
    assert found.notes["rows of secondary structure left out"] == 2


def test_the_query_of_joined_blocks_is_taken_once(tmp_path: Path) -> None:
    data = (
        b">101 x\nMKV\n>twin\nMKV\n\0"
        b">other\nMKV\n>101\nMKV\n>101 y\nMK-\n>twin\nMKV\n>101\nMaKV\n\0"
    )
    path = written(tmp_path, data)
    found = read_alignment(path, keep_letters=True)
    assert found.headers == ("101 x", "twin", "101 y", "twin", "101")
    assert found.letters is not None
    assert found.letters[-1] == b"MaKV"
    assert found.notes["further copies of the query left out"] == 2
    alone = written(tmp_path, b">101\nMKV\n>101\nMKV\n", "alone.a3m")
    assert read_alignment(alone).depth == 2, "one file is read as it is"


@pytest.mark.parametrize("name", ["f.a3m", "f.fasta", "f", "f.a3m.gz"])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, name: str) -> None:
    data = b"\xef\xbb\xbf>q\nMKV\n>r\nM-V\n"
    data = gzip.compress(data) if name.endswith(".gz") else data
    found = read_alignment(written(tmp_path, data, name))
    assert found.headers == ("q", "r")
    assert rows(found) == ["MKV", "M-V"]


@pytest.mark.parametrize("name", ["f.a3m", "f.fasta", "f", "f.sto", "f.jsonl"])
def test_carriage_returns_alone_are_named(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, b">q\rMKV\r>r\rM-V\r", name)
    with pytest.raises(DataError, match="carriage return alone"):
        read_alignment(path)


def test_a_carriage_return_at_the_border_of_a_read_is_no_error(tmp_path: Path) -> None:
    for length in range(8188, 8193):  # around what is looked at
        data = b">" + b"q" * (length - 1) + b"\r\nMKV\r\n"
        assert rows(read_alignment(written(tmp_path, data))) == ["MKV"]


def test_a_place_is_quoted_up_to_the_file() -> None:
    assert where("a, b.fa, record 1", 2, "r x") == "'a, b.fa', record 1, row 2 ('r x')"
    assert where("a, b.fa", 2, b"r") == "'a, b.fa', row 2 ('r')"
