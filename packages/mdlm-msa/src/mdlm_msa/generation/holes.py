"""Which symbols of an alignment are missing, or can hardly be right.

Letters: R rows, L columns, n residues of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers import Denoiser
from mdlm_core.samplers.text import device_of
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import BANNED, GAP, MASK, STATE_OF, Ids, X
from mdlm_msa.layout import Canvas, batch

What = Literal["gaps", "x", "fragments", "columns", "unlikely"]
Mask = NDArray[np.bool_]
"""``(R, L)`` or ``(L,)``: which symbols are meant."""
PARTS = 8
"""Parts in which the residues of a row are hidden to be judged."""


def holes(alignment: Alignment, what: What, *, columns: Mask | None = None) -> Mask:
    """Return ``(R, L)``: what is to be filled, never in the query.

    Args:
        alignment: the query first.
        what: gaps; x, the unknown residues; fragments, the gaps before the first and
            after the last residue of a row; columns, whatever stands in them.
        columns: ``(L,)``, for what = "columns".

    Raises:
        UsageError: if there is no such thing, or columns are not given.
    """
    rows = alignment.rows
    if what == "gaps":
        found = rows == GAP
    elif what == "x":
        found = rows == X
    elif what == "fragments":
        there = rows != GAP
        after = np.logical_or.accumulate(there, 1)
        before = np.logical_or.accumulate(there[:, ::-1], 1)[:, ::-1]
        found = ~(after & before)
    elif what == "columns":
        if columns is None or not columns.any():
            raise UsageError("what=columns needs columns, such as --columns 10-25")
        found = np.repeat(columns[None], len(rows), 0)
    else:
        raise UsageError(
            f"what is '{what}'; it must be one of {', '.join(get_args(What))}"
        )
    empty: Mask = np.asarray(found, bool)
    empty[0] = False
    return empty


def chances(
    backbone: Backbone,
    row: Ids,
    above: Ids,
    *,
    number: int,
    noise: Noise,
    at_once: int,
    schedule: Schedule,
) -> NDArray[np.float64]:
    """Return the probability of each residue of a row given the others, nan for gaps.

    The residues are hidden in eight random parts, one part at a time, so that each is
    judged once, given seven eighths of its row and the rows above. The law is over the
    twenty residues.

    Args:
        backbone: the model.
        row: ``(L,)`` ids.
        above: ``(N, L)``, the query first.
        number: of the row, which keys the parts.
        noise: decides the parts.
        at_once: canvases in one evaluation; changes nothing else.
        schedule: the one of training.

    Returns:
        ``(L,)`` float64.
    """
    there = np.flatnonzero(STATE_OF[row] < 20)
    keys = noise.uniform(torch.tensor([number]), len(there))[0].numpy()
    pieces = [np.sort(piece) for piece in np.array_split(there[keys.argsort()], PARTS)]
    pieces = [piece for piece in pieces if len(piece)]
    denoiser = Denoiser(backbone, banned=[*BANNED, GAP]).on_implied_time(schedule)
    found = np.full(len(row), np.nan)
    for top in range(0, len(pieces), at_once):
        some = pieces[top : top + at_once]
        canvases = []
        for piece in some:
            line = row.copy()
            line[piece] = MASK
            canvases.append(Canvas(np.vstack([above, line]), len(above)))
        laid = batch(canvases).to(device_of(backbone))
        hidden = denoiser.masked(laid)
        with denoiser.evaluating():
            law = torch.cat(list(denoiser.laws(laid, hidden)))
        places = np.concatenate(some)
        truth = torch.from_numpy(row[places].astype(np.int64)).to(law.device)
        found[places] = law.gather(1, truth[:, None])[:, 0].double().exp().cpu().numpy()
    return found


def unlikely(
    backbone: Backbone,
    alignment: Alignment,
    targets: Sequence[int],
    above: Sequence[NDArray[np.int64]],
    below: float,
    *,
    parts: Sequence[slice],
    noise: Noise,
    at_once: int,
    schedule: Schedule,
) -> Mask:
    """Return ``(R, L)``: residues whose probability given the others is below a bound.

    Args:
        backbone: the model.
        alignment: the query first.
        targets: the rows to judge.
        above: for each of them the rows that are shown, the query first.
        below: the bound, in (0, 1).
        parts: windows of columns.
        noise: see `chances`.
        at_once: see `chances`.
        schedule: see `chances`.

    Raises:
        UsageError: if the bound is no probability.
    """
    if not 0 < below < 1:
        raise UsageError(f"below is {below:g}; it must be a probability in (0, 1)")
    found = np.zeros(alignment.rows.shape, bool)
    for row, shown in zip(targets, above, strict=True):
        for part in parts:
            chance = chances(
                backbone,
                alignment.rows[row, part],
                alignment.rows[shown, part],
                number=int(row),
                noise=noise.child("window", part.start),
                at_once=at_once,
                schedule=schedule,
            )
            found[row, part] |= chance < below
    return found
