"""The masking policy: hide tokens by importance, and learn what is important.

Letters: B batch, L length, N hidden tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Corrupted
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.protocols import DataSource, Rates, Schedule

from .config import AtatConfig
from .curriculum import CurriculumScheduler
from .frequency import FrequencyPrior
from .importance import FIXED_TIME, ImportanceEstimator
from .masking import AdaptiveMaskingScheduler
from .reverse import ReverseRate, rate_term
from .targets import Targets
from .visible import Focus, visible_rates


class AdaptiveMasking(nn.Module):
    """Hide tokens by their importance, at the mean rate of the schedule.

    A `protocols.MaskingPolicy`. Importance is ``learned * network + frequency *
    rank``, and strategy, temperature and curriculum say how much it counts. Where it
    does not count, the rates are exactly those of `UniformMasking`.

    With the objective ``ht`` the network scores a row at the row's own time t. The
    chances grow with t for given scores, and may fall where the scores change with t:
    each row is noised once, at one time, and its weights are those of its chances, so
    that nothing there needs a process in t. With ``nelbo``, which does, the scores are
    those at one fixed time.

    The network learns from the losses of the denoiser, which it never changes: masks
    and weights carry no gradient. All memory is in buffers. From the first call of
    `advance` on, every training batch adds to them, summed over all processes; what
    was added counts from the next step on, so that neither the number of processes
    nor the cut of a batch matters. Batches before that, as those on which a run
    measures its speed, leave no trace.
    """

    def __init__(self, config: AtatConfig, *, source: DataSource | None) -> None:
        """Build the parts that the settings need.

        Args:
            config: the settings.
            source: gives the vocabulary, and the tokens to count.

        Raises:
            ConfigError: if the rates would fall in t somewhere, or there is no source
                and importance counts.
        """
        super().__init__()
        self.config = config
        wanted = config.importance
        self.biased = config.strategy != "time_only"
        self.weighs = (wanted.learned + wanted.frequency > 0) and (
            self.biased or config.curriculum.focus > 1
        )
        """Whether importance counts for anything."""
        self.draws = self.weighs and wanted.context == "visible"
        """Whether `rates` wants noise."""
        self.masking = AdaptiveMaskingScheduler(config)
        self.curriculum = CurriculumScheduler(
            config.curriculum, strategy=config.strategy, temperature=config.temperature
        )
        self.frequency: FrequencyPrior | None = None
        self.estimator: ImportanceEstimator | None = None
        self.targets: Targets | None = None
        self.reverse: ReverseRate | None = None
        self.mask_id = -1
        if self.weighs:
            self._build(source)
        self.needs_residual = (
            self.weighs and wanted.learned > 0 and wanted.target == "el2n"
        )
        """Whether `auxiliary_loss` wants the residual."""
        self._began = False
        self._schedule: tuple[Schedule] | None = None  # no child, should it be a module

    def _build(self, source: DataSource | None) -> None:
        config, wanted = self.config, self.config.importance
        if source is None:
            raise ConfigError(
                "masking 'atat' needs the data for its importance (the vocabulary, and "
                "the tokens that it ranks by frequency); give a source, or set "
                "masking.importance.learned=0 and masking.importance.frequency=0"
            )
        tokenizer = source.tokenizer
        self.mask_id = tokenizer.mask_id
        sizes = {
            "vocab_size": tokenizer.vocab_size,
            "mask_id": tokenizer.mask_id,
            "length": source.length,
        }
        if wanted.frequency > 0:
            self.frequency = FrequencyPrior(source, tokens=wanted.frequency_tokens)
        if wanted.learned > 0:
            self.estimator = ImportanceEstimator(wanted, **sizes)
            self.targets = Targets(wanted, vocab_size=tokenizer.vocab_size)
        if config.objective == "nelbo" and self.biased:
            self.reverse = ReverseRate(wanted, **sizes)

    def check(self, schedule: Schedule, t_sampling: str) -> None:
        """Refuse, before training, what goes wrong once there is a bias.

        Args:
            schedule: of the run.
            t_sampling: how the run draws its times.

        Raises:
            ConfigError: if a chance would fall in t under this schedule, exact counts
                are asked for, which are those of uniform masks, or the objective is a
                bound and bell-shaped times would make another loss of it.
        """
        if self.config.objective == "nelbo" and t_sampling == "bell":
            raise ConfigError(
                "task.t_sampling is bell and masking.objective is nelbo: bell draws "
                "middle times more often and does not make up for it, so that the "
                "loss would be no bound; set task.t_sampling=stratified, or "
                "masking.objective=ht"
            )
        if not self.weighs and not self.config.position_bias:
            return
        if t_sampling == "counts":
            raise ConfigError(
                "task.t_sampling is counts, which hides tokens uniformly, but the "
                "masking policy 'atat' does not; set task.t_sampling=stratified, or "
                "masking=uniform"
            )
        self.masking.check(schedule)

    # ---- masks ---------------------------------------------------------------

    def rates(
        self, batch: Batch, t: Tensor, schedule: Schedule, *, noise: Noise | None = None
    ) -> Rates:
        """Return mask chances and loss weights for times `t` ``(B,)``.

        They are ``(B, L)``, or ``(B, 1)`` where importance does not count just now.

        Args:
            batch: the clean rows.
            t: ``(B,)``.
            schedule: gives the mean chance.
            noise: the policy's own, needed if `draws`.

        Raises:
            UsageError: if `draws` and there is no noise.
        """
        self._schedule = (schedule,)
        kappa, focus = self._kappa, self._focus
        if kappa == 0 and focus is None and not self.config.position_bias:
            return UniformMasking().rates(batch, t, schedule)
        if self.draws:
            if noise is None:
                raise UsageError(
                    "with masking.importance.context=visible masks are drawn in two "
                    "rounds: give rates() the noise of the first"
                )
            return visible_rates(
                self.masking,
                self.importance,
                batch,
                t,
                schedule,
                kappa=kappa,
                focus=focus,
                noise=noise,
                mask_id=self.mask_id,
            )
        importance = factors = None
        if kappa != 0 or focus is not None:
            importance = self.importance(batch, self.scoring_time(t))
            factors = focus(importance, batch.free) if focus is not None else None
        return self.masking.rates(importance, batch.free, t, schedule, kappa, factors)

    def scoring_time(self, t: Tensor) -> Tensor:
        """Return the times at which tokens are scored for masks at times `t`.

        For the objective ht that is `t`: each batch has masks of its own, which are
        weighted by their chances. The bound of nelbo is that of a process in t, with
        scores that stay.
        """
        return t if self.reverse is None else torch.full_like(t, FIXED_TIME)

    @property
    def _kappa(self) -> float:
        """The logit shift of one standard deviation of importance, just now."""
        return self.curriculum.kappa if self.weighs and self.biased else 0.0

    @property
    def _focus(self) -> Focus | None:
        """What gives the factors of the loss weights, or None if there are none."""
        wanted = self.weighs and self.config.curriculum.focus > 1
        return self.curriculum.focus if wanted and self.curriculum.strength else None

    @torch.no_grad()
    def importance(self, batch: Batch, t: Tensor) -> Tensor:
        """Return the importance of each position, ``(B, L)`` float32 in [0, 1].

        Args:
            batch: rows, clean or with masks in place. The rank of a masked position
                is 1/2, so that nothing is said about what it hides.
            t: ``(B,)``, the time at which as many tokens are masked.

        Raises:
            UsageError: if the settings leave no use for importance.
        """
        if self.estimator is None and self.frequency is None:
            raise UsageError(
                "this masking policy has no importance: it was trained with "
                "masking.strategy=time_only, or with masking.importance.learned=0 and "
                "masking.importance.frequency=0"
            )
        learned = None if self.estimator is None else self.estimator(batch, t)
        return self._mixed(batch, learned)

    @torch.no_grad()
    def _mixed(self, batch: Batch, learned: Tensor | None) -> Tensor:
        """Return what `importance` does, given the answer of the network."""
        wanted = self.config.importance
        total = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        if learned is not None:
            total = total + wanted.learned * learned
        if self.frequency is not None:
            total = total + wanted.frequency * self.frequency(batch.tokens)
        return total.clamp(0, 1)

    # ---- learning ------------------------------------------------------------

    def auxiliary_loss(
        self, corrupted: Corrupted, nll: Tensor, *, residual: Tensor | None = None
    ) -> Tensor:
        """Return what is added to the loss per token, a scalar.

        It is ``loss_weight`` times the squared error of the network, averaged over the
        hidden tokens of a row, and over rows by their free tokens: rows count the same
        however a batch is cut. For the objective ``nelbo`` the rate term is added,

            1 / n * sum over hidden i of A_i log(A_i / r_i) - A_i + r_i,

        with n free tokens, which together with the weights A_i of the cross-entropy
        makes the bound of the process (see `reverse`).

        Args:
            corrupted: the noised batch.
            nll: ``(N,)`` -log p of each hidden token, in row-major order.
            residual: ``(N,)``, if `needs_residual`.
        """
        learn = self._began and self.training and torch.is_grad_enabled()
        if not self.weighs:
            return nll.new_zeros(())
        shown, t = corrupted.batch, corrupted.t
        if self.config.importance.context == "clean":
            shown = shown.with_tokens(corrupted.targets)
        learned = None if self.estimator is None else self.estimator(shown, t)
        if learn:
            self._observe(corrupted, nll, shown, learned)
        loss = nll.new_zeros(())
        if learned is not None:
            loss = loss + self._error(corrupted, nll, learned, residual, learn=learn)
        if self.reverse is not None:
            with torch.autocast(shown.tokens.device.type, enabled=False):  # as `rates`
                loss = loss + self._rate_term(corrupted, shown)
        return loss

    def _error(
        self,
        corrupted: Corrupted,
        nll: Tensor,
        learned: Tensor,
        residual: Tensor | None,
        *,
        learn: bool,
    ) -> Tensor:
        """Return `loss_weight` times the mean squared error of `learned` ``(B, L)``."""
        assert self.targets is not None
        masked, free = corrupted.masked, corrupted.batch.free
        row = masked.nonzero()[:, 0]  # (N,)
        y = self.targets(
            nll,
            corrupted.targets[masked],
            corrupted.t[row],
            residual=residual,
            learn=learn,
        )
        share = free.sum(1) / masked.sum(1).clamp(min=1) / free.sum().clamp(min=1)
        error: Tensor = ((learned[masked] - y).square() * share[row]).sum()
        return self.config.importance.loss_weight * error

    def _rate_term(self, corrupted: Corrupted, clean: Batch) -> Tensor:
        """Return the cost of the reverse rates for each free token."""
        assert self.reverse is not None
        assert self._schedule is not None
        [schedule], t, free = self._schedule, corrupted.t.double(), clean.free
        masked = corrupted.masked
        importance = self.importance(clean, self.scoring_time(t))
        speed = self.masking.velocity(importance, free, t, schedule, self._kappa)
        usual = schedule.weight(t)[:, None].expand_as(speed)
        ratio = self.reverse(corrupted.batch, corrupted.t)[masked].double()
        cost = rate_term(speed[masked], usual[masked] * ratio.exp())  # (N,)
        # Weights are A times what makes up for how the times were drawn.
        drawn = corrupted.weight[masked].double() / speed[masked]
        return ((drawn * cost).sum() / free.sum().clamp(min=1)).float()

    @torch.no_grad()
    def _observe(
        self, corrupted: Corrupted, nll: Tensor, shown: Batch, learned: Tensor | None
    ) -> None:
        """Tell the curriculum how hard and how important the tokens were."""
        settings = self.config.curriculum
        if settings.dynamic:
            self.curriculum.observe(nll.sum() / max(len(nll), 1), len(nll))
        if settings.focus > 1:
            where = corrupted.masked if self.draws else shown.free
            self.curriculum.observe_importance(self._mixed(shown, learned), where)

    def advance(self, step: int, steps: int) -> None:
        """Take in what the last step taught, and move the curriculum to `step`.

        The first call counts tokens for the ranks, if no checkpoint holds them.

        Args:
            step: optimiser steps done; 0 drops what was added before training.
            steps: of the whole run.
        """
        self._began = True
        if self.frequency is not None:
            self.frequency.prepare()  # now, and not at the first step with a bias
        if self.targets is not None:
            if step == 0:
                self.targets.forget_pending()
            self.targets.fold()
        self.curriculum.advance(step, steps)


def build(config: AtatConfig, *, source: DataSource | None) -> AdaptiveMasking:
    """Return the policy, for the catalog."""
    return AdaptiveMasking(config, source=source)
