"""What new rows cost, each by itself: nats of its residues, given the rows shown.

Letters: n rows, L columns, P rows that are shown, the query included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_msa.alphabet import Ids
from mdlm_msa.scoring.residues import LN2
from mdlm_msa.scoring.rows import Target, score_rows

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
    support: Sequence[Ids] | None = None,
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
        support: for each row ``(M, L)`` further rows, which the profile alone sees.
        ids: for each row what keys its masks.
        draws: masks of a row.
        noise: the generator of this measurement.
        at_once: canvases in one evaluation; changes nothing else.
        windows: the columns of each canvas. What a window has from the one before is
            given, so that the costs of windows add up.
        schedule: the one of training.
    """
    nats, variance = np.zeros(len(rows)), np.zeros(len(rows))
    count = np.zeros(len(rows), np.int64)
    further = [rows[:0]] * len(rows) if support is None else support
    for number, window in enumerate(windows):
        part = slice(window.start, window.stop)
        found = score_rows(
            backbone,
            [
                Target(row[part], given[:, part], more[:, part] if len(more) else None)
                for row, given, more in zip(rows, shown, further, strict=True)
            ],
            draws=draws,
            noise=noise.child("window", number),
            batch=at_once,
            ids=ids,
            known=window.known,
            schedule=schedule,
        )
        nats += found.nats
        variance += (found.se * LN2) ** 2
        count += found.count
    return Cost(nats, np.sqrt(variance), count)
