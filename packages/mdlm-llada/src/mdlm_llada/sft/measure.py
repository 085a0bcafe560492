"""How the times of fine-tuning are drawn, and the measurement that decides it.

P-POTS (arXiv 2511.18159) draws times from a density p and weights the loss with 1 / p.
The total variance ``int (g^2 + v) / p dt - (int g dt)^2`` is least for p proportional
to ``sqrt(g^2 + v)``, with g(t) the mean and v(t) the variance over masks of a row's
loss at time t. Letters: B rows of this process, n rows
of the global batch or nodes of the density, b measured times.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.times import Times
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.processes import on_main
from mdlm_llada.config import TimesConfig

from .curves import Curves, LossRows, measure_losses
from .density import Density, midpoints, with_ends
from .fit import FITTED, fit_density


class TimeLaw(nn.Module):
    """The density p of times, and draws from it; it is saved with the model.

    tau in [0, 1] has the density p, the time is ``t_min + (1 - t_min) tau``, and the
    weight is ``1 / p(tau)``. "clipped" alone has the weight 1: it is the mean loss over
    a part of the times (BD3-LM's baseline), and no estimate of the whole.

    Args:
        config: what is fitted, and how.
        t_min: the smallest time.
    """

    grid: Tensor
    """``(n,)`` float64: the nodes of the density."""
    density: Tensor
    """``(n,)`` float64: p at the nodes."""
    measured: Tensor
    """Scalar int64: the step of the last measurement, -1 before the first."""
    g: Tensor
    """``(b,)`` float64: the measured mean loss, 0 before."""
    v: Tensor
    """``(b,)`` float64: the measured variance over masks, 0 before."""

    def __init__(self, config: TimesConfig, t_min: float = 1e-3) -> None:
        super().__init__()
        self.config = config
        self.t_min = t_min
        self.times = midpoints(config.samples_t)
        start = self._before()
        self.register_buffer("grid", start.nodes)
        self.register_buffer("density", start.values)
        self.register_buffer("measured", torch.tensor(-1))
        for name in ("g", "v"):
            unknown = torch.zeros(config.samples_t, dtype=torch.float64)
            self.register_buffer(name, unknown)

    @property
    def kind(self) -> str:
        """What p is: EPR, AP, uniform, clipped or custom."""
        model = self.config.model
        return "uniform" if model in FITTED and not self.config.ppots else model

    def _before(self) -> Density:
        """Return the density before any measurement."""
        config = self.config
        if self.kind in FITTED:
            nodes = with_ends(self.times)
            return Density.of(nodes, torch.ones_like(nodes))
        if self.kind == "clipped":
            return Density.uniform(config.clip_low, config.clip_high)
        if self.kind == "custom":
            values = torch.tensor(config.custom, dtype=torch.float64)
            nodes = torch.linspace(0, 1, len(values), dtype=torch.float64)
            return Density.of(nodes, values).mixed(config.mix_uniform)
        return Density.uniform()

    @property
    def law(self) -> Density:
        """The density that times are drawn from now."""
        return Density(self.grid, self.density)

    def draw(self, noise: Noise, rows: Tensor, of: int) -> Times:
        """Draw a time for each row, in [t_min, 1], and its weight 1 / p.

        A row's time depends on the noise, its index and n alone.

        Args:
            noise: the generator of this step.
            rows: ``(B,)`` int64, indices in the global batch.
            of: n, the rows of the global batch.
        """
        config = self.config
        law = self.law
        law = Density(law.nodes.to(rows.device), law.values.to(rows.device))
        strata = (config.strata or math.isqrt(of)) if config.stratified else 1
        tau = law.quantile(stratified(noise, rows, of, strata))
        weight = torch.ones_like(tau)
        if self.kind != "clipped":
            weight = (1 / law.at(tau)).clamp(max=config.max_weight)
        return Times(self.t_min + (1 - self.t_min) * tau, weight)

    def due(self, step: int) -> bool:
        """Return whether p is to be measured before `step`."""
        if self.kind not in FITTED:
            return False
        last, every = int(self.measured), self.config.refresh_every
        return last < 0 or (every > 0 and step - last >= every)

    @torch.no_grad()
    def measure(
        self, loss_rows: LossRows, batch: Batch, noise: Noise, *, step: int = 0
    ) -> Curves:
        """Measure the loss at all times, fit p to it, and use p from now on.

        All processes must call this together, with the same rows and noise: each does
        a part of the work, and all have the same p afterwards.

        Args:
            loss_rows: the model's losses.
            batch: the first `samples_x0` rows of it are measured.
            noise: the generator of this measurement.
            step: the step that comes next.

        Raises:
            TrainingError: if a measured loss is not a finite number.
        """
        config = self.config
        curves = measure_losses(
            loss_rows,
            batch.select(slice(config.samples_x0)),
            times=self.times,
            masks=config.samples_xt,
            loss_max=config.loss_max,
            max_tokens=config.max_tokens_per_forward,
            noise=noise.child("masks"),
        )
        law = on_main(lambda: fit_density(config, curves, noise.child("fit")))
        self.grid.copy_(law.nodes)
        self.density.copy_(law.values)
        self.g.copy_(curves.g)
        self.v.copy_(curves.v)
        self.measured.fill_(step)
        return curves

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TimeLaw:
        """Move with the model, but stay float64 when it becomes bfloat16."""
        kept = {name: value.dtype for name, value in self.named_buffers()}
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in kept.items():
            now = getattr(self, name)
            if now.dtype != dtype:
                setattr(self, name, before[name].to(now.device))
        return self


def stratified(noise: Noise, rows: Tensor, of: int, strata: int) -> Tensor:
    """Return a uniform number for each row, spread over equal strata of [0, 1).

    Of n rows each of k strata gets n / k, or the whole numbers around it; which rows,
    and which strata get one more, is drawn. Every number alone is uniform (StraTS).
    With one stratum the numbers are independent.

    Args:
        noise: the generator of this step.
        rows: ``(B,)`` int64, indices in the global batch.
        of: n, the rows of the global batch.
        strata: k.
    """
    jitter = noise.child("jitter").uniform(rows, 1)[:, 0]
    if strata == 1:
        return jitter
    place = _permutation(noise.child("place"), of, rows.device)
    order = _permutation(noise.child("stratum"), strata, rows.device)
    return (order[place[rows] % strata] + jitter) / strata


def _permutation(noise: Noise, n: int, device: torch.device) -> Tensor:
    return noise.uniform(torch.arange(n, device=device), 1)[:, 0].argsort()
