"""How strong the bias is over a run, and which tokens the loss looks at.

With W the warm-up and T the steps, progress is p = (step - W) / (T - W) and

    warm-up  step < W: no bias
    easy     p < b1:   kappa = -easy / temperature
    medium   p < b2:   kappa from -easy to +hard, over temperature, linearly
    hard     p >= b2:  kappa = +hard / temperature
    anneal   the last `final_uniform` of the run

for the strategy balanced; proportional and inverse have +1 and -1 over temperature in
all stages. After the warm-up kappa is multiplied with a ramp that reaches 1 at step 2W,
and in the anneal with a fall that is exactly 0 at the last step, so that the masks
which the model sees last are those by which it is measured.
"""

from __future__ import annotations

import difflib
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mdlm_core.errors import ConfigError, UnknownNameError

from .config import CURRICULA, CurriculumConfig
from .processes import sum_over_processes

STRATEGIES = ("proportional", "inverse", "balanced", "time_only")
"""Important tokens are hidden earlier, later, as the stage says, or as all others."""
BINS = 1024
"""Of the histogram of importance, over [0, 1]."""
DECAY = 0.98
"""Of the running quantiles, per step."""
BANDS = (0.3, 0.7)
"""Up to which quantile importance is low, and medium."""
PATIENCE = 0.05
"""The window of a stage's loss, as a share of the run."""
IMPROVEMENT = 0.005
"""The relative fall over a window below which a stage has nothing left to teach."""


class _Clock(NamedTuple):
    """Where a run is; what the buffer `clock` holds."""

    step: int = 0
    steps: int = 0
    """Of the whole run; 0 while nobody said."""
    since: int = 0
    """The step at which the window of the loss began."""
    base: int = -1
    """The step at which a stage last ended early; -1 if none did."""
    base_progress: float = 0.0
    """The progress that it jumped to."""


