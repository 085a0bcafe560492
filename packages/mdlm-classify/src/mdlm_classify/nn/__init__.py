"""Backbones that are told the class."""

from .condition import LABEL, NULL, Conditional, labelled

__all__ = ["LABEL", "NULL", "Conditional", "labelled"]
