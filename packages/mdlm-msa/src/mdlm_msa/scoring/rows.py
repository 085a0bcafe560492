"""What rows cost given other rows, each scored by itself.

Every row stands alone, last on a canvas, after the rows that are shown. So a row's
score is a bound on -log p(row | shown rows) and does not depend on what else is scored;
`residues` has the estimator. With nothing shown it is what the model thinks of a row
by itself.

Letters: K scored rows, L columns, g shown rows, B canvases of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.draws import measuring
from mdlm_core.diffusion.times import time_at
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.text import device_of
from mdlm_msa import layout
from mdlm_msa.alphabet import GAP, MASK, STATE_OF, STATES, WRITTEN, Ids

from .residues import LN2, Gaps, row_bits

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A row to score, and what is shown before it."""

    row: Ids
    """``(L,)``."""
    given: Ids
    """``(g, L)``, the first of them in the place of the query; g may be 0."""
    support: Ids | None = None
    """``(M, L)`` further rows, which the profile alone sees."""

    @property
    def canvas(self) -> layout.Canvas:
        """The shown rows and the row after them."""
        rows = np.concatenate([self.given, self.row[None]])
        return layout.Canvas(rows, len(self.given), self.support)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RowScores:
    """Upper bounds on -log2 p of K rows."""

    bits: Floats
    """``(K,)`` bits of the whole row; 0 for one that has nothing to score."""
    se: Floats
    """``(K,)`` its standard error from the draws; nan for one draw."""
    count: NDArray[np.int64]
    """``(K,)`` scored residues, or residues and gaps."""
    given: NDArray[np.int64]
    """``(K,)`` how many rows were shown."""
    per_position: Floats
    """``(K, L)`` bits of each position, which sum to `bits`; nan if not scored."""
    per_position_se: Floats
    """``(K, L)`` its standard error; nan if not scored."""
    hidden: NDArray[np.int64]
    """``(K, L)`` in how many draws each position was hidden; 0 bits of one that never
    was say nothing of it."""
    values: Floats
    """``(K, draws)`` bits of the whole row in each draw."""

    @property
    def nats(self) -> Floats:
        """``(K,)`` `bits` in nats."""
        return self.bits * LN2

    @property
    def per_residue(self) -> Floats:
        """``(K,)`` bits per scored residue; nan for a row that has none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            rate: Floats = self.bits / self.count
        return rate

    @property
    def per_residue_se(self) -> Floats:
        """``(K,)`` the standard error of `per_residue`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            error: Floats = self.se / self.count
        return error

    def mean(self, which: NDArray[np.bool_] | None = None) -> tuple[float, float]:
        """Return bits per residue over rows, and its standard error.

        The error is that of a ratio of sums over rows, which covers the choice of rows
        and of masks; of one row, that of its draws.

        Args:
            which: ``(K,)`` bool: the rows that count; all by default.
        """
        chosen = (self.count > 0) & (True if which is None else which)
        bits, count, rows = self.bits[chosen], self.count[chosen], int(chosen.sum())
        if not rows:
            return math.nan, math.nan
        total = count.sum()
        rate = float(bits.sum() / total)
        if rows == 1:
            return rate, float(self.se[chosen][0] / total)
        residual = np.square(bits - rate * count).sum() * rows / (rows - 1)
        return rate, float(np.sqrt(residual) / total)


def score_rows(
    backbone: Backbone,
    targets: Sequence[Target],
    *,
    draws: int = 16,
    noise: Noise,
    gaps: Gaps = "given",
    batch: int = 8,
    ids: Sequence[int] | None = None,
    known: int = 0,
    schedule: Schedule | None = None,
    done: Callable[[int], object] = lambda rows: None,
) -> RowScores:
    """Score rows given what is shown to the model.

    Args:
        backbone: the denoiser.
        targets: rows over the same columns.
        draws: evaluations of each row.
        noise: the generator of this measurement.
        gaps: "given" scores residues given where the gaps are; "scored" gaps too.
        batch: canvases that go through the model together; changes nothing else.
        ids: what keys the masks of each row, 0 to K - 1 by default. Rows of the same id
            get the same masks, for differences between them.
        known: columns at the left that are given and not scored.
        schedule: the one of training, for a backbone that sees the time.
        done: told the number of rows after each batch.

    Raises:
        UsageError: if there is no row, or rows differ in length.
    """
    _check(targets)
    keys = range(len(targets)) if ids is None else ids
    device = device_of(backbone)
    parts, positions, errors, hidden = [], [], [], []
    for start in range(0, len(targets), batch):
        group = targets[start : start + batch]
        canvases = _known(
            layout.batch(
                [target.canvas for target in group],
                sample_id=torch.tensor(keys[start : start + batch]),
            ),
            known,
        )
        found = row_bits(
            backbone,
            canvases.to(device),
            draws=draws,
            noise=noise,
            gaps=gaps,
            schedule=schedule,
        )
        free = canvases.free
        if gaps == "given":
            free = free & (canvases.tokens != GAP)
        index = (found.canvas + start).cpu().numpy()
        parts.append((index, found))
        positions.append(_at_columns(found.per_position, free, group))
        hidden.append(_at_columns(found.hidden.double(), free, group))
        errors.append(_at_columns(found.per_position_se, free, group))
        done(len(group))
    scores = {
        name: np.zeros((len(targets), *shape))
        for name, shape in (("nats", ()), ("se", ()), ("values", (draws,)))
    }
    count = np.zeros(len(targets), np.int64)
    for index, found in parts:
        for name, table in scores.items():
            table[index] = getattr(found, name).cpu().numpy()
        count[index] = found.count.cpu().numpy()
    return RowScores(
        bits=scores["nats"] / LN2,
        se=scores["se"] / LN2,
        count=count,
        given=np.array([len(target.given) for target in targets]),
        per_position=np.concatenate(positions) / LN2,
        per_position_se=np.concatenate(errors) / LN2,
        hidden=np.nan_to_num(np.concatenate(hidden)).astype(np.int64),
        values=scores["values"] / LN2,
    )


