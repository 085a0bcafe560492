"""`ProteinDiffusion` and the loss, with the original's arguments.

What the original says and what is done here differ where the original is wrong: its
loops draw all positions anew at every step and hide them again by chance, so that the
result is a product of marginals; its loss counts visible tokens, and is no bound. Here
sampling is the reverse process of MDLM (arXiv 2406.07524), and the loss is its bound.

Letters: B batch, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config.components import EpsConfig
from mdlm_core.config.schema import Component
from mdlm_core.diffusion.corrupt import corrupt_counts
from mdlm_core.diffusion.objective import masked_cross_entropy
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Sampler, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_msa.alphabet import BANNED, MASK, VOCAB_SIZE
from mdlm_msa.reversed_schedule import ReversedLogLinear, from_original

from .model import PADDED, as_batch


class LogLinearNoise:
    """The original's schedule: the share of hidden tokens at its t, clean at t = 1."""

    def __init__(self, eps: float = 1e-3) -> None:
        """Take the share that is hidden at the clean end."""
        self.eps = EpsConfig(eps=eps).eps
        self.schedule = ReversedLogLinear(eps)

    def __call__(self, t: Tensor) -> Tensor:
        """Return ``sigma(t) = 1 - (1 - eps) t``."""
        return self.schedule.mask_rate(from_original(t))


class ProteinDiffusion(nn.Module):
    """A backbone with the forward process, its posterior, and sampling."""

    def __init__(
        self,
        backbone: nn.Module,
        noise_schedule: LogLinearNoise | None = None,
        mask_token_id: int = MASK,
        parameterization: str = "subs",
    ) -> None:
        """Take a backbone of the alphabet's ids.

        Args:
            backbone: such as `ProteinDIT`.
            noise_schedule: None: that of MDLM. The original's is converted.
            mask_token_id: 36.
            parameterization: "subs"; there is no other.

        Raises:
            ConfigError: if the mask or the parameterisation is another one.
        """
        super().__init__()
        if mask_token_id != MASK:
            raise ConfigError(f"mask_token_id is {mask_token_id}; it must be {MASK}")
        if parameterization != "subs":
            raise ConfigError(
                f"parameterization is '{parameterization}'; there is one, 'subs'"
            )
        self.backbone = backbone
        self.mask_token_id = mask_token_id
        self.schedule: Schedule = (
            LogLinear(0.0) if noise_schedule is None else noise_schedule.schedule
        )

    def q_xt(
        self,
        x0: Tensor,
        move_chance: Tensor | float,
        context_mask: Tensor | None = None,
        *,
        seed: int = 0,
    ) -> Tensor:
        """Return `x0` ``(B, L)`` with each free token hidden by chance.

        Args:
            x0: tokens.
            move_chance: the chance to be hidden, for all or ``(B,)`` or ``(B, L)``.
            context_mask: ``(B, L)`` true where a token stays; separators, specials and
                padding always do.
            seed: decides which.
        """
        chance = torch.as_tensor(move_chance, dtype=torch.float64, device=x0.device)
        if chance.ndim == 1:
            chance = chance[:, None]
        batch = as_batch(x0, None, None, context_mask)
        keys = Noise(seed).child("mask").uniform(batch.sample_id, batch.length)
        return x0.masked_fill((keys < chance) & batch.free, self.mask_token_id)

    def forward(
        self,
        x0: Tensor,
        sigma: Tensor,
        position_ids: Tensor | None = None,
        block_position_ids: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        seed: int = 0,
    ) -> Tensor:
        """Hide tokens of `x0` and return log p(x_0 | x_t), ``(B, L, V)``.

        SUBS: the mask has probability 0, and a visible token is what it is.

        Args:
            x0: ``(B, L)`` tokens.
            sigma: ``(B,)`` the share that is hidden.
            position_ids: ``(B, L)`` columns.
            block_position_ids: ``(B, L)`` rows.
            context_mask: ``(B, L)`` true where nothing is hidden.
            seed: decides what is hidden.
        """
        x_t = self.q_xt(x0, sigma, context_mask, seed=seed)
        batch = as_batch(x_t, position_ids, block_position_ids, context_mask)
        backbone = cast("Backbone", self.backbone)
        states = backbone.hidden(batch, self.schedule.time_of(sigma.float()))
        log_p = subs(backbone.logits(states.flatten(0, 1)), self.mask_token_id)
        log_p = log_p.view(*x0.shape, -1)
        visible = x_t != self.mask_token_id
        certain = torch.full_like(log_p, -torch.inf)
        certain.scatter_(-1, x_t[..., None], 0.0)
        return torch.where(visible[..., None], certain, log_p)

    def sample(
        self,
        batch_size: int,
        seq_len: int,
        num_steps: int = 256,
        *,
        context_tokens: Tensor | None = None,
        context_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        block_position_ids: Tensor | None = None,
        temperature: float = 1.0,
        invalid_slices: Sequence[int] = (),
        sampler: str = "ddpm",
        seed: int = 0,
    ) -> Tensor:
        """Return tokens ``(B, L)`` drawn by the reverse process.

        Args:
            batch_size: B.
            seq_len: L.
            num_steps: T.
            context_tokens: ``(B or 1, L)`` what stands where `context_mask` is true.
            context_mask: ``(B or 1, L)`` true where tokens are given.
            position_ids: ``(B or 1, L)`` columns.
            block_position_ids: ``(B or 1, L)`` rows.
            temperature: divides the log-probabilities.
            invalid_slices: ids that are never drawn; what no row consists of never is.
            sampler: ddpm, ddpm_cache, confidence, remask, one-shot, or another.
            seed: decides every draw.

        Raises:
            UsageError: if one of the two of the context is missing.
        """
        if (context_tokens is None) != (context_mask is None):
            raise UsageError("give context_tokens and context_mask, or neither")
        shape, device = (batch_size, seq_len), _device(self.backbone)
        tokens = torch.full(shape, self.mask_token_id, device=device)
        if context_tokens is not None and context_mask is not None:
            given = context_mask.bool().to(device).expand(shape)
            tokens = torch.where(given, context_tokens.to(device).expand(shape), tokens)
        places = [
            None if ids is None else ids.to(device).expand(shape)
            for ids in (position_ids, block_position_ids)
        ]
        canvas = as_batch(tokens, places[0], places[1], context_mask_of(tokens))
        denoiser = Denoiser(
            cast("Backbone", self.backbone),
            temperature=temperature,
            banned=banned(invalid_slices),
        )
        draw = sampler_named(sampler, num_steps)
        with denoiser.evaluating():
            return draw(
                denoiser,
                canvas,
                schedule=self.schedule,
                noise=Noise(seed).child("sample"),
                steps=num_steps,
            ).tokens

    def sample_ddpm_caching(
        self, batch_size: int, seq_len: int, num_steps: int = 256, **settings: Any
    ) -> Tensor:
        """Return `sample` with ``sampler="ddpm_cache"``: the same law."""
        settings = {"sampler": "ddpm_cache", **settings}
        return self.sample(batch_size, seq_len, num_steps, **settings)


