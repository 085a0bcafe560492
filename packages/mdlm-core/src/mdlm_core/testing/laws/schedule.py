"""Laws about noise schedules. Times are float64 and include both ends."""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.protocols import Schedule
from mdlm_core.testing.law import close, hold

_STARTS, _ENDS = 0.01, 0.01


def _inside() -> Tensor:
    """Return times in (0, 1), dense near both ends, in rising order."""
    near = torch.logspace(-5, -1, 60, dtype=torch.float64)
    middle = torch.linspace(0.101, 0.899, 400, dtype=torch.float64)
    return torch.cat([near, middle, 1 - near.flip(0)])


def _whole() -> Tensor:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([ends[:1], _inside(), ends[1:]])


def starts_visible_and_ends_masked(schedule: Schedule) -> None:
    """Nearly every token is visible at t = 0, and nearly none at t = 1."""
    first, last = schedule.alpha(_whole())[[0, -1]].tolist()
    hold(first >= 1 - _STARTS, f"alpha(0) is {first:.4g}, not above {1 - _STARTS}")
    hold(0 <= last <= _ENDS, f"alpha(1) is {last:.4g}, not in [0, {_ENDS}]")


def alpha_falls(schedule: Schedule) -> None:
    """Alpha falls strictly from t = 0 to t = 1."""
    alpha, t = schedule.alpha(_whole()), _whole()
    rises = alpha.diff() >= 0
    where = t[:-1][rises]
    hold(not len(where), f"alpha does not fall after t = {where[:3].tolist()}")


def mask_rate_is_what_alpha_leaves(schedule: Schedule) -> None:
    """The mask rate is 1 - alpha."""
    close(schedule.mask_rate(_whole()), 1 - schedule.alpha(_whole()), "mask_rate", 1e-9)


def dalpha_is_the_derivative(schedule: Schedule) -> None:
    """Dalpha is the derivative of alpha, by central differences."""
    t = _inside()
    step = 1e-5 * torch.minimum(t, 1 - t)  # stays inside, at every scale
    numeric = (schedule.alpha(t + step) - schedule.alpha(t - step)) / (2 * step)
    close(schedule.dalpha(t), numeric, "dalpha", 1e-4)


def weight_is_finite_and_follows(schedule: Schedule) -> None:
    """The weight is -alpha' / (1 - alpha), and finite for t in [0.001, 1]."""
    t = _inside()[_inside() >= 1e-3]
    t = torch.cat([t, torch.ones(1, dtype=torch.float64)])
    weight = schedule.weight(t)
    hold(torch.isfinite(weight).all(), "the weight is not finite")
    ratio = weight * schedule.mask_rate(t)
    close(ratio[:-1], -schedule.dalpha(t[:-1]), "weight * mask_rate", 1e-9)


def time_of_inverts_the_mask_rate(schedule: Schedule) -> None:
    """time_of gives the time at which the mask rate is what was asked for."""
    t = _inside()
    close(schedule.time_of(schedule.mask_rate(t)), t, "time_of(mask_rate(t))", 1e-6)


def keeps_shape_and_type(schedule: Schedule) -> None:
    """Every method returns what it was given in shape and floating type."""
    for dtype in (torch.float32, torch.float64):
        t = torch.linspace(0.1, 0.9, 6, dtype=dtype).view(2, 3)
        for name in ("alpha", "mask_rate", "dalpha", "weight", "time_of"):
            found = getattr(schedule, name)(t)
            hold(
                found.shape == t.shape and found.dtype == dtype,
                f"{name} of {tuple(t.shape)} {dtype} is {tuple(found.shape)} "
                f"{found.dtype}",
            )
