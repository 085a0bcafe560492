"""Which rows a model wrote, by their headers, and when a row is a copy of another."""

from __future__ import annotations

PREFIX = "mdlm|"
"""How the header of a row begins that a model wrote."""
COPY = 0.95
"""Identity (`id_pair`) above which a row counts as a copy of another."""


def by_model(header: str) -> bool:
    """Return whether a header says that a model wrote its row."""
    return header.lstrip().startswith(PREFIX)
