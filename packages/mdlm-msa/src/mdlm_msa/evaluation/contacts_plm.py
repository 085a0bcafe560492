"""Couplings by pseudo-likelihood: the fit of a Potts model (plmDCA).

``min over h, J of -sum_s w_s sum_i log p(x_si | x_s,-i) + l_h |h|^2 + l_J |J|^2`` with
``p(a | x_-i)`` proportional to ``exp(h_i(a) + sum_j J_ij(a, x_j))`` and one J_ij for
both columns (Ekeberg et al., 2013, "Improved contact prediction in proteins", eq. 9;
Balakrishnan et al., 2011). Letters: R rows, L columns, S = 21 symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdlm_core.errors import ConfigError, DataError
from mdlm_msa.alphabet import GAP_STATE, STATES, Ids
from mdlm_msa.laws import Array
from mdlm_msa.weights import sequence_weights

from .potts import Potts
from .profile import frequencies

FIELDS = 0.01
COUPLINGS = 0.01
"""The two regularisations; that of couplings is multiplied by L - 1."""
CHUNK = 10
"""Steps between two looks at how far the fit is."""
EXACT = 1300
"""L S up to which the fit is done in float64."""


class PseudoLikelihood:
    """The objective and its gradient, for one set of rows."""

    def __init__(
        self,
        states: Ids,
        weights: Array,
        *,
        fields: float,
        couplings: float,
        dtype: torch.dtype,
    ) -> None:
        rows, self.columns = states.shape
        self.states = torch.from_numpy(states.astype(np.int64))
        self.weights = torch.from_numpy(np.asarray(weights, np.float64)).to(dtype)
        hot = torch.zeros(rows, self.columns, STATES, dtype=dtype)
        hot.scatter_(2, self.states[..., None], 1)
        self.hot = hot.reshape(rows, -1)
        blocks = torch.arange(self.columns * STATES) // STATES
        self.other = (blocks[:, None] != blocks[None]).to(dtype)
        self.fields, self.couplings = fields, couplings

    def __call__(self, h: Tensor, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, and its gradients by h ``(LS,)`` and J ``(LS, LS)``.

        J is symmetric with zero blocks on its diagonal, and so is its gradient, which
        is that of a step that keeps it so; |J|^2 counts each pair of columns once.
        """
        logits = (self.hot @ j + h).view(len(self.hot), self.columns, STATES)
        law = logits.log_softmax(-1)
        chosen = law.gather(2, self.states[..., None])[..., 0].sum(1)
        loss = -(chosen.double() * self.weights).sum()
        loss = loss + self.fields * h.double().square().sum()
        loss = loss + 0.5 * self.couplings * j.double().square().sum()
        miss = law.exp().reshape(len(self.hot), -1) - self.hot
        miss *= self.weights[:, None]
        dh = miss.sum(0) + 2 * self.fields * h
        dj = self.hot.T @ miss
        dj = (dj + dj.T + 2 * self.couplings * j) * self.other / 2
        return loss, dh, dj


def fit(
    states: Ids,
    weights: Array | None = None,
    *,
    fields: float = FIELDS,
    couplings: float = COUPLINGS,
    steps: int = 40,
    tolerance: float = 1e-3,
    progress: Callable[[int, int], None] | None = None,
) -> Potts:
    """Fit a Potts model to rows by pseudo-likelihood, with L-BFGS.

    Starts from independent columns. In float64 up to 61 columns, and in float32
    above, where the matrix of couplings is large.

    Args:
        states: ``(R, L)``; a letter that is no symbol counts as a gap.
        weights: ``(R,)``; those of `sequence_weights` if not given.
        fields: l_h.
        couplings: l_J / (L - 1).
        steps: of L-BFGS, at most.
        tolerance: stop when ten steps lower the objective by less than this share.
        progress: called with (step, steps).

    Raises:
        DataError: if there is no row, or one column.
        ConfigError: if a regularisation is negative.
    """
    if fields < 0 or couplings < 0:
        raise ConfigError(
            f"fields is {fields} and couplings is {couplings}; neither may be negative"
        )
    rows, columns = states.shape
    if not rows or columns < 2:
        raise DataError(
            f"a Potts model needs rows and at least two columns; there are {rows} rows "
            f"and {columns} columns"
        )
    kept = np.minimum(states, GAP_STATE)
    mass = sequence_weights(states) if weights is None else weights
    dtype = torch.float64 if columns * STATES <= EXACT else torch.float32
    objective = PseudoLikelihood(
        kept, mass, fields=fields, couplings=couplings * (columns - 1), dtype=dtype
    )
    start = np.log(frequencies(kept, mass)).ravel()
    h = torch.from_numpy(start).to(dtype).requires_grad_()
    j = torch.zeros(columns * STATES, columns * STATES, dtype=dtype).requires_grad_()
    descent = torch.optim.LBFGS(
        [h, j], max_iter=CHUNK, history_size=6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        with torch.no_grad():
            loss, h.grad, j.grad = objective(h, j)
        return loss

    before = float("inf")
    for step in range(0, steps, CHUNK):
        start_loss: Any = descent.step(closure)  # type: ignore[no-untyped-call]
        loss = float(start_loss)  # before these steps
        if progress is not None:
            progress(min(step + CHUNK, steps), steps)
        if before - loss < tolerance * abs(loss):
            break
        before = loss
    shape = (columns, STATES, columns, STATES)
    return Potts(
        fields=h.detach().double().numpy().reshape(columns, STATES),
        couplings=j.detach().numpy().reshape(shape),
    )
