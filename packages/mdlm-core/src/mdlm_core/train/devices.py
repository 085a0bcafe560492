"""Where a model computes: one choice for training, evaluation and sampling."""

from __future__ import annotations

import torch

from mdlm_core.errors import UsageError

NO_FLOAT64 = "noise and schedules are computed in float64, which MPS does not have"


def choose_device(device: str | None = None) -> torch.device:
    """Return the device that was asked for, or the best that is there.

    Args:
        device: "cpu", "cuda", "cuda:1", "xpu"; None or "auto" takes a GPU that has
            float64 if there is one, otherwise the CPU.

    Raises:
        UsageError: if there is no such device, or it cannot compute what is needed.
    """
    if device in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("xpu" if torch.xpu.is_available() else "cpu")
    assert device is not None
    try:
        found = torch.device(device)
        if found.type != "mps":
            return torch.empty(1, device=found).device
        reason = NO_FLOAT64
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    raise UsageError(
        f"device '{device}' cannot be used: {reason}. Leave out --device to take what "
        f"is there, or give --device cpu"
    )
