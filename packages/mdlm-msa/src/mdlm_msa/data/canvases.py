"""Which rows and columns of a family a canvas gets.

Letters: E canvases of an epoch, F families, R rows, L columns, N rows of a canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.kernels.noise import Noise
from mdlm_msa.clusters import clusters
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.layout import Canvas, capacity, size
from mdlm_msa.selection import select_rows
from mdlm_msa.weights import sequence_weights

from .family import Family, Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is decided of canvases before any row is chosen; all ``(E,)``."""

    family: Rows
    """Number of the family."""
    homologues: Rows
    """Rows besides the query, at most."""
    given: Rows
    """How many of them are given."""
    size: Rows
    """Tokens, at most."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One canvas: rows and columns of a family."""

    family: int
    columns: Rows
    """Which columns of the family."""
    prompts: Rows
    """Homologues that are given."""
    free: Rows
    """Homologues that are restored."""
    query: int = 0
    """The row that stands for the query."""
    support: Rows | None = None
    """Further homologues, which the profile alone sees."""


class Shapes:
    """How large canvases of some families can be."""

    def __init__(
        self,
        families: Sequence[Family],
        counts: Sequence[int],
        config: AlignmentsConfig,
    ) -> None:
        """Take families and the number of homologues that each may show."""
        lengths = [family.alignment.length for family in families]
        self.config = config
        # A query that leaves no room for a row is cut to a window that does.
        widest = min(config.length // 2 - 2, config.window or config.length)
        self.width = np.array([min(n, widest) for n in lengths])
        fits = [capacity(config.length, int(w)) for w in self.width]
        most = np.minimum(np.array(fits), config.rows)
        self.most = np.minimum(most - 1, np.array(counts))  # homologues
        self.least = np.minimum(max(0, config.prompt_rows) + 1, self.most)

    def mean(self, chance: Floats) -> float:
        """Return the homologues of a canvas in the mean."""
        return float((chance * (self.least + self.most) / 2).sum())

    def homologues(self, family: Rows, u: Floats) -> Rows:
        """Return a number of homologues for each u in (0, 1), all alike."""
        low, high = self.least[family], self.most[family]
        found: Rows = low + (u * (high - low + 1)).astype(np.int64)
        return found

    def given(self, homologues: Rows, u: Floats, v: Floats) -> Rows:
        """Return how many of the homologues are given.

        As the settings say, or none for half of u, else any number that leaves a row.
        """
        wanted = self.config.prompt_rows
        if wanted >= 0:
            return np.minimum(wanted, homologues - 1)
        drawn = (v * homologues).astype(np.int64)
        found: Rows = np.where(u < 0.5, 0, drawn)
        return found

    def sizes(self, family: Rows, homologues: Rows) -> Rows:
        """Return the tokens of canvases."""
        found: Rows = (homologues + 1) * (self.width[family] + 1) + 2
        return found


def plan(shapes: Shapes, chance: Floats, count: int, noise: Noise) -> Plan:
    """Return what E canvases are, given the chance ``(F,)`` of each family.

    Families come in proportion to their chance, but for less than one canvas.
    """
    u = noise.child("plan").uniform(torch.arange(count), 4).numpy()
    shift = float(noise.child("shift").uniform(torch.zeros(1, dtype=torch.int64), 1))
    point = (np.arange(count) + shift) / count
    ends = np.cumsum(chance)
    family = np.searchsorted(ends / ends[-1], point, side="right")
    homologues = shapes.homologues(family, u[:, 0])
    given = shapes.given(homologues, u[:, 1], u[:, 2])
    return Plan(family, homologues, given, shapes.sizes(family, homologues))


class Chooser:
    """Chooses the rows of canvases; remembers what is costly about a family."""

    def __init__(self, families: Sequence[Family], config: AlignmentsConfig) -> None:
        self.families = families
        self.config = config
        self._weights: dict[int, Floats] = {}
        self._labels: dict[int, Rows] = {}

    def weights(self, family: int) -> Floats:
        """Return the weight ``(R,)`` of each row of a family."""
        if family not in self._weights:
            states = self.families[family].alignment.states
            self._weights[family] = sequence_weights(states)
        return self._weights[family]

    def chance(self) -> Floats:
        """Return the chance ``(F,)`` of each family; 0 if it is held out whole."""
        how = self.config.weighting
        sizes = [
            float(self.weights(f)[family.train_rows].sum())
            if how == "neff" and not family.whole
            else len(family.train_rows)
            for f, family in enumerate(self.families)
        ]
        values = np.array(sizes, np.float64)
        values = (values > 0).astype(np.float64) if how == "uniform" else values**0.5
        total: Floats = values / values.sum()
        return total

    def place(
        self, family: int, width: int, count: int, given: int, noise: Noise
    ) -> Placed:
        """Choose `count` training rows for a canvas, `given` of them shown."""
        home = self.families[family]
        query, columns = self._query(home, noise)
        rng = np.random.default_rng(noise.child("window").integer())
        homologues = home.train_rows[home.train_rows != query]
        columns, among = window(home, homologues, columns, width, rng)
        how = self.config.select
        chosen = select_rows(
            home.alignment,
            count,
            how,
            noise.child("rows"),
            among=among,
            weights=self.weights(family) if how == "weighted" else None,
            labels=self._clusters(family) if how == "cluster" else None,
        )
        chosen = rng.permutation(chosen)  # the order of a file says too much
        given = min(given, len(chosen) - 1)
        rest = np.setdiff1d(among, chosen)
        return Placed(
            family,
            columns,
            chosen[:given],
            chosen[given:],
            query,
            supporting(rest, self.config.support, noise.child("support")),
        )

    def _query(self, home: Family, noise: Noise) -> tuple[int, Rows]:
        """Return the row that stands for the query, and the columns it has."""
        everything = np.arange(home.alignment.length)
        rng = np.random.default_rng(noise.child("query").integer())
        if rng.random() >= self.config.requery or len(home.train_rows) < 2:
            return 0, everything
        row = int(rng.choice(home.train_rows))
        columns = home.alignment.is_residue[row].nonzero()[0]
        if 2 * len(columns) < len(everything):
            return 0, everything
        return row, columns

    def _clusters(self, family: int) -> Rows:
        if family not in self._labels:
            states = self.families[family].alignment.states
            self._labels[family] = clusters(states)
        return self._labels[family]

    def canvas(self, placed: Placed) -> Canvas:
        """Return the canvas with its rows."""
        rows = self.families[placed.family].alignment.rows
        order = np.concatenate([[placed.query], placed.prompts, placed.free])
        part = rows[np.ix_(order, placed.columns)]
        support = placed.support
        return Canvas(
            part,
            given=1 + len(placed.prompts),
            support=None if support is None else rows[np.ix_(support, placed.columns)],
        )


def window(
    family: Family, among: Rows, columns: Rows, width: int, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Return a random window of columns, and the rows with a residue there.

    If no row has one, the window is laid over a residue of one of the rows.

    Args:
        family: where.
        among: numbers of rows.
        columns: those that may be taken, in order.
        width: how many are taken, if there are as many.
        rng: decides.
    """
    residues = family.alignment.is_residue[np.ix_(among, columns)]
    spare = max(len(columns) - width, 0)
    start = int(rng.integers(spare + 1)) if spare else 0
    inside = residues[:, start : start + width].any(1)
    if not inside.any() and residues.any():
        row = int(rng.choice(np.flatnonzero(residues.any(1))))
        column = int(rng.choice(np.flatnonzero(residues[row])))
        start = int(np.clip(column - rng.integers(width), 0, spare))
        inside = residues[:, start : start + width].any(1)
    found = among[inside] if inside.any() else among
    return columns[start : start + width], found


def supporting(rest: Rows, most: int, noise: Noise) -> Rows | None:
    """Return a random choice of a random number of rows, up to `most`; None if none."""
    most = min(most, len(rest))
    rng = np.random.default_rng(noise.integer())
    count = int(rng.integers(most + 1)) if most else 0
    return rng.choice(rest, count, replace=False) if count else None


def measured(
    families: Sequence[Family], config: AlignmentsConfig
) -> Iterator[tuple[Placed, int]]:
    """Yield the canvases on which held-out rows are measured, with their widths.

    Every held-out row is free on one canvas, in numbers and after prompts that are
    drawn as in training. Prompts are training rows of the family, or, if it is held out
    whole, other rows of it.
    """
    for f, family in enumerate(families):
        rest = family.held_out_rows
        if not len(rest):
            continue
        noise = Noise(config.seed).child("msa", "measured", family.name)
        rng = np.random.default_rng(noise.integer())
        rest = rng.permutation(rest)
        shown = rest if family.whole else family.train_rows
        shapes = Shapes([family], [len(rest) + len(family.train_rows)], config)
        width, zero = int(shapes.width[0]), np.zeros(1, np.int64)
        while len(rest):
            homologues = shapes.homologues(zero, rng.random(1))
            given = int(shapes.given(homologues, rng.random(1), rng.random(1))[0])
            everything = np.arange(family.alignment.length)
            columns, inside = window(family, rest, everything, width, rng)
            free = inside[: max(1, int(homologues[0]) - given)]
            rest = rest[~np.isin(rest, free)]
            there = family.alignment.is_residue[np.ix_(shown, columns)].any(1)
            others = shown[there & ~np.isin(shown, free)]
            prompts = rng.permutation(others)[:given]
            unused = np.setdiff1d(others, prompts)
            support = supporting(unused, config.support, noise.child(int(free[0])))
            yield Placed(f, columns, prompts, free, support=support), width


def tokens(placed: Placed, width: int) -> int:
    """Return the tokens of a canvas."""
    return size(1 + len(placed.prompts) + len(placed.free), width)


def notes_of(notes: Mapping[str, int]) -> dict[str, int]:
    """Return counts as plain numbers, the largest first."""
    return {key: int(n) for key, n in sorted(notes.items(), key=lambda item: -item[1])}
