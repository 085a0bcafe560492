"""Which number format the forward pass runs in; `auto` measures where it must."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise, global_seed

REPEATS = 3
MARGIN = 1.1
"""bf16 must be that much faster to be worth its coarser numbers."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A decision and the reason for it."""

    name: str
    """"fp32", "bf16" or "fp16"."""
    reason: str

    @property
    def accelerate(self) -> str:
        """The same in accelerate's words."""
        return "no" if self.name == "fp32" else self.name


def decide(
    setting: str, device: torch.device, measure: Callable[[], tuple[float, float]]
) -> Precision:
    """Return the precision for a setting.

    Args:
        setting: fp32, bf16, fp16, or auto: on a GPU bf16 if it has it, on a CPU what
            `measure` finds faster, elsewhere fp32.
        device: where the forward pass runs.
        measure: returns the seconds of a training step in fp32 and in bf16.

    Raises:
        ConfigError: if the device cannot do it.
    """
    if setting == "fp16" and device.type not in ("cuda", "xpu", "npu"):
        raise ConfigError(
            f"train.precision is fp16, which needs a GPU, and this runs on "
            f"'{device.type}'; use bf16, fp32 or auto"
        )
    if setting != "auto":
        return Precision(setting, "as set")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "this GPU computes in it")
        return Precision("fp32", "this GPU does not compute in bf16")
    if device.type != "cpu":
        return Precision("fp32", f"bf16 is not tried on '{device.type}'")
    fp32, bf16 = measure()
    ratio = fp32 / bf16
    name = "bf16" if ratio >= MARGIN else "fp32"
    return Precision(name, f"measured: a step in bf16 is {ratio:.2f} times as fast")


def measure_step(module: nn.Module, batch: Batch, *, seed: int) -> tuple[float, float]:
    """Return the seconds of a forward and backward pass in fp32 and in bf16.

    The two are interleaved, each the median of a few after a warm-up; the gradients
    are thrown away. Nothing that is random later depends on it.
    """
    noise = Noise(seed).child("precision")
    rows = torch.arange(len(batch), device=batch.tokens.device)
    draw = Draw(noise=noise, rows=rows, of=len(batch))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with global_seed(noise.child("dropout")):
        for _ in range(1 + REPEATS):
            for bf16 in (False, True):
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = module(batch, draw)
                loss.total.backward()
                seconds[bf16].append(time.perf_counter() - start)
                module.zero_grad(set_to_none=True)
    fp32, bf16_time = (statistics.median(seconds[kind][1:]) for kind in (False, True))
    return fp32, bf16_time
