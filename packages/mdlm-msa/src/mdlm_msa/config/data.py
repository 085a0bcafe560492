"""Settings of alignments and of pairs of them. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.schema import at_least, require, share

Format = Literal[
    "auto", "a3m", "a2m", "fasta", "stockholm", "openproteinset", "msagpt", "jsonl"
]
Selection = Literal["random", "top", "maxmin", "weighted", "cluster"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFilter:
    """Which homologues are kept; identities are shares in [0, 1]."""

    min_coverage: float = 0.5
    """Share of the query's columns in which a row has a residue, at least."""
    max_gaps: float = 1.0
    """Share of gaps in a row, at most."""
    min_identity: float = 0.0
    """Identity to the query over columns where both have a residue, at least."""
    max_identity: float = 0.9
    """Identity of two rows that are both kept, over all columns, at most; 1 keeps
    everything but repetitions."""
    min_rows: int = 1
    """A family with fewer homologues after that is left out."""
    min_length: int = 1
    """Columns of a family, at least."""
    max_length: int = 0
    """Columns of a family, at most; 0 means any."""

    def __post_init__(self) -> None:
        share(
            "filter",
            self,
            "min_coverage",
            "max_gaps",
            "min_identity",
            "max_identity",
        )
        at_least(0, "filter", self, "min_rows", "min_length", "max_length")


FILTERS: dict[str, RowFilter] = {
    "default": RowFilter(),
    "msagpt": RowFilter(
        min_coverage=0.0,
        max_gaps=0.1,
        min_identity=0.3,
        max_identity=1.0,
        min_rows=9,
        min_length=25,
        max_length=2000,
    ),
    "none": RowFilter(min_coverage=0.0, max_identity=1.0),
}
"""Filters by name. msagpt is that of MSAGPT's training data, too strict for most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentsConfig:
    """Alignments of protein families; a row is a canvas of some rows of one family."""

    path: str = ""
    """A file, a folder, a glob, several with commas; empty for synthetic families."""
    format: Format = "auto"
    """auto goes by the name, then by the content; .gz is read too."""
    length: int = 1024
    """Tokens of a canvas, L: N rows of a query of n residues take N (n + 1) + 2."""
    rows: int = 32
    """Rows of a canvas, the query included, at most."""
    window: int = 0
    """Columns of a canvas, at most: a random window of the query, so that more rows
    fit. 0 means all that fit with one row."""
    select: Selection = "random"
    """Which rows of a family a canvas gets."""
    requery: float = 0.5
    """Chance that another row stands for the query, with the columns that it has; so
    that a model of any family sees more queries than there are families."""
    prompt_rows: int = -1
    """Rows after the query that are given, not restored; -1 draws their number."""
    support: int = 0
    """Further rows of a family that the profile alone sees, at most; their number is
    drawn."""
    filter: Literal["default", "msagpt", "none"] = "default"
    """Which homologues are kept; the settings below change it."""
    min_coverage: float | None = None
    """Instead of the filter's."""
    min_identity: float | None = None
    """Instead of the filter's."""
    max_identity: float | None = None
    """Instead of the filter's."""
    max_gaps: float | None = None
    """Instead of the filter's."""
    max_rows: int = 20000
    """Homologues of a family that are used, at most: a random choice of them."""
    weighting: Literal["neff", "rows", "uniform"] = "neff"
    """Chance of a family: the square root of its effective or plain number of rows,
    or the same for all."""
    epoch: int = 0
    """Canvases of an epoch; 0 means so many that an average row is used once."""
    families: int = 24
    """Synthetic families, if there is no path."""
    hold_out: tuple[str, ...] = ()
    """Families that are held out whole, by name."""
    holdout: float | None = None
    """Share of families held out whole if `hold_out` names none; 0 holds out none. By
    default a tenth; of one family alone a tenth of its rows."""
    holdout_rows: float = 0.0
    """Share of the homologues of every other family held out; they are measured too.
    Rows like them (identity above 0.9, whatever the filter) are not trained on."""
    seed: int = 0
    """Decides which families and rows are held out."""

    def __post_init__(self) -> None:
        at_least(8, "data", self, "length")
        at_least(2, "data", self, "rows", "families")
        at_least(-1, "data", self, "prompt_rows")
        at_least(0, "data", self, "epoch", "window", "support")
        at_least(1, "data", self, "max_rows")
        require(
            self.prompt_rows < self.rows - 1,
            f"data.prompt_rows is {self.prompt_rows}; with data.rows={self.rows} it "
            f"must be below {self.rows - 1}, so that a row is left to restore",
        )
        share("data", self, "holdout_rows", "requery")
        for name in (
            *("holdout", "min_coverage", "min_identity", "max_identity", "max_gaps"),
        ):
            value = getattr(self, name)
            require(
                value is None or 0 <= value <= 1,
                f"data.{name} is {value}; it must be in [0, 1]",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsConfig:
    """Pairs of alignments of which one is preferred, as JSON lines."""

    path: str = ""
    """A file of pairs, as `mdlm msa prefer` writes it; empty for pairs of synthetic
    families."""
    length: int = 1024
    """Tokens of a canvas, L, at most."""
    holdout: float = 0.1
    """Share of the queries whose pairs are held out, one at least; of the pairs if
    there is only one query."""
    min_difference: float = 0.0
    """Difference of the two scores, at least, where the file has scores."""
    seed: int = 0
    """Decides which are held out."""

    def __post_init__(self) -> None:
        at_least(8, "data", self, "length")
        require(
            0 < self.holdout < 1,
            f"data.holdout is {self.holdout}; it must be in (0, 1)",
        )
