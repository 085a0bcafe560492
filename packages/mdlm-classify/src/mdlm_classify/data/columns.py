"""Which columns of a row hold its text and its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdlm_core.errors import DataError

from .labels import listed, near

Record = tuple[object, object, str]
"""A text, a label (None where there is none), and where they stand."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a row."""

    text: str
    """One column, or several joined with +."""
    label: str | None
    """None if there are no labels."""
    subset: str = ""
    split: str = "train"

    def found_in(self, names: Sequence[str], where: str) -> tuple[list[str], str]:
        """Return the columns of the text, and of the label ("" for none).

        Raises:
            DataError: if one is missing; the message lists those that are there.
        """
        parts = [self.text] if self.text in names else self.text.split("+")
        for part, setting in [(p, "text") for p in parts] + [(self.label, "label")]:
            if part is not None and part not in names:
                raise DataError(
                    f"{where} has no column '{part}'{near(part, names)}; its columns "
                    f"are {listed(names)}; name one with data.{setting}"
                    f"{_separator(names)}"
                )
        return parts, self.label or ""


def _separator(names: Sequence[str]) -> str:
    if len(names) == 1:
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            if mark in names[0]:
                way = "as .tsv" if mark == "\t" else "with commas"
                return f" (it seems to be divided by {name}; save it {way})"
    return ""
