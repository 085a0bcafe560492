"""One causal language model for each class: log p(text | class) is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import CausalLMClassifier

__all__ = ["CausalLMClassifier"]


def __getattr__(name: str) -> Any:
    """Import the classifier when it is asked for: the task needs no scikit-learn."""
    if name != "CausalLMClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .classifier import CausalLMClassifier

    return CausalLMClassifier
