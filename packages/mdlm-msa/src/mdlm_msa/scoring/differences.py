"""The bound of a query minus that of its variants, with little variance.

The bound is a sum over positions j of the mean over random orders of -log p(x_j | what
comes before j). At a position that a variant changes, hidden sets M that hold j are
drawn, with |M| uniform in 1 to n: each weighs 1, not n / |M| for those that happen to
hold j. If M hides all changes, variant and query are one canvas there, and all variants
of that position share it. At the other positions, where only what is visible differs,

    n E_k E_{|M| = k} (1 / k) sum over unchanged j in M of  log p(x_j | variant) - log
    p(x_j | query),

which is zero if M hides all changes. Both have the expectation of the difference of two
`score_rows`, under common masks.

Letters: L columns, n residues of the query, N evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.diffusion.corrupt import count_at
from mdlm_core.diffusion.draws import measuring
from mdlm_core.diffusion.times import time_at
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.text import device_of
from mdlm_msa import layout
from mdlm_msa.alphabet import MASK, STATE_OF, STATES, WRITTEN, Ids

from .residues import LN2
from .rows import Floats
from .variants import Variant


def differences(
    backbone: Backbone,
    query: Ids,
    variants: Sequence[Variant],
    given: Ids,
    *,
    draws: int,
    noise: Noise,
    batch: int = 8,
    schedule: Schedule | None = None,
    done: Callable[[int], object] = lambda scored: None,
) -> Floats:
    """Return ``(variants, draws)`` bits by which variants are more probable.

    Args:
        backbone: the denoiser.
        query: ``(L,)``.
        variants: of it.
        given: ``(g, L)`` the shown rows.
        draws: of hidden sets, the same for all variants, stratified by their size.
        noise: the generator of this measurement.
        batch: canvases that go through the model together.
        schedule: the one of training, for a backbone that sees the time.
        done: told how many variants more are done in a draw, after each batch; in all
            variants times draws.
    """
    model = _Model(backbone, query, given, batch, schedule)
    rows = [variant.applied(query) for variant in variants]
    values = np.zeros((len(variants), draws))
    one = torch.zeros(1, dtype=torch.int64)
    for draw in range(draws):
        keys = noise.child("mask", draw).uniform(one, len(query))[0].numpy()
        jitter = float(noise.child("time", draw).uniform(one, 1))
        share = torch.tensor([(draw + jitter) / draws], dtype=torch.float64)
        k = int(count_at(share, torch.tensor([model.count]))[0])
        order = model.columns[np.argsort(keys[model.columns])]
        wanted = _Wanted(k)
        plain = wanted.add(query, order[:k])
        plans = []
        for row, variant in zip(rows, variants, strict=True):
            changes = []
            for column in variant.columns:
                around = [column, *order[order != column][: k - 1]]
                ours = wanted.add(row, around, column)
                changes.append((column, ours, wanted.add(query, around, column)))
            plans.append((changes, wanted.add(row, order[:k])))
        logs, laws = model.evaluate(wanted, _steps(len(rows), done))
        for index, (changes, elsewhere) in enumerate(plans):
            gain = 0.0
            other = logs[elsewhere] - logs[plain]
            for column, ours, theirs in changes:
                new, old = STATE_OF[rows[index][column]], STATE_OF[query[column]]
                gain += laws[ours][new] - laws[theirs][old]
                other[column] = 0
            values[index, draw] = (gain + model.count / k * other.sum()) / LN2
    return values


def _steps(total: int, done: Callable[[int], object]) -> Callable[[float], object]:
    """Return what is told a share in [0, 1], and tells `done` what came of `total`."""
    before = 0

    def told(share: float) -> None:
        nonlocal before
        now = round(share * total)
        done(now - before)
        before = now

    return told


class _Wanted:
    """Rows with masks that are to be evaluated, each of them once."""

    def __init__(self, hidden: int) -> None:
        self.hidden = hidden
        self.rows: list[Ids] = []
        self.focus: list[int] = []
        self._seen: dict[tuple[bytes, int], int] = {}

    def add(self, row: Ids, hidden: Sequence[int] | np.ndarray, focus: int = -1) -> int:
        """Return the number of a row with `hidden` columns masked."""
        masked = row.copy()
        masked[list(hidden)] = MASK
        key = masked.tobytes(), focus
        if key not in self._seen:
            self._seen[key] = len(self.rows)
            self.rows.append(masked)
            self.focus.append(focus)
        return self._seen[key]


class _Model:
    """A backbone over one query and the rows shown before it."""

    def __init__(
        self,
        backbone: Backbone,
        query: Ids,
        given: Ids,
        batch: int,
        schedule: Schedule | None,
    ) -> None:
        self.backbone, self.query, self.given = backbone, query, given
        self.batch, self.schedule = batch, schedule
        state = STATE_OF[query]
        self.columns: NDArray[np.int64] = np.flatnonzero(state < STATES - 1)
        self.unknown = int((state == 255).sum())
        self.device = torch.device(device_of(backbone))

    @property
    def count(self) -> int:
        """The residues of the query, n."""
        return len(self.columns)

    def evaluate(
        self, wanted: _Wanted, told: Callable[[float], object]
    ) -> tuple[Floats, Floats]:
        """Return log p of the query's residue where hidden, and the law at the focus.

        ``(N, L)``, 0 where visible, and ``(N, 20)``; both in nats. `told` is told
        the share that is done after each batch.
        """
        share = (wanted.hidden + self.unknown) / (self.count + self.unknown)
        t = time_at(torch.tensor([share], dtype=torch.float64), self.schedule)
        logs = np.zeros((len(wanted.rows), len(self.query)))
        laws = np.zeros((len(wanted.rows), STATES - 1))
        start = layout.place(len(self.given), len(self.query))
        keep = list(WRITTEN[: STATES - 1])
        with measuring(self.backbone):
            for first in range(0, len(wanted.rows), self.batch):
                rows = wanted.rows[first : first + self.batch]
                canvases = layout.batch(
                    [
                        layout.Canvas(
                            np.concatenate([self.given, row[None]]), len(self.given)
                        )
                        for row in rows
                    ]
                ).to(self.device)
                with torch.autocast(self.device.type, enabled=False):
                    time = t.float().to(self.device).expand(len(rows))
                    states = self.backbone.hidden(canvases, time)
                    states = states[:, start : start + len(self.query)]
                    hidden = torch.from_numpy(np.stack(rows) == MASK)
                    hidden[:, STATE_OF[self.query] == 255] = False
                    logits = self.backbone.logits(states[hidden.to(self.device)])
                law = logits.float()[:, keep].double().log_softmax(-1).cpu().numpy()
                which, column = hidden.numpy().nonzero()
                residue = STATE_OF[self.query[column]]
                logs[first + which, column] = law[np.arange(len(law)), residue]
                focus = np.array(wanted.focus[first : first + self.batch])
                at = column == focus[which]
                laws[first + which[at]] = law[at]
                told((first + len(rows)) / len(wanted.rows))
        return logs, laws
