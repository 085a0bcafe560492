"""The original's names over what does the work here.

What is heavy is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "LogLinearNoise": "diffusion",
    "MSADataset": "data",
    "MSAGPT_MDLM": "wrapper",
    "MSAPreferenceDataset": "data",
    "ProteinDIT": "model",
    "ProteinDiffusion": "diffusion",
    "ProteinRotary2D": "rotary",
    "compute_diffusion_loss": "diffusion",
    "diffusion_sampling": "strategies",
    "get_diffusion_strategy": "strategies",
    "proteinglm_tokenizer": "tokenization",
}
"""Which module each name is in."""

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
