"""What is trained, how it is measured, and what it can show."""

from .bound import Bound, measure
from .pretrain import MaskedDiffusion, Pretrain, build

__all__ = ["Bound", "MaskedDiffusion", "Pretrain", "build", "measure"]
