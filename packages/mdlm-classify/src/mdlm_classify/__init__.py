"""Text classification by likelihood, with masked diffusion language models.

The classifiers are imported when they are first asked for, so that this stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "CausalLMClassifier": "causal",
    "DiscriminativeClassifier": "discriminative",
    "GenerativeClassifier": "face",
    "LengthTemperature": "calibration",
    "MDLMClassifier": "mdlm",
    "Predictor": "predictor",
    "Scores": "scoring.scores",
    "ScoringConfig": "config",
    "SimpleDiscreteDiffusion": "original",
    "SimpleMaskedDiffusion": "simple",
    "TextClassifier": "face",
    "baseline": "baselines",
    "compare": "side_by_side",
    "load_classifier": "saved",
    "read_texts": "data.texts",
}
"""Which module each public name is in."""

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{where}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
