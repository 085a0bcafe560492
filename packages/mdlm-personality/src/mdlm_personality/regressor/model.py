"""A Gaussian law of the five traits given a noised text: p(y | z_t).

A trunk reads the canvas, its states are averaged over the positions that are there, and
a layer gives mean and log standard deviation of each trait. The traits are independent
given the text, and standardised by mean and spread over the training data. What a model
may be told of the persona is taken away from the canvas first: it has to be read from
the text.

Letters: B rows, L length, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted, Draw, Loss, corrupt_for_training
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.protocols import Schedule
from mdlm_personality.conditions import KNOWN, VALUES
from mdlm_personality.traits import TRAITS

if TYPE_CHECKING:
    from mdlm_core.nn.dit import DiT

_SPREAD = 3.0
"""The log standard deviation stays between minus this and this."""


class TraitLaw(NamedTuple):
    """Independent normal laws of the traits in [0, 1]; each ``(B, 5)`` float32."""

    mean: Tensor
    sd: Tensor

    def log_prob(self, values: Tensor, known: Tensor | None = None) -> Tensor:
        """Return ``(B,)``: the log density of the known traits.

        Args:
            values: ``(B, 5)`` or ``(1, 5)``.
            known: bool, of the same shape; all, if not given.
        """
        z = (values - self.mean) / self.sd
        each = -0.5 * z.square() - self.sd.log() - 0.5 * math.log(2 * math.pi)
        if known is not None:
            each = torch.where(known, each, torch.zeros_like(each))
        return each.sum(-1)


class TraitRegressor(nn.Module):
    """A trunk with a head for the traits, and its loss on noised rows.

    Attributes:
        mean: ``(5,)`` float32, of each trait over the training data.
        std: ``(5,)`` float32, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, *, schedule: Schedule, t_min: float = 1e-3
    ) -> None:
        """Put a new head on a trunk, whose own head is not used and not trained.

        Args:
            backbone: a `DiT` or what has its `embedded`, `trunk` and width.
            schedule: how much is hidden at each time.
            t_min: the smallest time.

        Raises:
            ConfigError: if the model cannot be asked for its states from vectors, or
                is told a persona.
        """
        super().__init__()
        if not hasattr(backbone, "trunk") or not hasattr(backbone, "embedded"):
            raise ConfigError(
                f"a trait regressor reads the vectors of the tokens, which "
                f"{type(backbone).__name__} does not show; set model.name=dit"
            )
        if hasattr(backbone, "persona"):
            raise ConfigError(
                f"a trait regressor has to read the traits from the text, and "
                f"{type(backbone).__name__} is told them; set model.name=dit"
            )
        self.backbone = backbone
        self.schedule = schedule
        self.t_min = t_min
        trunk = cast("DiT", backbone)
        trunk.head.requires_grad_(False)
        self.head = nn.Linear(trunk.config.width, 2 * len(TRAITS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.full((len(TRAITS),), 0.5))
        self.register_buffer("std", torch.full((len(TRAITS),), 12**-0.5))

    @property
    def trunk(self) -> DiT:
        """The backbone."""
        return cast("DiT", self.backbone)

    def law(
        self, batch: Batch, t: Tensor | None = None, *, vectors: Tensor | None = None
    ) -> TraitLaw:
        """Return the law of the traits of each row.

        Args:
            batch: a canvas; its condition is not read.
            t: ``(B,)``, read only if the trunk is conditioned on time.
            vectors: ``(B, L, D)`` instead of those of the tokens, for gradients.
        """
        blind = replace(batch, condition={})
        if vectors is None:
            vectors = self.trunk.embedded(blind)
        time = t.float() if t is not None and self.trunk.time_conditioned else None
        states = self.trunk.trunk(vectors, blind, time)
        there = (~batch.pad)[..., None].to(states)
        pooled = (states * there).sum(1) / there.sum(1).clamp(min=1)
        with torch.autocast(states.device.type, enabled=False):
            mean, raw = self.head(pooled.to(self.head.weight.dtype)).chunk(2, dim=-1)
            log_sd = _SPREAD * torch.tanh(raw / _SPREAD)
            return TraitLaw(self.mean + self.std * mean, self.std * log_sd.exp())

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return -log p of the known traits given noised rows, summed.

        The densities are those of the standardised traits, so that the loss does not
        depend on the units. `nll` and `masked` say one number for each row that counts,
        at its first free token.
        """
        noised = corrupt_for_training(
            batch,
            schedule=self.schedule,
            draw=draw,
            t_min=self.t_min,
            mask_id=self.trunk.mask_id,
        )
        return self.loss(batch, noised)

    def loss(self, batch: Batch, noised: Corrupted) -> Loss:
        """Return the loss of the clean rows `batch` as they are noised; see above."""
        values, known = self.targets(batch)
        nll = self.nll(self.law(noised.batch, noised.t), values, known)
        rows = known.any(1)
        first = batch.free & (batch.free.cumsum(1) == 1) & rows[:, None]
        return Loss(
            total=nll.sum(),
            count=known.sum(),
            nll=nll.detach()[rows],
            masked=first,
        )

    def nll(self, law: TraitLaw, values: Tensor, known: Tensor) -> Tensor:
        """Return ``(B,)``: -log p of the known standardised traits."""
        units = (known * self.std.log()).sum(1)
        return -law.log_prob(values, known) - units

    def count(self, batch: Batch) -> Tensor:
        """Return how many traits are known: what the loss is divided by."""
        return self.targets(batch)[1].sum()

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the traits ``(B, 5)`` and which are known, none of rows without text.

        Raises:
            UsageError: if the rows have no traits.
        """
        values, known = traits_of(batch.condition)
        return values, known & batch.free.any(1)[:, None]


def traits_of(condition: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the traits ``(B, 5)`` of a condition, and which of them are known.

    Raises:
        UsageError: if there are none.
    """
    if VALUES not in condition or KNOWN not in condition:
        raise UsageError(
            "the rows have no traits; a trait regressor needs data with traits, such "
            "as data.name=persona-corpus or persona-text"
        )
    count = len(TRAITS)
    known = condition[KNOWN][:, :count].bool()
    values = condition[VALUES][:, :count]
    return torch.where(known, values, torch.zeros_like(values)), known
