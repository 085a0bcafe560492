"""Where a text ends."""

from __future__ import annotations

from collections.abc import Sequence


def cut(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first of the strings `stops`; empty ones stop nothing.

    Args:
        text: what a model wrote.
        stops: none of them is in what is returned.
    """
    ends = [end for stop in stops if stop and (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
