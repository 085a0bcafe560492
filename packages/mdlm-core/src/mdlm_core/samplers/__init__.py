"""Samplers: functions of one signature that fill the masked positions of a canvas.

``sampler(denoiser, canvas, schedule=, noise=, steps=, callback=)`` returns the filled
tokens and the forward passes of each row; see `protocols.Sampler`. A canvas is a
`Batch` whose tokens hold the mask where to write; `canvas` makes one from a text.
"""

from .analytic import analytic
from .ancestral import ancestral, ddpm, ddpm_cache
from .canvas import canvas
from .confidence import confidence
from .denoiser import Count, Denoiser
from .first_hitting import first_hitting
from .semi_autoregressive import semi_autoregressive
from .text import Texts, sample_text

__all__ = [
    "Count",
    "Denoiser",
    "Texts",
    "analytic",
    "ancestral",
    "canvas",
    "confidence",
    "ddpm",
    "ddpm_cache",
    "first_hitting",
    "sample_text",
    "semi_autoregressive",
]