def context_mask_of(tokens: Tensor) -> Tensor:
    """Return ``(B, L)`` true where a canvas holds anything but the mask."""
    return tokens != MASK


def banned(invalid_slices: Sequence[int]) -> tuple[int, ...]:
    """Return the ids that are never drawn.

    Those of the original's padded vocabulary, 37 to 127, are nothing here.

    Raises:
        UsageError: if one is outside of the padded vocabulary.
    """
    wrong = sorted(i for i in set(invalid_slices) if not 0 <= i < PADDED)
    if wrong:
        raise UsageError(
            f"invalid_slices has {wrong}; ids are 0 to {VOCAB_SIZE - 1}, and those up "
            f"to {PADDED - 1} are padding"
        )
    return tuple(sorted({*BANNED, *(i for i in invalid_slices if i < VOCAB_SIZE)}))


def sampler_named(name: str, steps: int) -> Sampler:
    """Return a sampler of the catalog by its name."""
    catalog = load_catalog()
    settings = catalog.component("sampler", name).config.load()(steps=steps)
    sampler: Sampler = catalog.build("sampler", Component(name=name, config=settings))
    return sampler


def compute_diffusion_loss(
    model: nn.Module,
    x0: Tensor,
    position_ids: Tensor | None = None,
    block_position_ids: Tensor | None = None,
    noise_schedule: LogLinearNoise | None = None,
    context_mask: Tensor | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the bound on -log p of the free tokens, in nats for each.

    Exact numbers of tokens are hidden, stratified over the batch. The original's
    average over hidden and visible tokens is ``task.loss=doc-mean``.

    Args:
        model: a backbone, or a `ProteinDiffusion`.
        x0: ``(B, L)`` tokens.
        position_ids: ``(B, L)`` columns.
        block_position_ids: ``(B, L)`` rows.
        noise_schedule: gives the time to a backbone that sees it.
        context_mask: ``(B, L)`` true where nothing is hidden or scored.
        seed: decides what is hidden; another one in every step.

    Returns:
        ``loss``, differentiable; ``nll``, the mean over hidden tokens; ``masked``, how
        many those are; ``tokens``, how many are free.
    """
    backbone = model.backbone if isinstance(model, ProteinDiffusion) else model
    batch = as_batch(x0, position_ids, block_position_ids, context_mask)
    rows = torch.arange(len(x0), device=x0.device)
    corrupted = corrupt_counts(
        batch,
        rows=rows,
        of=len(x0),
        noise=Noise(seed).child("loss"),
        mask_id=MASK,
        schedule=None if noise_schedule is None else noise_schedule.schedule,
    )
    loss = masked_cross_entropy(cast("Backbone", backbone), corrupted)
    return {
        "loss": loss.total / loss.count.clamp(min=1),
        "nll": loss.nll.mean(),
        "masked": corrupted.masked.sum(),
        "tokens": loss.count,
    }


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


__all__ = [
    "LogLinearNoise",
    "ProteinDiffusion",
    "banned",
    "compute_diffusion_loss",
    "context_mask_of",
    "sampler_named",
]
