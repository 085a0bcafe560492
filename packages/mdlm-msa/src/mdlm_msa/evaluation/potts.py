"""A Potts model: single columns and pairs of columns, over 21 symbols.

``p(x) = exp(sum_i h_i(x_i) + sum_{i < j} J_ij(x_i, x_j)) / Z``. Letters: R rows, L
columns, S = 21 symbols, the last of them the gap, C chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import GAP_STATE, STATES, Ids
from mdlm_msa.laws import Array


@dataclass(frozen=True, slots=True)
class RowCost:
    """What a Potts model needs for rows, given where their gaps are."""

    nats: Array
    """``(R,)`` float64: an estimate of -log p, from below (see `Potts.nats`)."""
    se: Array
    """``(R,)`` float64: its standard error from the chains."""
    residues: Array
    """``(R,)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Potts:
    """The parameters; couplings are symmetric, and zero of a column with itself."""

    fields: Array
    """h ``(L, S)``."""
    couplings: NDArray[np.floating[Any]]
    """J ``(L, S, L, S)``, float32 or float64."""

    def energies(self, states: Ids) -> Array:
        """Return the log of the weight of each row ``(R,)``: -E, not normalised.

        Args:
            states: ``(R, L)``; a letter that is no symbol counts as a gap.
        """
        kept = torch.from_numpy(np.minimum(states, GAP_STATE).astype(np.int64))
        logits = self._logits(kept)  # (R, L, S)
        h = torch.from_numpy(self.fields)
        own = logits.gather(2, kept[..., None])[..., 0]
        single = h.gather(1, kept.T).T
        return ((own - single).sum(1) / 2 + single.sum(1)).numpy()

    def conditionals(self, states: Ids) -> Array:
        """Return log p(a | all other columns), ``(R, L, S)``."""
        kept = torch.from_numpy(np.minimum(states, GAP_STATE).astype(np.int64))
        return self._logits(kept).log_softmax(-1).numpy()

    def sample(
        self, count: int, noise: Noise, *, sweeps: int = 100, start: Ids | None = None
    ) -> Ids:
        """Draw rows by Gibbs sampling, each a chain of its own: ``(count, L)``.

        Args:
            count: of rows.
            noise: decides every draw.
            sweeps: passes over all columns.
            start: ``(count, L)`` states to begin with; by the fields alone if not
                given.
        """
        generator = _generator(noise)
        columns = len(self.fields)
        h = torch.from_numpy(self.fields)
        if start is None:
            x = _choose(h.expand(count, columns, STATES).log_softmax(-1), generator)
        else:
            x = torch.from_numpy(np.minimum(start, GAP_STATE).astype(np.int64))
        free = torch.ones(count, columns, dtype=torch.bool)
        for _ in range(sweeps):
            self._sweep(x, free, h, 1.0, generator)
        return x.numpy().astype(np.uint8)

    def nats(
        self,
        states: Ids,
        *,
        noise: Noise,
        chains: int = 16,
        steps: int = 200,
        start: Array | None = None,
    ) -> RowCost:
        """Estimate -log p of the residues of each row, given its gaps.

        The sum over all residues where the row has residues is estimated by annealed
        importance sampling (Neal, 2001), from independent columns to the model in
        `steps` sweeps. Its expectation is right, so that by Jensen's inequality the
        log of it is too low on average, and the cost with it: the model is never shown
        worse than it is, but for chance. A letter that is no symbol counts as a gap.

        Args:
            states: ``(R, L)``.
            noise: decides every draw.
            chains: of each row.
            steps: sweeps of each chain.
            start: ``(L, 20)`` the law of independent columns; that of the fields if not
                given.
        """
        kept = torch.from_numpy(np.minimum(states, GAP_STATE).astype(np.int64))
        residue = kept < GAP_STATE
        h = torch.from_numpy(self.fields)
        law = h[:, :GAP_STATE].softmax(-1) if start is None else torch.from_numpy(start)
        first = F.pad(law.log(), (0, 1), value=-torch.inf)  # (L, S)
        generator = _generator(noise)
        rows = len(kept)
        free = residue.repeat_interleave(chains, 0)
        x = kept.repeat_interleave(chains, 0)
        drawn = _choose(first.expand(len(x), -1, -1), generator)
        x = torch.where(free, drawn, x)
        log_weight = torch.zeros(len(x), dtype=torch.float64)
        for step in range(1, steps + 1):
            log_weight += self._slope(x, free, first) / steps
            if step < steps:
                self._sweep(x, free, h, step / steps, generator, first)
        log_weight = log_weight.view(rows, chains)
        log_sum = log_weight.logsumexp(1) - np.log(chains)
        share = log_weight.softmax(1)
        spread = (share.square().sum(1) - 1 / chains).clamp(min=0).sqrt()
        cost = log_sum - torch.from_numpy(self.energies(states))
        return RowCost(
            nats=cost.numpy(),
            se=spread.numpy(),
            residues=residue.sum(1).double().numpy(),
        )

    def _table(self, i: int) -> Tensor:
        """Return ``(L S, S)``: J of column i with every symbol elsewhere."""
        j = torch.from_numpy(self.couplings[i])  # (S, L, S)
        return j.permute(1, 2, 0).reshape(-1, STATES).double()

    def _logits(self, x: Tensor) -> Tensor:
        """Return ``(R, L, S)``: what each symbol would add, the others as they are."""
        columns = len(self.fields)
        place = x + STATES * torch.arange(columns)
        found = torch.empty(len(x), columns, STATES, dtype=torch.float64)
        for i in range(columns):
            found[:, i] = F.embedding_bag(place, self._table(i), mode="sum")
        return found + torch.from_numpy(self.fields)

    def _slope(self, x: Tensor, free: Tensor, first: Tensor) -> Tensor:
        """Return log of (model / start) of each chain, up to constants in neither."""
        energy = torch.from_numpy(self.energies(x.numpy().astype(np.uint8)))
        own = first.gather(1, x.T).T
        return energy - torch.where(free, own, 0.0).sum(1)

    def _sweep(
        self,
        x: Tensor,
        free: Tensor,
        h: Tensor,
        share: float,
        generator: torch.Generator,
        first: Tensor | None = None,
    ) -> None:
        """Draw each free column in turn, in place, between `first` and the model."""
        columns = len(h)
        offsets = STATES * torch.arange(columns)
        for i in range(columns):
            rows = free[:, i].nonzero()[:, 0]
            if not len(rows):
                continue
            table = self._table(i)
            logits = F.embedding_bag(x[rows] + offsets, table, mode="sum") + h[i]
            if first is not None:
                logits = share * logits + (1 - share) * first[i]
            x[rows, i] = _choose(logits.log_softmax(-1), generator)


def _generator(noise: Noise) -> torch.Generator:
    return torch.Generator().manual_seed(noise.integer())


def _choose(log_law: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from laws over the last axis, by the inverse of the distribution."""
    mass = log_law.exp().cumsum(-1)
    u = torch.rand(mass.shape[:-1], generator=generator, dtype=torch.float64)
    return (mass < (u * mass[..., -1])[..., None]).sum(-1).clamp(max=STATES - 1)
