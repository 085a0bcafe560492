"""A denoiser that is told a persona, with all that decides its training loss.

Letters: B batch, K observed columns (the five traits, then labels).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import MaskingPolicy, Schedule
from mdlm_core.tasks.pretrain import MaskedDiffusion

from . import stages
from .causal import losses
from .conditions import KNOWN, PERSONA, VALUES
from .config import PersonalityConfig
from .config.model import Structure
from .nn.personality_dit import PersonalityDiT
from .persona import Persona
from .stages import Stage


class CausalDiffusion(MaskedDiffusion):
    """A denoiser that is told a persona, with all that decides its training loss."""

    settled: Tensor
    learns_in_parts = True
    """Not every weight gets a gradient in every stage."""

    def __init__(
        self,
        backbone: PersonalityDiT,
        config: PersonalityConfig,
        *,
        structure: Structure,
        schedule: Schedule,
        policy: MaskingPolicy,
    ) -> None:
        super().__init__(
            backbone,
            schedule=schedule,
            policy=policy,
            t_sampling=config.t_sampling,
            t_min=config.t_min,
        )
        self.config = config
        self.structure = structure
        self.stage = Stage(3 if config.stage == "all" else config.stage, 0.0)
        searching = structure in ("dagma", "notears")
        self.register_buffer("settled", torch.tensor(not searching))

    @property
    def persona(self) -> Persona:
        """The encoder and the causal layer."""
        return cast("PersonalityDiT", self.backbone).persona

    def parameter_groups(self, config: object) -> list[dict[str, Any]]:
        """Return what learns at a rate of its own: the encoder and the causal layer."""
        return [
            {
                "params": list(self.persona.parameters()),
                "lr_factor": self.config.persona_lr,
                "weight_decay": 0.0,
            }
        ]

    def advance(self, step: int, steps: int) -> None:
        """Go to the stage of `step`; called before every step."""
        super().advance(step, steps)
        self.stage = stages.stage_at(step, steps, self.config, self.persona)
        done = self.stage.number == 2 and self.stage.progress >= stages.REFIT
        if (done or self.stage.number == 3) and not bool(self.settled):
            say(losses.settle(self.persona.layer).describe(self.persona.node_names))
            self.settled.fill_(True)

    def count(self, batch: Batch) -> Tensor:
        """Return what the loss is divided by: free tokens, or rows before stage 3."""
        if self.stage.number == 3:
            return batch.free.sum()
        return torch.tensor(len(batch), device=batch.tokens.device)

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the training loss of `batch` in the present stage.

        In stage 3, unless the persona is frozen, encoder and causal layer go on
        learning from what is observed: the loss is -log p of text and columns together.
        """
        noise = draw.noise.child("persona", draw.step)
        told = VALUES in batch.condition and KNOWN in batch.condition
        if self.stage.number < 3:
            if not told:
                raise ConfigError(
                    f"stage {self.stage.number} learns from traits, and the data has "
                    f"none; use data.name=persona-text or persona-corpus"
                )
            rows = self._persona_loss(batch, noise, draw.rows, self.stage)
            nothing = torch.zeros_like(batch.free)
            return Loss(
                total=rows.sum(),
                count=self.count(batch),
                nll=torch.zeros(0, device=rows.device),
                masked=nothing,
            )
        if not told:
            return super().forward(batch, draw)
        shown_batch = replace(batch, condition=self._shown(batch, noise, draw.rows))
        loss = super().forward(shown_batch, draw)
        if self.config.freeze:
            return loss
        rows = self._persona_loss(batch, noise, draw.rows, Stage(3, 1.0))
        return replace(
            loss, total=loss.total + rows.sum(), extra={"columns": rows.detach().mean()}
        )

    def _persona_loss(
        self, batch: Batch, noise: Noise, rows: Tensor, stage: Stage
    ) -> Tensor:
        """Return ``(B,)``: the loss of the encoder, of the causal layer, or of both."""
        values, known = batch.condition[VALUES], batch.condition[KNOWN]
        total = values.new_zeros(len(values))
        with torch.autocast(values.device.type, enabled=False):
            if stage.number in (1, 3) and self.persona.encoder is not None:
                total = total + stages.encoder_loss(
                    self.persona,
                    values,
                    self._kept(known, noise, rows),
                    noise=noise.child("latents"),
                    rows=rows,
                    progress=stage.progress,
                )
            if stage.number in (2, 3) and stages.learnable(self.persona):
                total = total + stages.causal_loss(
                    self.persona,
                    values,
                    known,
                    structure=self.structure,
                    sparsity=self.config.sparsity,
                    progress=stage.progress,
                )
        return total

    def _shown(self, batch: Batch, noise: Noise, rows: Tensor) -> dict[str, Tensor]:
        """Return the condition with some of what is known hidden; see `_kept`."""
        values, known = batch.condition[VALUES], batch.condition[KNOWN]
        known = self._kept(known, noise, rows)
        condition = {**batch.condition, KNOWN: known}
        if self.config.freeze:
            with torch.no_grad():
                condition[PERSONA] = self.persona.complete(values, known)
        return condition

    def _kept(self, known: Tensor, noise: Noise, rows: Tensor) -> Tensor:
        """Return ``(B, K)`` bool: what of `known` a step shows.

        A share of the rows loses all, which makes the null; of another share each
        column stays with a chance that is uniform in (0, 1) over the rows. The encoder
        learns from the same, so that it knows what to say of a part.
        """
        u = noise.child("dropout").uniform(rows.to(known.device), known.shape[1] + 2)
        none = u[:, :1] < self.config.condition_dropout
        some = u[:, :1] < self.config.condition_dropout + self.config.trait_dropout
        return known & ~none & (~some | (u[:, 2:] < u[:, 1:2]))


def say(text: str) -> None:
    """Print a line beside the results."""
    print(text, file=sys.stderr)  # noqa: T201
