"""What is written is read back the same; and by other programs' readers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from Bio import AlignIO, SeqIO

from mdlm_core.errors import ConfigError, DataError, UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.formats.a3m import parse_rows
from mdlm_msa.formats.handoff import hand_off
from mdlm_msa.formats.options import Reading
from mdlm_msa.formats.reading import read_alignment, read_alignments
from mdlm_msa.formats.stockholm import padded
from mdlm_msa.formats.writing import text_of, write_alignment, write_alignments

DATA = Path(__file__).parents[4] / "shared" / "data" / "msa"
BODIES = [b"MKVL", b"acMK-L", b"M-aaVLc", b"MKcVL", b"MKVL"]
HEADERS = [b"101", b"hit one\t7", b"hit two", b"mdlm|m|seed=1", b"hit one"]


def family() -> Alignment:
    return parse_rows(
        BODIES, HEADERS, name="fam", place="f", reading=Reading(keep_letters=True)
    )


def test_padding_is_that_of_a_hand_made_table() -> None:
    rows, reference = padded(BODIES, 4)
    assert [row.decode() for row in rows] == [
        "..MK..VL.",
        "acMK..-L.",
        "..M-aaVLc",
        "..MKc.VL.",
        "..MK..VL.",
    ]
    assert reference == b"..xx..xx."


@pytest.mark.parametrize(
    "name", ["f.a3m", "f.a3m.gz", "f.a2m", "f.fasta", "f.sto", "f.jsonl", "f.csv"]
)
def test_everything_comes_back(tmp_path: Path, name: str) -> None:
    if name == "f.sto":
        pytest.importorskip("pyhmmer")
    path = write_alignment(family(), tmp_path / name)
    found = read_alignment(path, keep_letters=True)
    assert (found.rows == family().rows).all()
    assert found.letters == family().letters
    if name.endswith(("a3m", "gz", "a2m", "fasta", "jsonl")):
        assert found.headers == family().headers


def test_text_has_columns_only(tmp_path: Path) -> None:
    path = write_alignment(family(), tmp_path / "f.txt", format="msagpt")
    assert path.read_text() == "fam:MKVL<M>MK-L<M>M-VL<M>MKVL<M>MKVL\n"
    assert (read_alignment(path).rows == family().rows).all()


def test_files_of_several_alignments(tmp_path: Path) -> None:
    two = [family(), family()]
    path = write_alignments(two, tmp_path / "f.jsonl")
    assert [a.name for a in read_alignments(path)] == ["fam", "fam_2"]
    with pytest.raises(UsageError, match="several alignments"):
        write_alignments(two, tmp_path / "f.a3m")
    assert not (tmp_path / "f.a3m").exists()


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    path = write_alignment(family(), tmp_path / "f.a3m")
    with pytest.raises(UsageError, match="--force"):
        write_alignment(family(), path)
    write_alignment(family().select([0, 1]), path, force=True)
    assert read_alignment(path).depth == 2
    with pytest.raises(ConfigError, match="'xyz' is not known"):
        text_of(family(), "xyz")


def test_wrapping(tmp_path: Path) -> None:
    path = write_alignment(family(), tmp_path / "f.a3m", wrap=3)
    assert path.read_text().startswith(">101\nMKV\nL\n")
    assert read_alignment(path, keep_letters=True).letters == family().letters
    with pytest.raises(ConfigError, match="one line for a row"):
        text_of(family(), "msagpt", wrap=3)


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    fasta = text_of(family(), "fasta").decode()
    records = list(AlignIO.read(io.StringIO(fasta), "fasta"))
    assert [str(r.seq) for r in records][:3] == ["--MK--VL-", "ACMK---L-", "--M-AAVLC"]
    pytest.importorskip("pyhmmer")
    text = text_of(family(), "stockholm").decode()
    theirs = AlignIO.read(io.StringIO(text), "stockholm")
    assert [str(r.seq).replace(".", "-").upper() for r in theirs] == [
        str(r.seq) for r in records
    ]
    assert [r.id for r in theirs] == ["101", "hit", "hit_2", "mdlm|m|seed=1", "hit_3"]
    assert theirs.column_annotations["reference_annotation"] == "..xx..xx."


def test_colabfold(tmp_path: Path) -> None:
    (path,) = hand_off(family(), tmp_path / "c.a3m", "colabfold")
    lines = path.read_text().splitlines()
    assert lines[:4] == [">101", "MKVL", ">hit one 7", "acMK-L"]
    assert not any("\t" in line for line in lines)
    (path,) = hand_off(family(), tmp_path / "d.a3m", "colabfold", counts=True)
    assert path.read_text().splitlines()[:3] == ["#4\t1", ">101", "MKVL"]


def test_alphafold_3(tmp_path: Path) -> None:
    (path,) = hand_off(family(), tmp_path / "c.json", "af3")
    document = json.loads(path.read_text())
    (entry,) = document["sequences"]
    assert set(entry["protein"]) == {
        *("id", "sequence", "unpairedMsa", "pairedMsa", "templates")
    }
    assert entry["protein"]["pairedMsa"] == ""
    assert entry["protein"]["templates"] == []
    rows = list(SeqIO.parse(io.StringIO(entry["protein"]["unpairedMsa"]), "fasta"))
    assert str(rows[0].seq) == entry["protein"]["sequence"] == "MKVL"
    assert len(rows) == 5


def test_boltz(tmp_path: Path) -> None:
    (path,) = hand_off(family(), tmp_path / "c.csv", "boltz")
    table = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["sequence"] for row in table] == [b.decode() for b in BODIES]
    assert {row["key"] for row in table} == {""}


def test_folders(tmp_path: Path) -> None:
    pytest.importorskip("pyhmmer")
    hand_off(family(), tmp_path / "af2", "af2")
    msas = tmp_path / "af2" / "msas"
    assert read_alignment(msas / "bfd_uniref_hits.a3m").depth == 5
    for name in ("uniref90_hits.sto", "mgnify_hits.sto"):
        assert read_alignment(msas / name).depth == 1
        assert len(AlignIO.read(msas / name, "stockholm")) == 1
    hand_off(family(), tmp_path / "px", "protenix")
    assert read_alignment(tmp_path / "px" / "non_pairing.a3m").depth == 5
    with pytest.raises(UsageError, match="--force"):
        hand_off(family(), tmp_path / "px", "protenix")
    with pytest.raises(ConfigError, match="'rosetta' is not known"):
        hand_off(family(), tmp_path / "r", "rosetta")


def test_hand_offs_have_canonical_letters_and_a_whole_query(tmp_path: Path) -> None:
    odd = parse_rows([b"MUV", b"BOZ"], [b"q", b"r"], name="o", place="o")
    (path,) = hand_off(odd, tmp_path / "o.a3m", "colabfold")
    assert path.read_text() == ">q\nMCV\n>r\nXKX\n"
    gapped = parse_rows([b"M-V", b"MKV"], [b"q", b"r"], name="g", place="g")
    with pytest.raises(DataError, match="gap in column 2"):
        hand_off(gapped, tmp_path / "g.a3m", "colabfold")


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real families is absent")
@pytest.mark.parametrize("format", ["a3m", "fasta", "stockholm"])
def test_real_families_come_back(tmp_path: Path, format: str) -> None:
    pytest.importorskip("pyhmmer")
    for name in ("boltz_seq2", "hmmer_smc_n", "casp13_T1001", "pfamseed_cyclin_n"):
        found = read_alignment(DATA / f"{name}.a3m.gz", keep_letters=True)
        path = write_alignment(found, tmp_path / name, format=format)
        again = read_alignment(path, format=format, keep_letters=True)
        assert np.array_equal(again.rows, found.rows)
        assert again.letters == found.letters


def test_packed_files_are_the_same_every_time(tmp_path: Path) -> None:
    one = write_alignment(family(), tmp_path / "a.a3m.gz").read_bytes()
    assert one == write_alignment(family(), tmp_path / "b.a3m.gz").read_bytes()
    assert gzip.decompress(one).startswith(b">101\n")