class CurriculumScheduler(nn.Module):
    """Give kappa and the focus of the loss for each step.

    All that it remembers is in buffers, so that a run continues exactly. Losses and
    importance are summed over micro-batches and processes, and enter the running
    means in `advance`.
    """

    clock: Tensor
    pending: Tensor
    losses: Tensor
    histogram: Tensor
    quantiles: Tensor
    folds: Tensor

    def __init__(
        self, config: CurriculumConfig, *, strategy: str, temperature: float
    ) -> None:
        """Start before the first step of a run of unknown length.

        Raises:
            ConfigError: if what needs stages is asked for without them.
            UnknownNameError: if there is no such strategy.
        """
        super().__init__()
        if strategy not in STRATEGIES:
            near = difflib.get_close_matches(strategy, STRATEGIES, n=1)
            raise UnknownNameError(
                f"masking.strategy is {strategy!r}; "
                + (f"did you mean '{near[0]}'? " if near else "")
                + f"It can be {', '.join(STRATEGIES)}"
            )
        if config.preset == "none":
            for name, off in (("focus", 1), ("dynamic", False)):
                if getattr(config, name) != off:
                    raise ConfigError(
                        f"masking.curriculum.{name} is {getattr(config, name)} and "
                        "masking.curriculum.preset is none, which has no stages: set "
                        f"masking.curriculum.{name}={str(off).lower()} or another "
                        "preset: default, early, late"
                    )
        self.config = config
        self.strategy = strategy
        self.temperature = temperature
        self.bounds = CURRICULA.get(config.preset, (0.0, 0.0))
        self._read: tuple[Tensor, int, _Clock] | None = None
        keep = self.register_buffer
        keep("clock", torch.tensor(_Clock(), dtype=torch.float64))
        keep("pending", torch.zeros(2, dtype=torch.float64))  # sum, count
        keep("losses", torch.tensor([0.0, 0.0, torch.inf], dtype=torch.float64))
        keep("histogram", torch.zeros(BINS, dtype=torch.float64))
        keep("quantiles", torch.tensor(BANDS, dtype=torch.float64))
        keep("folds", torch.zeros((), dtype=torch.float64))

    # ---- what training asks for ----------------------------------------------

    @property
    def kappa(self) -> float:
        """The logit shift of one standard deviation of importance, signed.

        Before the first `advance` it is what a run of at least ten steps starts with.
        """
        return self._direction() * self.strength / self.temperature or 0.0

    @property
    def strength(self) -> float:
        """Ramp times fall, in [0, 1]; exactly 0 in warm-up and at the last step."""
        clock = self._clock()
        warmup = self._warmup(clock)
        if clock.step < warmup:
            return 0.0
        ramp = min(1.0, (clock.step - warmup) / warmup) if warmup else 1.0
        return ramp * self._fall(clock)

    @property
    def stage(self) -> str:
        """The name of the stage: warm-up, easy, medium, hard or anneal."""
        clock = self._clock()
        if clock.step < self._warmup(clock):
            return "warm-up"
        return "anneal" if self._annealing(clock) else self._band(clock)

    def focus(self, importance: Tensor, free: Tensor) -> Tensor | None:
        """Return factors for the loss weights, or None if all tokens count alike.

        Tokens whose importance is in the band of the stage (the lowest 30 %, the
        middle, the highest 30 %, by running quantiles) get `focus`, the others 1. In
        the ramp and the anneal the difference to 1 is scaled as kappa is.

        Args:
            importance: ``(B, L)`` in [0, 1].
            free: ``(B, L)`` bool; other positions get 1.
        """
        gain = (self.config.focus - 1) * self.strength
        if not gain:
            return None
        value = importance.double()
        low, high = self.quantiles[0], self.quantiles[1]
        inside = {
            "easy": value <= low,
            "medium": (value >= low) & (value <= high),
            "hard": value >= high,
        }[self._band(self._clock())]
        return 1 + gain * (inside & free).double()

    # ---- what training tells -------------------------------------------------

    @torch.no_grad()
    def advance(self, step: int, steps: int) -> None:
        """Take in what was observed since the last call, and move to `step`.

        Args:
            step: the step that comes, from 0.
            steps: of the whole run.
        """
        before = self._clock()
        if step < before.step:  # another run begins
            before = _Clock()
            self.pending.zero_()
            self.histogram.zero_()
        self._fold(steps)
        now = before._replace(step=step, steps=steps)
        if self.config.dynamic:
            now = self._move_on(before, now)
        self._write(now)

    @torch.no_grad()
    def observe(self, loss: Tensor, count: Tensor | float = 1) -> None:
        """Take note of a mean loss for dynamic stages, once for each micro-batch.

        Args:
            loss: scalar.
            count: over how many tokens it is the mean.
        """
        if not self.config.dynamic:
            return
        number = torch.as_tensor(count, dtype=torch.float64, device=loss.device)
        seen = torch.stack([loss.detach().double() * number, number])
        self.pending += sum_over_processes(seen).to(self.pending.device)

    @torch.no_grad()
    def observe_importance(self, importance: Tensor, free: Tensor) -> None:
        """Take note of the importance ``(B, L)`` of the free tokens, for `focus`."""
        if self.config.focus == 1:
            return
        place = (importance.detach().double() * BINS).long().clamp(0, BINS - 1)
        seen = torch.zeros_like(self.histogram)
        seen.index_add_(0, place.flatten(), free.double().flatten())
        self.histogram += sum_over_processes(seen)

    # ---- the shape of a run --------------------------------------------------

    def _direction(self) -> float:
        if self.strategy == "time_only":
            return 0.0
        if self.strategy != "balanced":
            return 1.0 if self.strategy == "proportional" else -1.0
        easy, hard = self.config.easy, self.config.hard
        clock = self._clock()
        first, second = self.bounds
        band = self._band(clock)
        if band == "medium":
            done = (self._progress(clock) - first) / (second - first)
            return -easy + (easy + hard) * done
        return hard if band == "hard" else -easy

    def _warmup(self, clock: _Clock) -> int:
        warmup = self.config.warmup
        return min(warmup, clock.steps // 10) if clock.steps else warmup

    def _progress(self, clock: _Clock) -> float:
        warmup = self._warmup(clock)
        span = clock.steps - warmup
        if span <= 0:
            return 0.0
        start, base = (warmup, 0.0)
        if clock.base >= 0:
            start, base = clock.base, clock.base_progress
        return min(max(base + (clock.step - start) / span, 0.0), 1.0)

    def _band(self, clock: _Clock) -> str:
        progress = self._progress(clock)
        if progress < self.bounds[0]:
            return "easy"
        return "medium" if progress < self.bounds[1] else "hard"

    def _annealing(self, clock: _Clock) -> bool:
        share = self.config.final_uniform
        return share > 0 and clock.steps > 0 and self._fall(clock) < 1

    def _fall(self, clock: _Clock) -> float:
        share, last = self.config.final_uniform, clock.steps - 1
        if not share or not clock.steps:
            return 1.0
        if clock.step >= last:
            return 0.0
        start = (1 - share) * clock.steps
        return min(1.0, (last - clock.step) / (last - start)) if last > start else 1.0

    # ---- the memory ----------------------------------------------------------

    def _fold(self, steps: int) -> None:
        """Move what is pending into the running means; nothing pending, no change."""
        if self.config.dynamic:
            total, count = self.pending
            gain = (count > 0).double() * -math.expm1(-4 / self._window(steps))
            seen = torch.stack([total / count.clamp(min=1e-300), gain.new_ones(())])
            self.losses[:2].lerp_(seen, gain)
            self.pending.zero_()
        if self.config.focus != 1:
            count = self.histogram.sum()
            some = count > 0
            gain = torch.clamp(1 / (self.folds + 1), min=1 - DECAY)
            moved = torch.lerp(self.quantiles, _quantiles(self.histogram), gain)
            self.quantiles.copy_(torch.where(some, moved, self.quantiles))
            self.folds += some.double()
            self.histogram.zero_()

    def _move_on(self, before: _Clock, now: _Clock) -> _Clock:
        """Return the clock after a stage ended early, or a window did."""
        band, warmup = self._band(now), self._warmup(now)
        new_stage = band != self._band(before) or now.step <= warmup
        if new_stage or not before.steps:
            return self._restart(now)
        early = now.step - now.since < self._window(now.steps)
        if early or band == "hard" or self._annealing(now):
            return now
        ema, weight, reference = self.losses.tolist()
        mean = ema / weight if weight else torch.inf
        if mean > (1 - IMPROVEMENT) * reference:
            bound = self.bounds[0 if band == "easy" else 1]
            return self._restart(now._replace(base=now.step, base_progress=bound))
        self.losses[2] = mean
        return now._replace(since=now.step)

    def _restart(self, now: _Clock) -> _Clock:
        self.losses[:2] = 0.0
        self.losses[2] = torch.inf
        return now._replace(since=now.step)

    def _window(self, steps: int) -> int:
        return max(1, round(PATIENCE * steps))

    def _clock(self) -> _Clock:
        """Return the buffer `clock`, which is read again only after a change.

        Reading it from an accelerator at every use would wait for its queue.
        """
        read = self._read
        if read is None or read[0] is not self.clock or read[1] != self.clock._version:
            step, steps, since, base, progress = self.clock.tolist()
            clock = _Clock(int(step), int(steps), int(since), int(base), progress)
            self._read = read = (self.clock, self.clock._version, clock)
        return read[2]

    def _write(self, clock: _Clock) -> None:
        for index, value in enumerate(clock):
            self.clock[index].fill_(value)
        self._read = (self.clock, self.clock._version, clock)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}


def _quantiles(histogram: Tensor) -> Tensor:
    """Return the quantiles at `BANDS`, linear inside a bin."""
    mass = histogram.cumsum(0)
    goal = torch.tensor(BANDS, dtype=mass.dtype, device=mass.device) * mass[-1]
    bin_ = torch.searchsorted(mass, goal).clamp(max=len(histogram) - 1)
    inside = histogram[bin_]
    share = (goal - (mass[bin_] - inside)) / torch.where(inside > 0, inside, 1.0)
    return (bin_ + share) / len(histogram)
