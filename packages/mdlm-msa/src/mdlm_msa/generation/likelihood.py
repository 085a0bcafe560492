"""What new rows cost, each by itself: nats of its residues, given the rows shown.

Letters: n rows, L columns, P rows that are shown, the query included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.text import device_of
from mdlm_msa.alphabet import Ids
from mdlm_msa.layout import Canvas, batch
from mdlm_msa.scoring.residues import row_bits

from .canvases import Window


class Cost(NamedTuple):
    """What rows cost."""

    nats: NDArray[np.float64]
    """``(n,)``: the bound on -log p of the residues, gaps given."""
    se: NDArray[np.float64]
    """``(n,)``: its standard error."""
    residues: NDArray[np.int64]
    """``(n,)``: how many residues that is."""


def row_costs(
    backbone: Backbone,
    rows: Ids,
    shown: Sequence[Ids],
    *,
    ids: Sequence[int],
    draws: int,
    noise: Noise,
    at_once: int,
    windows: Sequence[Window],
    schedule: Schedule | None = None,
) -> Cost:
    """Score each row on a canvas of its own, below the rows that it was shown.

    Args:
        backbone: the denoiser.
        rows: ``(n, L)``.
        shown: for each row ``(P, L)``, the query first.
        ids: for each row what keys its masks.
        draws: masks of a row.
        noise: the generator of this measurement.
        at_once: canvases in one evaluation; changes nothing else.
        windows: the columns of each canvas. What a window has from the one before is
            given, so that the costs of windows add up.
        schedule: the one of training.
    """
    n = len(rows)
    nats, variance = np.zeros(n), np.zeros(n)
    count = np.zeros(n, np.int64)
    device = device_of(backbone)
    for number, window in enumerate(windows):
        part = slice(window.start, window.stop)
        for top in range(0, n, at_once):
            chosen = range(top, min(top + at_once, n))
            canvases = [
                Canvas(np.vstack([shown[i][:, part], rows[i : i + 1, part]]), 0)
                for i in chosen
            ]
            canvases = [replace(c, given=len(c.rows) - 1) for c in canvases]
            keys = torch.tensor([ids[i] for i in chosen])
            found = row_bits(
                backbone,
                _known(batch(canvases, keys), window.known).to(device),
                draws=draws,
                noise=noise.child("window", number),
                schedule=schedule,
            )
            places = top + found.canvas.cpu().numpy()
            nats[places] += found.nats.cpu().numpy()
            variance[places] += found.se.cpu().numpy() ** 2
            count[places] += found.count.cpu().numpy()
    return Cost(nats, np.sqrt(variance), count)


def _known(canvases: Batch, known: int) -> Batch:
    """Freeze the first columns, which are given."""
    assert canvases.positions is not None
    given = canvases.positions[..., 0] <= known
    return replace(canvases, frozen=canvases.frozen | given)
