"""Which rows of the input the model may be shown, and which of them it is.

Letters: R rows of the input, L columns.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.clusters import clusters
from mdlm_msa.config import GenerationConfig
from mdlm_msa.gaps import coverage
from mdlm_msa.selection import select_rows
from mdlm_msa.weights import sequence_weights

Places = NDArray[np.int64]
_SLACK = 1e-9  # shares such as 0.9 are not exact in binary


class Prompts:
    """The rows that may be shown besides the query.

    Rows without a residue, repetitions of the query, and rows that cover less than
    ``config.min_coverage`` of the columns never are: in training the model saw none.

    Args:
        source: canonical, the query first.
        config: `min_coverage` and `select` are read.
    """

    def __init__(self, source: Alignment, config: GenerationConfig) -> None:
        self.source = source
        self.config = config
        short = coverage(source.states) < config.min_coverage - _SLACK
        free = np.ones(source.depth, bool)
        free[0] = False
        self.left_out: dict[str, int] = {}
        """Why rows are never shown, and how many."""
        for why, which in {
            "no residue": np.logical_not(source.is_residue.any(1)),
            "the same as the query": (source.rows == source.rows[0]).all(1),
            f"coverage below {config.min_coverage:g}": short,
        }.items():
            if count := int((which & free).sum()):
                self.left_out[why] = count
            free &= ~which
        self.places: Places = free.nonzero()[0].astype(np.int64)
        """``(count,)``: the rows that may be shown."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def note(self) -> str:
        """What was left out, in words; empty if nothing was."""
        if not self.left_out:
            return ""
        why = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        some = f"{sum(self.left_out.values())} of {self.source.depth - 1}"
        return f"{some} rows of the input are never shown to the model: {why}"

    def choose(
        self, count: int, noise: Noise, *, among: Places | None = None
    ) -> Places:
        """Return the numbers of `count` rows, or of all if there are fewer.

        Args:
            count: how many.
            noise: decides what is drawn.
            among: only rows that are among these.
        """
        pool = self.places if among is None else np.intersect1d(self.places, among)
        how = self.config.select
        return select_rows(
            self.source,
            count,
            how,
            noise,
            among=pool,
            weights=self._weights if how == "weighted" else None,
            labels=self._labels if how == "cluster" else None,
        )

    def further(self, shown: Places, noise: Noise) -> Places:
        """Return rows that the profile alone sees: `config.support` of the others."""
        rest = np.setdiff1d(self.places, shown)
        count = min(self.config.support, len(rest))
        rng = np.random.default_rng(noise.integer())
        chosen: Places = rng.choice(rest, count, replace=False)
        return np.sort(chosen)

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return sequence_weights(self.source.states)

    @cached_property
    def _labels(self) -> Places:
        return clusters(self.source.states)
