"""Settings of a classifier that begins with a model of transformers, or a new one."""

from __future__ import annotations

from typing import Any

NEW = "new"
"""What stands for a small new model instead of the name of weights."""
FINE_TUNING = {"simple": 5e-5, "causal": 5e-5, "discriminative": 2e-5}
"""The learning rate for weights that are trained already, for each kind of model."""


def begin_with(base_model: str | None, kind: str) -> dict[str, Any]:
    """Return settings by dotted path: the weights, their tokenizer, a gentle rate.

    Args:
        base_model: a folder, or a name on the hub; None for a new model.
        kind: of model, which decides the learning rate for pretrained weights.
    """
    if base_model is None:
        return {"model.random": True}
    return {
        "model.path": base_model,
        "model.random": False,
        "data.tokenizer": base_model,
        "train.lr": FINE_TUNING[kind],
    }


def not_none(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that have a value."""
    return {path: value for path, value in settings.items() if value is not None}
