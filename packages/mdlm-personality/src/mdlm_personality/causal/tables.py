"""Tables of traits and of what else is observed: read, checked, with tiers.

Columns are in the order of the observed columns everywhere: the traits, then labels.
A value that is not known is NaN. Letters: N rows, K columns.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_personality.config.data import TIERS, check_labels
from mdlm_personality.traits import TRAITS, trait_index

if TYPE_CHECKING:
    import pandas

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MISSING = ("", "-1", "nan", "NA")
"""What stands for a score that is not known. In labels, -1 is a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of persons, columns of traits and labels."""

    names: tuple[str, ...]
    tiers: tuple[str, ...]
    """The tier of each column."""
    values: Array
    """(N, K); NaN where a value is not known."""
    source: str = "a table"

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> int:
        """Return the place of a column; traits may be given by their first letter.

        Raises:
            UnknownNameError: if there is none; near misses are listed.
        """
        if name in self.names:
            return self.names.index(name)
        with suppress(UnknownNameError):
            if (trait := TRAITS[trait_index(name)]) in self.names:
                return self.names.index(trait)
        near = get_close_matches(name, self.names, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UnknownNameError(
            f"'{name}' is no column in use; there are {', '.join(self.names)}.{hint}"
        )

    def complete(self) -> Table:
        """Return the rows of which every value is known.

        Raises:
            DataError: if there are fewer than two.
        """
        kept = self.values[np.isfinite(self.values).all(axis=1)]
        if len(kept) < 2:
            raise DataError(
                f"{len(kept)} of {len(self):,} rows of {self.source} have a value in "
                f"all of {', '.join(self.names)}; leave out columns that are rarely "
                f"known"
            )
        return Table(self.names, self.tiers, kept, self.source)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and standard deviation (K,) of the known values of each column.

        Raises:
            DataError: if a column is empty, or has one value only.
        """
        mean, std = np.empty(len(self.names)), np.empty(len(self.names))
        for place, name in enumerate(self.names):
            known = self.values[np.isfinite(self.values[:, place]), place]
            if not len(known):
                raise DataError(f"no row of {self.source} has a value of '{name}'")
            mean[place], std[place] = known.mean(), known.std()
            if not std[place] > 1e-12 * max(1.0, abs(mean[place])):
                raise DataError(
                    f"'{name}' of {self.source} is {known[0]:g} in all {len(known):,} "
                    f"rows that have it, so that nothing can depend on it; leave it out"
                )
        return mean, std

    def scaled(self, factor: Array) -> Table:
        """Return the table in other units: every column times its `factor` (K,)."""
        return Table(self.names, self.tiers, self.values * factor, self.source)

    def standardised(self) -> Table:
        """Return the table with mean 0 and standard deviation 1 in every column."""
        mean, std = self.moments()
        return Table(self.names, self.tiers, (self.values - mean) / std, self.source)

    def allowed(self, *, within: bool = False) -> Mask:
        """Return (K, K): edges from every tier to later ones, and `within` tiers."""
        rank = np.array([TIERS.index(tier) for tier in self.tiers])
        later: Mask = rank[:, None] < rank[None, :]
        if not within:
            return later
        same: Mask = (rank[:, None] == rank[None, :]) & ~np.eye(len(rank), dtype=bool)
        return later | same


def read_table(
    path: str | Path,
    *,
    labels: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    missing: Sequence[str] | None = None,
) -> Table:
    """Read a table of traits and labels from a .csv or .tsv file, or one with .gz.

    Args:
        path: the file; its first row has the names of the columns.
        labels: further columns, and the tier of each.
        columns: trait -> column; with it, only the traits that are named are read.
            Without it, all five are needed, under their own names.
        scale: the lowest and the highest score of traits in the file; they become
            numbers in [0, 1]. Labels stay as they are.
        missing: what stands for a value that is not known, in every column. None:
            `MISSING`, except that -1 is a number in labels.

    Raises:
        DataError: if the file cannot be read, has no rows, lacks a column, or a value
            is no number, or no score; with the row and the column.
        ConfigError: if a label has no tier.
    """
    path = Path(path)
    rows = _rows(path)
    header = [name.strip() for name in next(rows, [])]
    if not any(header):
        raise DataError(f"{path} is empty; its first row has the names of the columns")
    places = _places(header, str(path), labels or {}, columns)
    values, numbers = [], []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(row)} fields; the first row has "
                f"{len(header)}"
            )
        numbers.append(number)
        values.append(
            [
                _value(row[place], name, label, missing, f"{path}, row {number}")
                for name, place, label in places
            ]
        )
    return _table(values, places, labels or {}, scale, str(path), numbers)


