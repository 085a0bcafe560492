"""A diffusion transformer over an alignment: rows and columns are its two axes.

Every position attends to every other; queries and keys turn by the column with half of
their planes and by the row with the other half, so that only differences of columns
and of rows count. The head sees the states of the trunk and the log of a profile of
the visible rows (`profile`), to which a new model adds nothing: it is that profile.

Letters: B batch, L length, V vocabulary (mask included), D width, S = 21 states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.nn.dit import DiT, zero_
from mdlm_msa.alphabet import ID_OF_STATE, STATES, VOCAB_SIZE
from mdlm_msa.layout import SUPPORT

from .profile import Profile, start

if TYPE_CHECKING:
    from mdlm_msa.config import ProteinDiTConfig

NEVER = -30.0
"""Bias of ids that no row consists of, at the start."""


class ProteinDiT(DiT):
    """A `DiT` whose law of a token starts from the profile of its column."""

    config: ProteinDiTConfig

    def __init__(
        self, config: ProteinDiTConfig, *, vocab_size: int, mask_id: int, length: int
    ) -> None:
        """Draw new weights from torch's global generator; see `DiT`.

        Raises:
            ConfigError: if the vocabulary is not that of `alphabet`.
        """
        if vocab_size != VOCAB_SIZE:
            raise ConfigError(
                f"model.name=protein-dit has the {VOCAB_SIZE} ids of the alphabet of "
                f"proteins, and the data {vocab_size}; use data.name=msa"
            )
        super().__init__(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
        self.profile: Profile | None = None
        if config.profile:
            self.profile = Profile(config.pseudocount, config.kappa, config.columns)
            self.seen = nn.Linear(STATES + 1, config.width)
        self.head = _head(config)

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D + S)`` of the canvas, ``(B, L, D)`` if plain.

        Args:
            batch: see `DiT.hidden`; `positions` are ``(B, L, 2)``, column and row. A
                canvas without them is one row. ``condition["support"]`` ``(B, M, C)``
                are ids of further rows, which the profile alone sees.
            t: ``(B,)``, read only if the model is conditioned on time.
        """
        if self.profile is None:
            return super().hidden(batch, t)
        with torch.autocast(batch.tokens.device.type, enabled=False):
            laws = self.profile(
                batch.tokens,
                _two_axes(batch),
                batch.pad | (batch.tokens == self.mask_id),
                batch.documents,
                batch.condition.get(SUPPORT),
            )
            known = torch.cat([laws.log_prob.exp(), laws.depth.log1p()[..., None]], -1)
        states = self.trunk(self.embedded(batch) + self.seen(known), batch, t)
        return torch.cat([states, laws.log_prob.to(states.dtype)], -1)

    def set_columns(self, query: Tensor, laws: Tensor) -> None:
        """Start the priors of a family's columns, and how much they count.

        From then on the model takes no other query.

        Args:
            query: ``(C,)`` ids.
            laws: ``(C, S)`` positive frequencies in each column.

        Raises:
            UsageError: if this is no model of a family of C columns.
        """
        profile = self.profile
        law = None if profile is None else profile.column_law
        if profile is None or law is None or law.shape != laws.shape:
            raise UsageError(
                f"{len(laws)} columns were given to a model of "
                f"{self.config.columns}; set model.columns={len(laws)}"
            )
        with torch.no_grad():
            law.copy_(laws.log())
            profile.query.copy_(query)
            profile.begin(self.config.pseudocount, self.config.kappa)


def _two_axes(batch: Batch) -> Tensor:
    """Return ``(B, L, 2)`` column and row; a canvas without them is one row."""
    if batch.positions is not None and batch.positions.shape[-1] == 2:
        return batch.positions
    index = torch.arange(1, batch.length + 1, device=batch.tokens.device)
    column = index if batch.positions is None else batch.positions[..., 0]
    column = column.expand(len(batch), -1)
    return torch.stack([column, torch.zeros_like(column)], -1)


def _head(config: ProteinDiTConfig) -> nn.Linear:
    """Return the head of a new model: it passes on the profile, or the background."""
    head = zero_(nn.Linear(config.width + STATES * config.profile, VOCAB_SIZE))
    ids = torch.from_numpy(ID_OF_STATE).long()
    with torch.no_grad():
        head.bias.fill_(NEVER)
        if config.profile:
            head.bias[ids] = 0.0
            head.weight[ids, config.width + torch.arange(STATES)] = 1.0
        else:
            head.bias[ids] = start()[0].log()
    return head


def build(
    config: ProteinDiTConfig, *, vocab_size: int, mask_id: int, length: int
) -> ProteinDiT:
    """Return a new model, for the catalog."""
    return ProteinDiT(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
