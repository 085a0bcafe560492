"""How new rows are spread over canvases, and long queries over windows of columns.

Letters: L columns, N rows of a canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from mdlm_core.errors import UsageError
from mdlm_msa.config import GenerationConfig
from mdlm_msa.layout import capacity, size


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands on each canvas; all of them are alike."""

    shown: int
    """Rows of the input after the query."""
    together: int
    """New rows."""
    canvases: int
    """How many canvases give the rows that are asked for, if all are accepted."""


class Window(NamedTuple):
    """Some columns, from `start` up to `stop`."""

    start: int
    stop: int
    known: int
    """How many of them, at the left, an earlier window has written."""


def windows(columns: int, width: int) -> list[Window]:
    """Return windows over all columns, each overlapping the one before by a quarter.

    Args:
        columns: L.
        width: columns of a window; 0 for a single one. The last one ends at L and may
            overlap by more.
    """
    if not width or width >= columns:
        return [Window(0, columns, 0)]
    found = [Window(0, width, 0)]
    while found[-1].stop < columns:
        end = found[-1].stop
        stop = min(end - width // 4 + width, columns)
        found.append(Window(stop - width, stop, end - (stop - width)))
    return found


def plan(
    columns: int,
    config: GenerationConfig,
    *,
    tokens: int,
    available: int,
    max_rows: int = 0,
) -> Plan:
    """Share out a canvas among the query, rows that are shown and new rows.

    With ``together = 0`` rows that are shown get up to half of the room, and new rows
    the rest of it, however many are asked for: a row does not depend on that.

    Args:
        columns: of a canvas.
        config: `rows`, `together` and `prompt` are read.
        tokens: of a canvas, at most.
        available: rows of the input after the query.
        max_rows: of a canvas, at most; 0 means as many as fit.

    Raises:
        UsageError: if the query or the new rows do not fit.
    """
    room = capacity(tokens, columns)
    if room < 2:
        raise UsageError(
            f"the query has {columns} columns, and a canvas of {tokens} tokens holds "
            f"{room} of its rows; the query and one new row take {size(2, columns)} "
            f"tokens: set --length {size(2, columns)} or more, or --window "
            f"{max(8, (tokens - 2) // 4 - 1)} to write it in parts"
        )
    if max_rows:
        room = max(2, min(room, max_rows))
    others, wanted = room - 1, min(config.prompt, max(0, available))
    if config.together > others:
        raise UsageError(
            f"generation.together is {config.together}, and a canvas has room for "
            f"{others} rows besides the query of {columns} columns"
        )
    together = config.together or others - min(wanted, others // 2)
    return Plan(
        shown=min(wanted, others - together),
        together=together,
        canvases=-(-config.rows // together),
    )


def spread(
    columns: int,
    config: GenerationConfig,
    *,
    tokens: int,
    available: int,
    max_rows: int = 0,
) -> GenerationConfig:
    """Return the settings with `together` decided for just the rows that are asked for.

    They are spread evenly over as few canvases as hold them, so that no row is written
    in vain, and what they leave is given to rows that are shown. A row then depends on
    how many are asked for.

    Args:
        columns: see `plan`.
        config: see `plan`; with `together` it comes back as it is.
        tokens: see `plan`.
        available: see `plan`.
        max_rows: see `plan`.
    """
    if config.together:
        return config
    made = plan(columns, config, tokens=tokens, available=available, max_rows=max_rows)
    return replace(config, together=-(-config.rows // made.canvases))