def from_frame(
    frame: pandas.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Table:
    """Return the table of a pandas frame; NaN and None are values not known.

    Raises:
        DataError: as in `read_table`; rows are counted from 1.
    """
    header = [str(name) for name in frame.columns]
    places = _places(header, "the frame", labels or {}, columns)
    values = [
        [
            _value(str(row[place]), name, label, ("nan", "None", "<NA>"), f"row {at}")
            for name, place, label in places
        ]
        for at, row in enumerate(frame.itertuples(index=False, name=None), 1)
    ]
    return _table(values, places, labels or {}, scale, "the frame")


def from_arrays(
    values: Any, tiers: Mapping[str, str], source: str = "a table"
) -> Table:
    """Return a table of values (N, K) whose columns are the names of `tiers`."""
    check_labels("tiers", tiers)
    array = np.array(values, dtype=float)
    if array.ndim != 2 or array.shape[1] != len(tiers) or not len(array):
        raise DataError(
            f"{source} has values of shape {array.shape}; {len(tiers)} names need "
            f"(N, {len(tiers)})"
        )
    return Table(tuple(tiers), tuple(tiers.values()), array, source)


Place = tuple[str, int, bool]
"""Name, place in the file, whether it is a label."""


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read: it is not UTF-8 (byte {error.start}); save it as "
            f"UTF-8, or is it no table?"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from None
    tabs = ".tsv" in path.suffixes
    return csv.reader(io.StringIO(text), delimiter="\t" if tabs else ",")


def _places(
    header: list[str],
    source: str,
    labels: Mapping[str, str],
    columns: Mapping[str, str] | None,
) -> list[Place]:
    check_labels("data", labels)
    wanted = {TRAITS[trait_index(name)]: at for name, at in (columns or {}).items()}
    traits = [(name, wanted.get(name, name)) for name in TRAITS]
    if columns:
        traits = [(name, at) for name, at in traits if name in wanted]
    lower = [name.lower() for name in header]
    places: list[Place] = []
    for name, column in traits:
        if column in header:
            places.append((name, header.index(column), False))
        elif column.lower() in lower:
            places.append((name, lower.index(column.lower()), False))
        else:
            _lacks(source, header, column, "name the traits that there are: --columns")
    for label in labels:
        if label not in header:
            _lacks(source, header, label, "see --labels")
        if label in TRAITS:
            raise ConfigError(
                f"'{label}' is a trait, which needs no tier; leave it out"
            )
        places.append((label, header.index(label), True))
    return places


def _lacks(source: str, header: Sequence[str], column: str, hint: str) -> None:
    near = get_close_matches(column, header, n=1, cutoff=0.5)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    some = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
    raise DataError(
        f"{source} has no column '{column}'; it has {some}.{meant} ({hint})"
    )


def _value(
    text: str, name: str, label: bool, missing: Sequence[str] | None, where: str
) -> float:
    text = text.strip()
    if missing is None:
        unknown = text in MISSING and not (label and text == "-1")
    else:
        unknown = text in missing
    if unknown:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{where}, column {name}: '{text}' is no number; a value that is not known "
            f"is left empty"
        )
    return value


def _table(
    values: list[list[float]],
    places: list[Place],
    labels: Mapping[str, str],
    scale: tuple[float, float],
    source: str,
    numbers: Sequence[int] | None = None,
) -> Table:
    if not values:
        raise DataError(f"{source} has no rows")
    found = np.array(values)
    low, high = scale
    traits = [at for at, (_, _, label) in enumerate(places) if not label]
    outside = (found[:, traits] < low) | (found[:, traits] > high)
    if outside.any():
        row, at = np.argwhere(outside)[0]
        raise DataError(
            f"{source}, row {numbers[row] if numbers else row + 1}, column "
            f"{places[traits[at]][0]}: {found[row, traits[at]]:g} is no score from "
            f"{low:g} to {high:g}; say which there are: --scale LOW,HIGH"
        )
    found[:, traits] = (found[:, traits] - low) / (high - low)
    names = tuple(name for name, _, _ in places)
    tiers = tuple(labels.get(name, "personality") for name in names)
    return Table(names, tiers, found, source)


__all__ = ["MISSING", "Table", "from_arrays", "from_frame", "read_table"]
