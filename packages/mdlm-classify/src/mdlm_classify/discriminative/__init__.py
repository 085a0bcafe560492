"""An encoder with a head over the classes: log p(class | text), learned directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import DiscriminativeClassifier

__all__ = ["DiscriminativeClassifier"]


def __getattr__(name: str) -> Any:
    """Import the classifier when it is asked for: the task needs no scikit-learn."""
    if name != "DiscriminativeClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .classifier import DiscriminativeClassifier

    return DiscriminativeClassifier
