"""Texts over a grid of one or two traits, all from the same noise.

Each cell sets the traits of the axes and keeps what else is known, as a counterfactual
does; the order of revealing and the Gumbel numbers of a text are the same in all cells,
so that what differs between them follows from the traits.

Letters: C cells, N texts in a cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch

from mdlm_core.errors import UsageError
from mdlm_core.protocols import SamplerCallback
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.saved import Trained
from mdlm_personality.traits import TRAITS

from .personas import Change, Given, Values
from .views import told
from .writing import Manner, write

if TYPE_CHECKING:
    from mdlm_personality.metrics.judges import Judge

MAX_CELLS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One point of the grid."""

    do: dict[str, float]
    """What is set there, by the full name of its node."""
    texts: list[str]
    nfe: list[int]
    scores: list[list[float]]
    """What a judge reads, of each text the five traits; NaN where it tells nothing.
    Empty without a judge."""

    def mean(self, trait: int) -> float:
        """Return the mean score of a trait over the texts that tell of it."""
        told = self._told(trait)
        return math.fsum(told) / len(told) if told else math.nan

    def error(self, trait: int) -> float:
        """Return the standard error of `mean`; NaN with fewer than two texts."""
        told = self._told(trait)
        if len(told) < 2:
            return math.nan
        mean = math.fsum(told) / len(told)
        squares = math.fsum((score - mean) ** 2 for score in told)
        return math.sqrt(squares / (len(told) - 1) / len(told))

    def _told(self, trait: int) -> list[float]:
        scores = (row[trait] for row in self.scores)
        return [score for score in scores if not math.isnan(score)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """The cells of a grid."""

    axes: dict[str, tuple[float, ...]]
    """The values of each axis, by the full name of its node."""
    cells: tuple[Cell, ...]
    """The last axis changes fastest."""
    judge: str = ""
    """Which judge read the texts."""

    def slope(self, axis: str, trait: int) -> float:
        """Return the change of a trait's score per unit of an axis, by least squares.

        NaN without a judge, or if all scored texts have one value of the axis.
        """
        pairs = [
            (cell.do[axis], score) for cell in self.cells for score in cell._told(trait)
        ]
        if not pairs:
            return math.nan
        x0 = math.fsum(x for x, _ in pairs) / len(pairs)
        spread = math.fsum((x - x0) ** 2 for x, _ in pairs)
        if not spread:
            return math.nan
        return math.fsum((x - x0) * y for x, y in pairs) / spread


def sweep(
    trained: Trained,
    values: Values,
    axes: Mapping[str, Sequence[float]],
    *,
    num: int = 4,
    length: int | None = None,
    prompt: str = "",
    seed: int = 0,
    guidance: GuidanceConfig | None = None,
    manner: Manner | None = None,
    judge: Judge | None = None,
    callback: SamplerCallback | None = None,
) -> Sweep:
    """Write `num` texts in each cell of the grid of one or two axes.

    Args:
        trained: the model.
        values: what is known besides; see `generate`.
        axes: the values of one or two nodes, by name, in the units of the user.
        num: texts in a cell.
        length: tokens of a text; as trained if not given.
        prompt: of every text.
        seed: decides every draw; text i of all cells has the same numbers.
        guidance: how strongly texts are drawn to the persona.
        manner: the sampler.
        judge: reads the traits in the texts.
        callback: called with the canvas after every evaluation.

    Raises:
        UsageError: if there are not one or two axes, an axis has no value or one twice,
            or a value is not in its range.
        UnknownNameError: if a name is no node.
    """
    named = _axes(trained, axes)
    points = [dict(zip(named, one, strict=True)) for one in product(*named.values())]
    if len(points) > MAX_CELLS:
        raise UsageError(
            f"the grid has {len(points)} cells; at most {MAX_CELLS} are written"
        )
    given = Given.of(trained.persona, values)
    if len(given) != 1:
        raise UsageError(
            f"a sweep is about one persona, but {len(given)} were given; give one"
        )
    if num < 1:
        raise UsageError(f"{num} texts of a cell were asked for; ask for at least 1")
    rows = torch.zeros(len(points), dtype=torch.int64, device=given.values.device)
    every = Given(given.values[rows], given.known[rows])
    course = told(
        trained.persona, every, Change(do=tuple(points)), settings=guidance
    ).repeated(num)
    manner = replace(manner or Manner.of(trained), coupled=True)
    found = write(
        trained,
        course,
        length=length,
        prompt=prompt,
        seed=seed,
        manner=manner,
        callback=callback,
        sample_id=torch.arange(num).repeat(len(points)),
    )
    read = judge.read(found.texts).scores.tolist() if judge else []
    parts = [slice(i * num, (i + 1) * num) for i in range(len(points))]
    nfe = found.nfe.tolist()
    cells = tuple(
        Cell(do=point, texts=found.texts[part], nfe=nfe[part], scores=read[part])
        for point, part in zip(points, parts, strict=True)
    )
    return Sweep(axes=named, cells=cells, judge=judge.name if judge else "")


def _axes(
    trained: Trained, axes: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Return the axes by the full names of their nodes, after checking them."""
    if not 1 <= len(axes) <= 2:
        raise UsageError(f"a sweep has one or two axes, and {len(axes)} were given")
    named: dict[str, tuple[float, ...]] = {}
    for name, values in axes.items():
        full = trained.persona.node_names[trained.persona.node(name)]
        if full in named:
            raise UsageError(f"{full} is on both axes; name another trait")
        if not values:
            raise UsageError(f"the axis {full} has no value; give at least one")
        if len({*values}) != len(values):
            raise UsageError(f"the axis {full} has a value twice; give each once")
        for value in values:
            trained.persona.standard(full, value)  # raises if it is out of range
        named[full] = tuple(float(value) for value in values)
    return named


def table(found: Sweep) -> list[list[str]]:
    """Return the grid as rows of text, the first one being the head.

    With a judge a row holds the mean score of each trait and its standard error;
    otherwise the first text of the cell.
    """
    if not found.judge:
        head = [*_heads(found), "text"]
        return [head, *([*_point(cell), cell.texts[0]] for cell in found.cells)]
    rows = [[*_heads(found), *(f"reads {trait[0].upper()}" for trait in TRAITS)]]
    for cell in found.cells:
        scores = [_score(cell.mean(k), cell.error(k)) for k in range(len(TRAITS))]
        rows.append([*_point(cell), *scores])
    return rows


def _heads(found: Sweep) -> list[str]:
    return list(found.axes)


def _point(cell: Cell) -> list[str]:
    return [f"{value:g}" for value in cell.do.values()]


def _score(mean: float, error: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f}±{error:.2f}"
