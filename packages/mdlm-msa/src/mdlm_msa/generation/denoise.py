"""A denoiser that draws in each column what is allowed there, and nothing else.

Letters: B canvases, L length, V vocabulary, W columns of the alignment, N positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.protocols import Backbone
from mdlm_core.samplers import Denoiser
from mdlm_msa.alphabet import BANNED, X
from mdlm_msa.config import GenerationConfig


class ColumnDenoiser(Denoiser):
    """A `Denoiser` with a set of ids for each column; the law is renormalised over it.

    Args:
        backbone: the model.
        allowed: ``(W, V)`` bool; row 0 belongs to column 1.
        temperature: see `Denoiser`.
        top_k: see `Denoiser`.
        top_p: see `Denoiser`.
    """

    def __init__(
        self,
        backbone: Backbone,
        allowed: NDArray[np.bool_],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> None:
        banned = [i for i in BANNED if i != X or not bool(allowed[:, X].any())]
        super().__init__(
            backbone,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=banned,
        )
        self.allowed = torch.from_numpy(allowed)

    @classmethod
    def of(
        cls, backbone: Backbone, allowed: NDArray[np.bool_], config: GenerationConfig
    ) -> ColumnDenoiser:
        """Return the denoiser of a generation's settings."""
        return cls(
            backbone,
            allowed,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
        )

    def laws(
        self, canvas: Batch, where: Tensor, t: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the laws at the selected positions; see `Denoiser.laws`.

        Args:
            canvas: B canvases with 2-D positions, column and row.
            where: ``(B, L)`` bool with N positions chosen, all of them in columns.
            t: ``(B,)``, read only if the model is time-conditioned.
        """
        assert canvas.positions is not None
        column = canvas.positions[..., 0][where]  # (N,)
        allowed = self.allowed.to(column.device)
        start = 0
        for law in super().laws(canvas, where, t):
            mine = allowed[column[start : start + len(law)] - 1]
            start += len(law)
            yield law.masked_fill(~mine, -torch.inf).log_softmax(-1)
