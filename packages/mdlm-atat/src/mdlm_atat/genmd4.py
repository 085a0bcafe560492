"""Pretraining in which each token of the vocabulary has a mask schedule of its own.

Token v is hidden at time t with chance ``m_v(t) = R(1) u^w_v``, where R is the mask
rate of the run's schedule, ``u = R(t) / R(1)``, and the exponents w > 0 are learned
(GenMD4: Shi et al., 2024, arXiv 2406.04329, section 6). The model's reverse process
reveals position i with rate ``r_i = sum_v A_v mu_v`` and says v with chance
``A_v mu_v / r_i``. Here ``A_v = m_v' / m_v = w_v u' / u``, and mu is the law of a token
that is hidden. Being hidden is evidence about a token: Bayes' rule multiplies what its
context says with ``m_v(t)``, so that ``w_v log u`` is added to the logits.

Letters: B batch, L length, V vocabulary, D width, N hidden positions, S masks of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss, draw_times, subs
from mdlm_core.diffusion.objective import CHUNK
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule
from mdlm_core.samplers import sample_text
from mdlm_core.tasks import Pretrain

from .config import GenMD4Config
from .genmd4_sampler import OwnTokenSampler
from .own_bound import own_bound

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog
    from mdlm_core.config.schema import RunConfig, TrainConfig


def tilted(logits: Tensor, mask_id: int, exponents: Tensor, log_u: Tensor) -> Tensor:
    """Return log mu, ``(N, V)`` float32: the laws of hidden tokens.

    Args:
        logits: ``(N, V)``, what the context says about each position.
        mask_id: the token whose probability is zero.
        exponents: ``(V,)`` w.
        log_u: ``(N,)`` log u at each position.
    """
    tilt = exponents.float() * log_u.float()[:, None]
    return subs(logits.float() + tilt, mask_id)


def own_token_cost(log_mu: Tensor, targets: Tensor, exponents: Tensor) -> Tensor:
    """Return the integrand of the bound at each hidden position, over u' / u.

    ``w_x (-log mu_x) - w_x + sum_v w_v mu_v`` (arXiv 2406.04329, eq. 12).

    Args:
        log_mu: ``(N, V)``.
        targets: ``(N,)`` int64, the tokens x.
        exponents: ``(V,)`` w.

    Returns:
        ``(N,)`` float32.
    """
    exponents = exponents.float()
    own = exponents[targets]
    said = log_mu.gather(1, targets[:, None])[:, 0]
    rate = (log_mu.exp() * exponents).sum(-1)  # autocast makes bf16 of a product by @
    return own * (-said - 1) + rate


class OwnTokenDiffusion(nn.Module):
    """A denoiser, and the exponent of each token's mask schedule.

    The masks are drawn from the exponents, so that their gradient has two parts: the
    one inside the integrand, and the score of the masks. The second is estimated from
    two masks of each row, the loss of one being the baseline of the other.
    """

    def __init__(
        self,
        backbone: nn.Module,
        config: GenMD4Config,
        *,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.schedule = schedule
        size = cast("Backbone", backbone).vocab_size
        self.log_exponents = nn.Parameter(
            torch.full((size,), math.log(config.w_init)),
            requires_grad=config.w_lr_factor > 0,
        )

    @property
    def exponents(self) -> Tensor:
        """``(V,)`` w, positive."""
        return self.log_exponents.exp()

    def parameter_groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """Return the group of the exponents, for the optimiser."""
        del config
        factor = self.config.w_lr_factor
        return [{"params": [self.log_exponents], "lr_factor": factor}] if factor else []

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return one draw of the bound of `batch`, averaged over the masks of a row.

        There are two masks, or one if the exponents are not learned. The expectation
        is that of ``integral of E sum over hidden i of (eq. 12) dt`` over [t_min, 1].
        """
        times = draw_times(
            self.config.t_sampling,
            noise=draw.noise.child("time", draw.step),
            rows=draw.rows,
            of=draw.of,
            t_min=self.config.t_min,
            schedule=self.schedule,
        )
        names = ("mask", "mask2") if self.log_exponents.requires_grad else ("mask",)
        chance = self.log_chance(batch, times.t).detach().exp()
        masks = [
            (_keys(draw.noise.child(name, batch.epoch), batch) < chance) & batch.free
            for name in names
        ]
        losses, nll = self.row_losses(batch, times.t, torch.stack(masks))
        return Loss(losses.sum(), batch.free.sum(), nll.detach(), masks[0])

    def log_share(self, t: Tensor) -> Tensor:
        """Return ``log u`` ``(B,)`` float64 at times `t`."""
        rate = self.schedule.mask_rate(torch.stack((t, torch.ones_like(t))).double())
        return rate[0].log() - rate[1].log()

    def log_chance(self, batch: Batch, t: Tensor) -> Tensor:
        """Return ``log m`` ``(B, L)`` float64 of each token; log R(t) where w is 1."""
        excess = self.exponents.double()[batch.tokens] - 1
        log_rate = self.schedule.mask_rate(t.double()).log()
        return log_rate[:, None] + excess * self.log_share(t)[:, None]

    def row_losses(
        self, batch: Batch, t: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of each row, with a gradient that is right in expectation.

        Args:
            batch: the clean rows.
            t: ``(B,)``.
            masks: ``(S, B, L)`` bool, S being 1 or 2; drawn with `log_chance`. With
                one mask the score of the masks is left out.

        Returns:
            losses: ``(B,)`` float32, means over the masks. Their values do not have
                the score in them, their gradients do.
            nll: ``(N,)`` float32 ``-log mu_x``, at the positions of the first mask.
        """
        costs, nlls = self._costs(batch, masks, self.log_share(t), t)
        weight = self.schedule.weight(t.double())
        losses = (weight * costs.double()).float()  # (S, B)
        if len(masks) == 1 or not losses.requires_grad:
            return losses.mean(0), nlls[0]
        log_m = self.log_chance(batch, t)
        log_shown = torch.log(-torch.expm1(log_m))
        scores = (torch.where(masks, log_m, log_shown) * batch.free).sum(2)
        first, second = losses.detach()
        score = 0.5 * (first - second) * (scores[0] - scores[1])
        return losses.mean(0) + (score - score.detach()).float(), nlls[0]

    def _costs(
        self, batch: Batch, masks: Tensor, log_u: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return ``(S, B)`` sums of `own_token_cost`, and ``-log mu_x`` per mask."""
        count = len(masks)
        rows = torch.arange(len(batch), device=t.device).repeat(count)
        masked = masks.flatten(0, 1)  # (S B, L)
        clean = batch.select(rows)
        denoiser = cast("Backbone", self.backbone)
        canvas = clean.with_tokens(clean.tokens.masked_fill(masked, denoiser.mask_id))
        states = denoiser.hidden(canvas, t[rows].float())[masked]  # (N, D)
        where = masked.nonzero()[:, 0]
        costs, nll = chunked_costs(
            denoiser, states, clean.tokens[masked], self.exponents, log_u[rows][where]
        )
        sums = costs.new_zeros(len(rows)).index_add(0, where, costs)
        sizes = masks.flatten(1).sum(1).tolist()
        return sums.view(count, len(batch)), list(torch.split(nll, sizes))

    def own_process(self) -> OwnTokenProcess:
        """Return the process whose bound `own_bound` estimates."""
        return OwnTokenProcess(self)


def chunked_costs(
    backbone: Backbone,
    states: Tensor,
    targets: Tensor,
    exponents: Tensor,
    log_u: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return `own_token_cost` and ``-log mu_x``, ``(N,)`` each, for states ``(N, D)``.

    Differentiable; only so many rows of logits exist at once.
    """

    def costs(states: Tensor, targets: Tensor, log_u: Tensor) -> tuple[Tensor, Tensor]:
        log_mu = tilted(backbone.logits(states), backbone.mask_id, exponents, log_u)
        said = log_mu.gather(1, targets[:, None])[:, 0]
        return own_token_cost(log_mu, targets, exponents), -said

    parts = [torch.split(x, CHUNK) for x in (states, targets, log_u)]
    pieces = zip(*parts, strict=True)
    if torch.is_grad_enabled():
        done = [
            checkpoint(costs, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in pieces
        ]
    else:
        done = [costs(*piece) for piece in pieces]
    return torch.cat([c for c, _ in done]), torch.cat([n for _, n in done])


class OwnTokenProcess:
    """The process of `OwnTokenDiffusion` on u in (0, 1); see `own_bound.Process`."""

    label = "genmd4: own-token schedules u^w"

    def __init__(self, module: OwnTokenDiffusion) -> None:
        self.module = module
        self.backbone = module.backbone
        self.schedule = module.schedule

    def stretch(self, batch: Batch) -> Tensor:
        """Return one over the smallest exponent of each row, at least 1."""
        own = self.module.exponents.double()[batch.tokens]
        return 1 / own.masked_fill(batch.frozen, 1.0).amin(1).clamp(max=1)

    def log_chance(self, batch: Batch, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``w_x log u`` ``(B, L)``."""
        del t
        return self.module.exponents.double()[batch.tokens] * log_u[:, None]

    def costs(self, batch: Batch, masked: Tensor, log_u: Tensor, t: Tensor) -> Tensor:
        """Return ``(B,)`` sums over the hidden positions, over u' / u."""
        return self.module._costs(batch, masked[None], log_u, t)[0][0]


def _keys(noise: Noise, batch: Batch) -> Tensor:
    return noise.uniform(batch.sample_id, batch.length)


class GenMD4(Pretrain):
    """The task; see `mdlm_core.protocols.Task`."""

    config: GenMD4Config

    def build(self, source: DataSource) -> OwnTokenDiffusion:  # type: ignore[override]
        """Build backbone and schedule for the source's tokens.

        Raises:
            ConfigError: if the run asks for a masking policy.
        """
        if self.run.masking.name != "uniform":
            raise ConfigError(
                f"task genmd4 hides tokens by schedules of its own, and masking.name "
                f"is '{self.run.masking.name}'; set masking.name=uniform, or "
                "task.name=pretrain to train with that policy"
            )
        tokenizer = source.tokenizer
        backbone = self.catalog.build(
            "backbone",
            self.run.model,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        schedule = self.catalog.build("schedule", self.run.schedule)
        return OwnTokenDiffusion(backbone, self.config, schedule=schedule)

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return the uniform bound of the denoiser, and this process's own bound.

        "loss" is the uniform bound of the logits without a tilt: what variants are
        compared by. "own_bound" belongs to this task's sampler.
        """
        own = own_bound(
            module,
            source,
            draws=self.config.eval_draws,
            rows=self.config.eval_rows,
            noise=Noise(self.run.seed).child("evaluate", "own"),
        )
        numbers = dict(super().evaluate(module, source))
        return {**numbers, "own_bound": own.nats, "own_bound_se": own.nats_se}

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample a few texts by this task's own reverse process."""
        if not self.config.sample_count:
            return []
        assert isinstance(module, OwnTokenDiffusion)
        settings: Any = self.run.sampler.config
        sampler = OwnTokenSampler(module.exponents.detach(), settings.batch_size)
        return sample_text(
            cast("Backbone", module.backbone),
            source.tokenizer,
            schedule=module.schedule,
            length=source.length,
            num=self.config.sample_count,
            seed=seed,
            sampler=sampler,
            config=settings,
        ).texts


def build(config: GenMD4Config, *, run: RunConfig, catalog: Catalog) -> GenMD4:
    """Return the task, for the catalog."""
    return GenMD4(config, run=run, catalog=catalog)
