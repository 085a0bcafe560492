"""Formats besides a3m: aligned FASTA, Stockholm, text, JSON lines, tables, folders."""

from __future__ import annotations

import builtins
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from Bio import AlignIO

from mdlm_core.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    UnknownNameError,
)
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import decode
from mdlm_msa.formats.detect import format_of
from mdlm_msa.formats.reading import read_alignment, read_alignments

DATA = Path(__file__).parents[4] / "shared" / "data" / "msa"
real = pytest.mark.skipif(
    not DATA.is_dir(), reason="the folder of real families is absent"
)


def written(folder: Path, data: bytes, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def rows(found: Alignment) -> list[str]:
    return [decode(row) for row in found.rows]


def test_columns_without_a_residue_of_the_query_are_insertions(tmp_path: Path) -> None:
    data = b">q\nM-KV.\n>r one\nMAK--\n>s\n-~kVc\n"
    found = read_alignment(written(tmp_path, data, "f.fasta"), keep_letters=True)
    assert rows(found) == ["MKV", "MK-", "-KV"]
    assert found.letters == (b"MKV", b"MaK-", b"-KVc")
    assert found.headers == ("q", "r one", "s")
    note = "columns without a residue of the query, now insertions"
    assert found.notes[note] == 2
    assert found.notes["lower-case letters in columns of the query"] == 1


@pytest.mark.parametrize("name", ["s", "3"])
def test_any_row_can_be_the_query(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, b">q\nM-KV\n>r\nMAK-\n>s x\n-AKV\n", "f.fasta")
    found = read_alignment(path, query=name, keep_letters=True)
    assert found.headers == ("s x", "q", "r")
    assert rows(found) == ["AKV", "-KV", "AK-"]
    assert found.letters == (b"AKV", b"m-KV", b"mAK-")
    with pytest.raises(UnknownNameError, match="no row 'z'"):
        read_alignment(path, query="z")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b">q\nMKV\n>r\nMK\n", r"row 2 \('r'\) has 2 letters and gaps.*3.*align them"),
        (b">q\nMKV\n>r\n\n>s\nMKV\n", r"row 2 \('r'\) has no sequence"),
        (b">q\nMKV\n>r\nM8V\n", r"row 2 \('r'\) has '8'"),
        (b">q\n--.\n>r\nMKV\n", "no residue in any column"),
        (b"\n", "is empty"),
    ],
)
def test_bad_fasta(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_alignment(written(tmp_path, data, "f.fasta"))


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b">q\nMKV\n", "f.A3M.gz", "a3m"),
        (b">q\nMKV\n>r\nM-V\n", "f.fa", "fasta"),
        (b">q\nMKV\n>r\nMaKV\n", "f.fa", "a3m"),
        (b">q\nMKV\n>r\nMK\n", "f.fa", "fasta"),
        (b"# STOCKHOLM 1.0\n", "f", "stockholm"),
        (b'{"query": "M"}\n', "f.txt", "jsonl"),
        (b"MKV<M>MKV\n", "f.txt", "msagpt"),
        (b"id:MKV\n", "f", "msagpt"),
        (b"x", "f.sto.gz", "stockholm"),
        (b"key,sequence\n", "f.csv", "csv"),
        (b"key,sequence\n,MKV\n", "f.out", "csv"),
    ],
)
def test_the_format_is_told(
    tmp_path: Path, data: bytes, name: str, expected: str
) -> None:
    path = written(tmp_path, gzip.compress(data) if "gz" in name else data, name)
    assert format_of(path) == expected
    assert format_of(path, "a2m") == "a2m"


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, b"%PDF-1.4\n", "f")
    with pytest.raises(DataError, match="none of the known formats"):
        read_alignment(path)
    with pytest.raises(ConfigError, match="'pdf' is not known"):
        read_alignment(path, format="pdf")


STOCKHOLM = b"""# STOCKHOLM 1.0
#=GF ID one
#=GS hit/1-4 DE of a search

query         MK.V
hit/1-4       MKaV
#=GC RF       x..x

query         AC
hit/1-4       A-
#=GC RF       xx
//
# STOCKHOLM 1.0
q MKV
r -KV
//
"""


