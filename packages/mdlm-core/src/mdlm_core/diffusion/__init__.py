"""The diffusion itself: schedules, corruption, the training loss, likelihoods."""

from .corrupt import (
    Corrupted,
    corrupt,
    corrupt_counts,
    corrupt_exactly,
    draw_counts,
    rates_of,
)
from .draws import MaskDraw
from .likelihood import (
    Estimate,
    any_order_chain,
    continuous_time,
    exact_counts,
    sizes,
)
from .objective import (
    Draw,
    Loss,
    corrupt_for_training,
    masked_cross_entropy,
    nelbo,
)
from .parameterization import subs
from .schedule import (
    Cosine,
    CosineSquared,
    Geometric,
    LinearSigma,
    LogLinear,
    NoiseSchedule,
)
from .times import Times, draw_times

__all__ = [
    "Corrupted",
    "Cosine",
    "CosineSquared",
    "Draw",
    "Estimate",
    "Geometric",
    "LinearSigma",
    "LogLinear",
    "Loss",
    "MaskDraw",
    "NoiseSchedule",
    "Times",
    "any_order_chain",
    "continuous_time",
    "corrupt",
    "corrupt_counts",
    "corrupt_exactly",
    "corrupt_for_training",
    "draw_counts",
    "draw_times",
    "exact_counts",
    "masked_cross_entropy",
    "nelbo",
    "rates_of",
    "sizes",
    "subs",
]
