"""What structure prediction would stumble over is found, and good files pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdlm_core.errors import ConfigError
from mdlm_msa.formats.a3m import parse_rows
from mdlm_msa.formats.checking import Finding, check
from mdlm_msa.formats.handoff import TARGETS, hand_off

GOOD = b">q\nMKVL\n>r\nMaK-L\n"


def found(folder: Path, data: bytes, target: str, **more: str) -> list[Finding]:
    path = folder / "f.a3m"
    path.write_bytes(data)
    return check(path, target, **more)


def rules(findings: list[Finding], level: str = "error") -> set[str]:
    return {finding.rule for finding in findings if finding.level == level}


@pytest.mark.parametrize("target", TARGETS)
def test_a_good_file_passes(tmp_path: Path, target: str) -> None:
    assert found(tmp_path, GOOD, target) == []
    assert found(tmp_path, GOOD, target, query="mkvl\n") == []


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_handed_off_passes(tmp_path: Path, target: str) -> None:
    family = parse_rows(
        [b"MUV", b"BOZ", b"M-V"], [b"q\tx", b"", b"mdlm|m\t1"], name="o", place="o"
    )
    path, *_ = hand_off(family, tmp_path / "out", target)
    place = path if path.parent == tmp_path else tmp_path / "out"
    if target == "boltz":
        path = place = path.rename(tmp_path / "out.csv")
    assert rules(check(place, target, query="MCV")) == set()
    assert rules(check(place, target, query="MKV")) == {"query"}


@pytest.mark.parametrize(
    ("data", "bad_for", "rule"),
    [
        (b">q\nMK\nVL\n>r\nMKVL\n", {"colabfold", "boltz"}, "wrapped"),
        (b">q\nMKVL\n\0>q\nMKVL\n", set(TARGETS), "nul"),
        (b"#c\n>q\nMKVL\n>r\nMKVL\n", {*TARGETS} - {"boltz"}, "comments"),
        (b"#4\t1\n>q\nMKVL\n>r\nMKVL\n", {*TARGETS} - {"boltz"}, "comments"),
        (b"#5\t1\n>101\nMKVL\n>r\nMKVL\n", {*TARGETS} - {"boltz"}, "comments"),
        (b"#4\t1\n>101\nMKVL\n>r\nMKVL\n", {"af2", "af3", "protenix"}, "comments"),
        (b">q\ta\nMKVL\n>r\nMKVL\n", {"colabfold"}, "headers"),
        (b">q\nMKVL\n>mdlm|m\ta\nMKVL\n", set(TARGETS), "headers"),
        (b">q\nMKVL\n>r\nM.K-L\n", set(TARGETS), "letters"),
        (b">q\nMKVL\n>r\nMK*L\n", set(TARGETS), "letters"),
        (b">q\nMkVL\n>r\nMKVL\n", set(TARGETS), "unreadable"),
        (b">q\nMaKVL\n>r\nMKVL\n", set(TARGETS), "query"),
        (b">q\nMK-L\n>r\nMKVL\n", set(TARGETS), "query"),
        (b"", set(TARGETS), "unreadable"),
    ],
)
def test_errors_by_program(
    tmp_path: Path, data: bytes, bad_for: set[str], rule: str
) -> None:
    assert {t for t in TARGETS if rule in rules(found(tmp_path, data, t))} == bad_for


def test_the_first_row_must_be_the_sequence(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, GOOD, "boltz", query="MKAL")
    assert finding.level == "error"
    assert "V in column 3, the sequence A" in finding.message
    assert "no alignment at all" in finding.message
    (finding,) = found(tmp_path, GOOD, "af3", query="MKV")
    assert "4 columns, the sequence 3 residues" in finding.message


def test_warnings_and_notes_name_rows(tmp_path: Path) -> None:
    data = b">q\nMXVU\n>r\n----\n>r\nMKVL\n>s\nMKVL\n>\nMKAL\n>mdlm|m|seed=0\nMAVL\n"
    findings = found(tmp_path, data, "colabfold")
    assert rules(findings) == set()
    assert rules(findings, "warning") == {"letters", "gaps", "headers"}
    by_rule = {finding.rule: finding for finding in findings}
    assert "U (1), X (1)" in by_rule["letters"].message
    assert by_rule["gaps"].rows == (2,)
    assert by_rule["duplicates"].rows == (3, 4)
    assert by_rule["synthetic"].rows == (6,)
    only = found(tmp_path, b">q\nMKV\n", "colabfold")
    assert rules(only, "warning") == {"depth"}


def test_alphafold_3_wants_three_keys(tmp_path: Path) -> None:
    family = parse_rows([b"MKV", b"M-V"], [b"q", b"r"], name="o", place="o")
    (path,) = hand_off(family, tmp_path / "o.json", "af3")
    document = json.loads(path.read_text())
    protein = document["sequences"][0]["protein"]
    del protein["templates"], document["dialect"]
    protein["sequence"] = "MKA"
    path.write_text(json.dumps(document))
    assert rules(check(path, "af3")) == {"keys", "query"}
    path.write_text("{}")
    assert rules(check(path, "af3")) == {"unreadable"}


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    family = parse_rows([b"MKV", b"M-V"], [b"q", b"r"], name="o", place="o")
    hand_off(family, tmp_path, "af2")
    (tmp_path / "msas" / "mgnify_hits.sto").unlink()
    (finding,) = check(tmp_path, "af2")
    assert (finding.level, finding.rule) == ("warning", "missing")
    assert rules(check(tmp_path, "protenix")) == {"missing"}
    assert rules(check(tmp_path, "colabfold")) == {"format"}


def test_an_alignment_in_memory(tmp_path: Path) -> None:
    family = parse_rows([b"MKV", b"M-V"], [b"q\tx", b"r"], name="o", place="o")
    assert rules(check(family, "colabfold")) == {"headers"}
    with pytest.raises(ConfigError, match="'rosetta' is not known"):
        check(family, "rosetta")


def test_a_byte_order_mark_is_found(tmp_path: Path) -> None:
    assert rules(found(tmp_path, b"\xef\xbb\xbf" + GOOD, "colabfold")) == {
        "byte order mark"
    }