def test_interleaved_stockholm_with_several_alignments(tmp_path: Path) -> None:
    pytest.importorskip("pyhmmer")
    path = written(tmp_path, STOCKHOLM, "f.sto")
    one, two = read_alignments(path, keep_letters=True)
    assert (one.name, two.name) == ("one", "f")
    assert one.headers == ("query", "hit/1-4 of a search"), "in the file's order"
    assert rows(one) == ["MKVAC", "MKVA-"]
    assert one.letters == (b"MKVAC", b"MKaVA-")
    assert rows(two) == ["MKV", "-KV"]
    reference = next(iter(read_alignments(path, columns="reference")))
    assert rows(reference) == ["MVAC", "MVA-"]
    with pytest.raises(DataError, match="no reference line"):
        list(read_alignments(path, columns="reference"))
    with pytest.raises(DataError, match="more than one alignment"):
        read_alignment(path)


def test_damaged_stockholm(tmp_path: Path) -> None:
    pytest.importorskip("pyhmmer")
    for data in (b"# STOCKHOLM 1.0\nq MKV\nr MK\n//\n", b"hello\n", b""):
        with pytest.raises(DataError, match=r"f\.sto"):
            read_alignment(written(tmp_path, data, "f.sto"))


def test_without_pyhmmer_stockholm_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyhmmer"):
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"mdlm-msa\[stockholm\]"):
        read_alignment(written(tmp_path, STOCKHOLM, "f.sto"))


@real
def test_stockholm_agrees_with_biopython_on_every_real_file() -> None:
    pytest.importorskip("pyhmmer")
    for path in sorted((DATA / "other_formats").glob("*.sto.gz")):
        found = read_alignment(path, keep_letters=True)
        text = gzip.decompress(path.read_bytes()).decode()
        theirs = AlignIO.read(io.StringIO(text), "stockholm")
        query = str(theirs[0].seq)
        columns = [i for i, letter in enumerate(query) if letter not in ".-"]
        for row, record in zip(found.rows, theirs, strict=True):
            expected = "".join(str(record.seq)[i] for i in columns)
            assert decode(row) == expected.upper().replace(".", "-")
        whole = [str(r.seq).replace(".", "").replace("-", "").upper() for r in theirs]
        assert [
            row.decode().replace("-", "").upper() for row in found.letters or ()
        ] == whole


def test_msagpt_text(tmp_path: Path) -> None:
    data = b"7abc_A:MKV<M>M-V<M>MKA<M>\n\nMKVL\n"
    one, two = read_alignments(written(tmp_path, data, "cases.txt"))
    assert (one.name, two.name) == ("7abc_A", "cases_3")
    assert rows(one) == ["MKV", "M-V", "MKA"]
    assert rows(two) == ["MKVL"]
    bad = written(tmp_path, b"a:MKV<M>MK\n", "bad.txt")
    with pytest.raises(DataError, match=r"line 1, row 2 \('row1'\) has 2 columns"):
        read_alignment(bad)