def laws_alone(
    backbone: Backbone,
    target: Target,
    columns: Sequence[int],
    *,
    gaps: Gaps = "given",
    batch: int = 8,
    schedule: Schedule | None = None,
    done: Callable[[int], object] = lambda rows: None,
) -> Floats:
    """Return the law of one position of a row, given all the rest, for each column.

    The other residues of the row are visible; what has no state, such as X, is not.

    Args:
        backbone: the denoiser.
        target: the row and what is shown before it.
        columns: n columns, from 0.
        gaps: "given": the law over the 20 residues; "scored": over the gap as well.
        batch: canvases that go through the model together.
        schedule: the one of training, for a backbone that sees the time.
        done: told the number of columns after each batch.

    Returns:
        ``(n, 20 or 21)`` log2-probabilities in the order of states.
    """
    given, length = len(target.given), len(target.row)
    known, unknown = target.row != GAP, STATE_OF[target.row] == 255
    count = int(known.sum()) if gaps == "given" else length
    hidden = (1 + int(unknown.sum())) / max(count, 1)
    share = torch.tensor([min(hidden, 1.0)], dtype=torch.float64)
    t = time_at(share, schedule).float()
    allowed = list(WRITTEN if gaps == "scored" else WRITTEN[: STATES - 1])
    laws = []
    with measuring(backbone):
        for group in _groups(columns, batch):
            rows = np.repeat(target.row[None], len(group), 0)
            rows[np.arange(len(group)), group] = MASK
            canvases = layout.batch([Target(row, target.given).canvas for row in rows])
            where = [layout.place(given, length) + column for column in group]
            laws.append(_law(backbone, canvases, where, t)[:, allowed])
            done(len(group))
    law = torch.cat(laws).double().log_softmax(-1) / LN2
    table: Floats = law.numpy()
    return table


def _law(
    backbone: Backbone, canvases: Batch, where: list[int], t: torch.Tensor
) -> torch.Tensor:
    """Return ``(B, V)`` logits at one place of each canvas, on the CPU."""
    device = torch.device(device_of(backbone))
    moved = canvases.to(device)
    with torch.autocast(device.type, enabled=False):
        states = backbone.hidden(moved, t.to(device).expand(len(moved)))
        rows = torch.arange(len(moved), device=device)
        chosen = states[rows, torch.tensor(where, device=device)]
        return backbone.logits(chosen).float().cpu()


def _known(canvases: Batch, columns: int) -> Batch:
    """Freeze the first columns of every row."""
    if not columns:
        return canvases
    assert canvases.positions is not None
    given = canvases.positions[..., 0] <= columns
    return replace(canvases, frozen=canvases.frozen | given)


def _groups(columns: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(columns), size):
        yield list(columns[start : start + size])


def _at_columns(
    found: torch.Tensor, free: torch.Tensor, group: Sequence[Target]
) -> Floats:
    """Return ``(B, L)`` what stands on the canvases at the columns of the rows."""
    found = found.cpu().masked_fill(~free, math.nan)
    length = len(group[0].row)
    starts = [layout.place(len(target.given), length) for target in group]
    rows = [found[b, start : start + length] for b, start in enumerate(starts)]
    table: Floats = torch.stack(rows).numpy()
    return table


def _check(targets: Sequence[Target]) -> None:
    lengths = {len(target.row) for target in targets}
    if len(lengths) != 1:
        raise UsageError(
            f"rows of one length are scored together; here are "
            f"{sorted(lengths) or 'none'}"
        )
