"""Networks: the diffusion transformer and what it is made of."""

from .attention import attend, resolve_backend
from .dit import DiT, build
from .norm import AdaptiveNorm
from .rotary import angles, rotate

__all__ = [
    "AdaptiveNorm",
    "DiT",
    "angles",
    "attend",
    "build",
    "resolve_backend",
    "rotate",
]