def test_json_lines(tmp_path: Path) -> None:
    data = (
        b'{"id": "a", "query": "MKV", "sequences": ["MKV", "M-V"], "depth": 2}\n'
        b'{"query": "MKV", "sequences": ["MKV"], "headers": ["q", "same"]}\n'
        b'{"query": "MKV"}\n'
    )
    one, two, three = read_alignments(written(tmp_path, data, "f.jsonl"))
    assert (one.name, rows(one)) == ("a", ["MKV", "M-V"])
    assert (two.headers, rows(two)) == (("q", "same"), ["MKV", "MKV"])
    assert rows(three) == ["MKV"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1]", "line 1 is no object"),
        (b"{", "line 1 is no JSON"),
        (b'{"id": 3}', "needs query"),
        (b'{"query": "M", "sequences": "M"}', "needs query"),
        (b'{"query": "MK", "sequences": ["M"]}', r"line 1, row 2 .* has 1 columns"),
        (b'{"query": "M", "sequences": [], "headers": ["a", "b"]}', "headers"),
        (b'{"query": "M", "winner": [], "loser": []}', "pair of preferences"),
        (b"", "is empty"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_alignment(written(tmp_path, line, "f.jsonl"))


def test_boltz_table(tmp_path: Path) -> None:
    found = read_alignment(
        written(tmp_path, b"key,sequence\n,MKV\n7,MaK-\n", "f.csv"), keep_letters=True
    )
    assert found.headers == ("query", "row1 key=7")
    assert found.letters == (b"MKV", b"MaK-")
    with pytest.raises(DataError, match="has the columns a, b"):
        read_alignment(written(tmp_path, b"a,b\n1,2\n", "f.csv"))


def names(found: Sequence[Alignment]) -> dict[str, int]:
    return {alignment.name: alignment.depth for alignment in found}


def test_folders_of_searches_are_one_family_each(tmp_path: Path) -> None:
    pytest.importorskip("pyhmmer")
    query = b">1abc_A\nMKV\n"
    hits = b"# STOCKHOLM 1.0\n#=GS h/1-3 DE x\n1abc_A M-KV\nh/1-3  MAK-\n//\n"
    written(tmp_path, query + b">b\nM-V\n", "pdb/1abc_A/a3m/bfd_uniclust_hits.a3m")
    written(tmp_path, hits, "pdb/1abc_A/a3m/uniref90_hits.sto")
    written(tmp_path, b"no alignment", "pdb/1abc_A/hhr/pdb70_hits.hhr")
    written(tmp_path, query + b">u\nMKV\n", "uniclust30/U1/a3m/uniclust30.a3m")
    written(tmp_path, query + b">n\nMKV\n", "px/chain1/non_pairing.a3m")
    written(tmp_path, query, "px/chain1/pairing.a3m")
    written(tmp_path, query, "px/chain1/uniprot_hits.sto")
    written(tmp_path, query, "other/single.a3m.gz")
    written(tmp_path, b"x", "README.md")
    found = list(read_alignments(tmp_path))
    assert names(found) == {"single": 1, "1abc_A": 3, "chain1": 2, "U1": 2}
    merged = next(a for a in found if a.name == "1abc_A")
    assert [header.split()[0] for header in merged.headers] == [
        *("1abc_A", "h/1-3", "b")
    ], "UniRef90 first, and no row is lost but the query, again"
    assert merged.notes["further copies of the query left out"] == 1
    chain = next(a for a in found if a.name == "chain1")
    assert [note for note in chain.notes if "passed over" in note] == [
        "pairing.a3m passed over (pairs of chains, or templates)",
        "uniprot_hits.sto passed over (pairs of chains, or templates)",
    ]
    only = read_alignments(tmp_path, format="openproteinset")
    assert set(names(list(only))) == {"1abc_A", "chain1", "U1"}
    assert read_alignment(tmp_path / "pdb" / "1abc_A").depth == 3


def test_searches_for_different_queries_are_refused(tmp_path: Path) -> None:
    written(tmp_path, b">a\nMKV\n", "x/uniclust30.a3m")
    written(tmp_path, b">b\nMKVL\n", "x/bfd_uniclust_hits.a3m")
    with pytest.raises(DataError, match="query of number 2"):
        list(read_alignments(tmp_path))


def test_globs_commas_and_names(tmp_path: Path) -> None:
    for name in ("a/x.a3m", "b/x.a3m", "b/y,z.a3m"):
        written(tmp_path, b">q\nMKV\n", name)
    pattern = f"{tmp_path}/*/x.a3m"
    assert list(names(list(read_alignments(pattern)))) == ["x", "x_2"]
    both = f"{tmp_path}/a/x.a3m, {tmp_path}/b"
    assert list(names(list(read_alignments(both)))) == ["x", "x_2", "y,z"]
    assert read_alignment(tmp_path / "b" / "y,z.a3m").depth == 1
    with pytest.raises(DataError, match="no file is like"):
        list(read_alignments(f"{tmp_path}/*.sto"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no alignment"):
        list(read_alignments(tmp_path / "empty"))
