"""Variants of a protein: substitutions such as ``A24G:K30R``, and where they stand.

A position counts the residues of the query from 1, or from the number that its first
residue has in the protein. Letters: L columns of the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mdlm_core.errors import DataError
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import RESIDUES, STATE_OF, Ids, decode, encode

WILD = ("", "WT", "_WT", "WILD", "WILDTYPE", "WILD-TYPE", "_WILDTYPE")
"""Names of the query itself, in upper case."""
_ONE = re.compile(r"([A-Za-z*]+)(-?\d+)([A-Za-z*=?-]+)")
_BETWEEN = re.compile(r"[:;,+/ ]+")


@dataclass(frozen=True, slots=True)
class Variant:
    """A protein that differs from the query by substitutions."""

    name: str
    """As it is written in the file."""
    columns: tuple[int, ...]
    """Columns that differ, from 0, ascending; empty for the query itself."""
    residues: tuple[int, ...]
    """Ids of the residues that stand there."""
    measured: float | None = None
    """What an experiment gave; None if it is not known."""
    line: int = 0
    """Of the file, from 1."""

    def applied(self, query: Ids) -> Ids:
        """Return the row ``(L,)`` of the variant, from that of the query."""
        row = query.copy()
        row[list(self.columns)] = self.residues
        return row


@dataclass(frozen=True, slots=True)
class Numbering:
    """The query, and which residue has which number."""

    row: Ids
    """``(L,)`` the query."""
    first: int = 1
    """Number of the first residue."""
    columns: Ids | np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """``(n,)`` int64: the column of each residue, -1 for one that has none since it is
    written as an insertion."""
    letters: str = ""
    """``(n,)`` the residues."""

    @classmethod
    def of(cls, alignment: Alignment, first: int = 1) -> Numbering:
        """Number the residues of the query of an alignment.

        Lower-case letters of the query have a number and no column.
        """
        row = alignment.rows[0]
        text = (
            alignment.letters[0].decode()
            if alignment.letters is not None
            else decode(row)
        )
        columns, letters, column = [], [], 0
        for letter in text:
            if letter.islower():
                columns.append(-1)
                letters.append(letter.upper())
                continue
            if letter not in "-.":
                columns.append(column)
                letters.append(letter)
            column += letter != "."
        if column != len(row):  # pragma: no cover - a reader that breaks its word
            raise DataError(
                f"the query has {column} columns in text, {len(row)} in all"
            )
        return cls(row, first, np.array(columns, np.int64), "".join(letters))

    @property
    def last(self) -> int:
        """Number of the last residue."""
        return self.first + len(self.letters) - 1

    def column(self, letter: str, number: int) -> int:
        """Return the column of a residue.

        Raises:
            DataError: if there is none with this number, it has no column, or it is
                another than `letter`.
        """
        index = number - self.first
        if not 0 <= index < len(self.letters):
            raise DataError(
                f"position {number} is outside of the query, whose residues are "
                f"{self.first} to {self.last}"
            )
        found = self.letters[index]
        if found != letter:
            raise DataError(f"the query has {found} at position {number}, not {letter}")
        if self.columns[index] < 0:
            raise DataError(
                f"position {number} is an insertion of the query (lower case), which "
                f"has no column"
            )
        return int(self.columns[index])


def parse_variant(text: str, query: Numbering) -> Variant:
    """Read one variant: substitutions, or the whole sequence.

    Substitutions are separated by ``:``, ``;``, ``,``, ``+``, ``/`` or spaces, and may
    begin with ``p.``; A24A or A24= changes nothing. A sequence of the query's length
    is compared with it. ``WT`` or an empty text is the query itself.

    Args:
        text: such as ``A24G:K30R``.
        query: what it is a variant of.

    Raises:
        DataError: if it is neither, names a wrong residue, a position outside, or
            anything but a substitution by one of the twenty residues.
    """
    name = text.strip()
    if name.upper() in WILD:
        return Variant(name or "WT", (), ())
    if name.isalpha() and len(name) > 1:
        return _of_sequence(name, query)
    changes: dict[int, int] = {}
    for part in _BETWEEN.split(name):
        match = _ONE.fullmatch(part.removeprefix("p."))
        if match is None:
            raise DataError(
                f"'{part}' is no substitution; write A24G: residue, position, residue"
            )
        old, number, new = match.groups()
        column = query.column(_letter(old, part), int(number))
        residue = _letter(old if new == "=" else new, part)
        if column in changes:
            raise DataError(f"'{name}' changes position {number} twice")
        changes[column] = int(encode(residue)[0])
    kept = {c: r for c, r in sorted(changes.items()) if query.row[c] != r}
    return Variant(name, tuple(kept), tuple(kept.values()))


def _letter(text: str, part: str) -> str:
    """Return a residue as one letter, from one or from three."""
    letter = _THREE.get(text.upper(), text.upper())
    if len(letter) == 1 and letter in RESIDUES:
        return letter
    what = {
        "*": "a stop codon",
        "TER": "a stop codon",
        "-": "a deletion",
        "DEL": "a deletion",
        "FS": "a frame shift",
    }.get(text.upper(), f"'{text}'")
    raise DataError(
        f"'{part}' has {what} where one of the residues {''.join(sorted(RESIDUES))} "
        f"must be; only substitutions are scored"
    )


def _of_sequence(text: str, query: Numbering) -> Variant:
    letters = text.upper()
    if len(letters) != len(query.letters):
        raise DataError(
            f"the sequence has {len(letters)} residues, and the query "
            f"{len(query.letters)}; a variant with insertions or deletions has no "
            f"score, as columns are those of the query"
        )
    columns, residues = [], []
    for index, (old, new) in enumerate(zip(query.letters, letters, strict=True)):
        if old == new:
            continue
        number = query.first + index
        place = f"{old}{number}{new}"
        residue = _letter(new, place)
        column = query.column(old, number)
        if STATE_OF[query.row[column]] >= len(RESIDUES):
            raise DataError(
                f"the sequence has {new} at position {number}, where the query has "
                f"{old}, which is none of the twenty residues; a score compares two "
                f"residues, so write {old} there too, or give the query its residue"
            )
        columns.append(column)
        residues.append(int(encode(residue)[0]))
    return Variant(_short(text), tuple(columns), tuple(residues))


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:27]}..."


def is_substitution(text: str) -> bool:
    """Return whether a text looks like substitutions, right or wrong."""
    parts = _BETWEEN.split(text.strip())
    return all(_ONE.fullmatch(part.removeprefix("p.")) for part in parts)


def fitting_first(variants: Iterable[str], query: Numbering) -> int | None:
    """Return the number of the first residue with which all wild types would fit.

    None if there is none, or more than one.
    """
    pairs = {
        (match[1], int(match[2]))
        for text in variants
        for part in _BETWEEN.split(text.strip())
        if (match := _ONE.fullmatch(part.removeprefix("p.")))
    }
    pairs = {(_THREE.get(old.upper(), old.upper()), number) for old, number in pairs}
    if not pairs:
        return None
    size = len(query.letters)
    low, high = min(n for _, n in pairs), max(n for _, n in pairs)
    fitting = [
        first
        for first in range(high - size + 1, low + 1)
        if all(query.letters[number - first] == old for old, number in pairs)
    ]
    return fitting[0] if len(fitting) == 1 else None


_THREE = {
    "ALA": "A",
    "ARG": "R",
    "ASN": "N",
    "ASP": "D",
    "CYS": "C",
    "GLN": "Q",
    "GLU": "E",
    "GLY": "G",
    "HIS": "H",
    "ILE": "I",
    "LEU": "L",
    "LYS": "K",
    "MET": "M",
    "PHE": "F",
    "PRO": "P",
    "SER": "S",
    "THR": "T",
    "TRP": "W",
    "TYR": "Y",
    "VAL": "V",
}
