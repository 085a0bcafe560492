"""Which stage a step of training belongs to, and what each stage minimises.

Stage 1 learns the encoder from the traits, stage 2 the causal layer from what is
observed, stage 3 the diffusion. In a run of all stages they follow each other, so that
a run that was stopped goes on in the stage where it was.

Letters: B batch, K observed columns, n nodes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise

from .causal import losses, posterior
from .config import PersonalityConfig
from .config.model import Structure
from .persona import Persona
from .traits import TRAITS

REFIT = 0.8
"""The share of stage 2 in which edges are looked for; then those found are fitted."""


class Stage(NamedTuple):
    """Where training is."""

    number: int
    progress: float
    """The share of the stage that is done, in [0, 1)."""


def stage_at(
    step: int, steps: int, config: PersonalityConfig, persona: Persona
) -> Stage:
    """Return the stage of `step`, the first being 0, in a run of `steps`."""
    if config.stage != "all":
        return Stage(config.stage, step / steps)
    encoder = round(config.encoder_share * steps) if persona.encoder is not None else 0
    causal = round(config.causal_share * steps) if learnable(persona) else 0
    if step < encoder:
        return Stage(1, step / encoder)
    if step < encoder + causal:
        return Stage(2, (step - encoder) / causal)
    begun = encoder + causal
    return Stage(3, (step - begun) / (steps - begun))


def learnable(persona: Persona) -> bool:
    """Return whether a column depends on anything, so that stage 2 has data."""
    allowed = persona.layer.support[:, persona.column_nodes]
    return bool(allowed.any())


def check_stage(config: PersonalityConfig, persona: Persona) -> None:
    """Refuse a stage in which nothing would be learned.

    Raises:
        ConfigError: if there is no such thing to learn.
    """
    if config.stage == 1 and persona.encoder is None:
        raise ConfigError(
            "task.stage is 1, which learns the encoder, and model.encoder=identity has "
            "no weights; set model.encoder=beta-vae, or go on with task.stage=2 or 3"
        )
    if config.stage == 2 and not learnable(persona):
        raise ConfigError(
            "task.stage is 2, which learns the causal layer from what is observed, but "
            "no observed column may depend on another: give data.labels, such as "
            '{"wellness": "beliefs"}, or set model.structure=dagma'
        )


def encoder_loss(
    persona: Persona,
    values: Tensor,
    known: Tensor,
    *,
    noise: Noise,
    rows: Tensor,
    progress: float,
) -> Tensor:
    """Return the loss of the encoder for each row, ``(B,)``, in nats.

    Args:
        persona: with an encoder.
        values: ``(B, K)`` in the units of the user.
        known: ``(B, K)`` bool.
        noise: draws the latents.
        rows: ``(B,)`` int64, the numbers of the rows, for `noise`.
        progress: of the stage.
    """
    assert persona.encoder is not None
    held, where = persona.held(values, known)
    count = len(TRAITS)
    u = noise.uniform(rows, persona.encoder.latents)
    loss = persona.encoder.loss(held[:, :count], where[:, :count], u, progress=progress)
    return loss.total


def causal_loss(
    persona: Persona,
    values: Tensor,
    known: Tensor,
    *,
    structure: Structure,
    sparsity: float,
    progress: float,
) -> Tensor:
    """Return -log p of what is observed for each row, ``(B,)``, and what search adds.

    With linear equations, columns that are not known are integrated out. Otherwise, and
    while edges are searched for, they count as what their parents make of them.

    While dagma or notears look for edges, the penalty of cycles and the absolute values
    of the edges between columns are added. Edges to nodes that nobody observes have no
    data, and nothing pulls at them.
    """
    held, where = persona.held(values, known)
    eps = persona.exogenous(held, where).detach()  # the encoder has its own loss
    if posterior.exact(persona.layer):
        loss = posterior.marginal_nll(
            persona.layer, persona.column_nodes, eps, held, where
        )
    else:
        z = persona.layer.solve(eps, held=held, where=where)
        loss = losses.structural_nll(persona.layer, z, where)
    if structure in ("dagma", "notears") and progress < REFIT:
        edges = persona.layer.adjacency()[:, persona.column_nodes].abs().sum()
        loss = loss + sparsity * edges
        loss = loss + losses.penalty(persona.layer, structure, progress / REFIT)
    return loss


@torch.no_grad()
def active_units(persona: Persona, values: Tensor, known: Tensor) -> int:
    """Return how many latents of the encoder say something about the rows."""
    assert persona.encoder is not None
    held, where = persona.held(values, known)
    count = len(TRAITS)
    return persona.encoder.active_units(held[:, :count], where[:, :count])
