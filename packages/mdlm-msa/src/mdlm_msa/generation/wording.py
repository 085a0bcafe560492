"""What a user is told about new rows: notes, and why there are too few.

Letters: n new rows, L columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids

from .band import EMPTY
from .canvases import Plan
from .prompts import Prompts

if TYPE_CHECKING:
    from .generate import Generated


def of_letters(given: Alignment, source: Alignment) -> list[str]:
    """Return what was met in an input, and what was changed for the model alone.

    Args:
        given: the input.
        source: the same in canonical letters.
    """
    found = [f"{what}: {count}" for what, count in given.notes.items()]
    for what, count in source.notes.items():
        if more := count - given.notes.get(what, 0):
            found.append(f"{what} for the model, not in what is written: {more}")
    return found


def told(
    given: Alignment,
    prompts: Prompts,
    made: Plan,
    *,
    windows: int,
    rows: Sequence[Ids],
    tokens: int,
    trained: int,
) -> tuple[str, ...]:
    """Return what the user should know.

    Args:
        given: the input.
        prompts: which of its rows may be shown, with the settings.
        made: what stands on a canvas.
        windows: of columns.
        rows: n new rows ``(L,)``.
        tokens: of a canvas, at most.
        trained: tokens of a canvas in training.
    """
    source, config = prompts.source, prompts.config
    notes = of_letters(given, source)
    if prompts.note:
        notes.append(prompts.note)
    wanted = min(config.prompt, len(prompts))
    if made.shown < wanted:
        notes.append(
            f"{made.shown} rows of the input are shown at once, and not {wanted}: a "
            f"canvas has room for {made.shown + made.together} rows besides the query, "
            f"and {made.together} of them are new"
            + ("; lower together to show more" if made.together > 1 else "")
        )
    if config.gaps == "template":
        notes.append(
            "the gaps of new rows are copied from rows that were shown; what is said "
            "of gaps is not about the model"
        )
    if tokens > trained:
        notes.append(
            f"canvases have up to {tokens} tokens; the model learned on {trained}"
        )
    if windows > 1:
        notes.append(
            f"{source.length} columns were written in {windows} windows of "
            f"{config.window}; what goes together over more columns than that is lost"
        )
    distinct = len({row.tobytes() for row in rows})
    if distinct < len(rows):
        notes.append(
            f"{len(rows) - distinct} new rows repeat another one; raise the "
            f"temperature or top_p"
        )
    return tuple(notes)


def no_template(prompts: Prompts) -> str:
    """Return why there are no gaps to copy."""
    if prompts.source.depth < 2:
        why = "the input has only the query; give an alignment"
    elif not len(prompts):
        why = f"{prompts.note}; lower min_coverage"
    else:
        why = (
            f"none is: prompt is {prompts.config.prompt}, or there is no room; raise "
            f"prompt or length, or lower together"
        )
    return (
        f"gaps=template takes the gaps of a row that is shown to the model, and {why}, "
        f"or set gaps=free"
    )


def shortfall(found: Generated) -> str:
    """Return why too few rows were accepted, and what can be done."""
    config = found.config
    why = ", ".join(f"{count} {reason}" for reason, count in found.rejected.items())
    low, high = config.identity
    advice = []
    reached = ""
    if found.reached:
        reached = (
            f" The rows that were written are {_range(found.reached)} identical to "
            f"the query"
        )
        if config.max_similar < 1:
            reached += f", {_range(found.reached_nearest)} to a row of the input"
        reached += "."
    if any(reason != EMPTY for reason in found.rejected):
        advice.append(
            f"Identity to the query must be in {low:g} to {high:g}, and to any row of "
            f"the input at most {config.max_similar:g}; widen the band, change the "
            f"temperature, or raise tries ({config.tries})"
        )
    if EMPTY in found.rejected:
        how = {
            "free": "set gaps=none or template, or show the model rows with fewer gaps",
            "none": "allow residues in more columns",
            "template": "raise min_coverage or allow residues in more columns",
        }[config.gaps]
        advice.append(f"A row without a residue is no protein: {how}")
    return (
        f"{len(found.rows)} of {config.rows} rows were accepted out of {found.drawn} "
        f"that were written ({found.acceptance:.1%}): {why}.{reached} "
        + ". ".join(advice)
    )


def _range(values: Sequence[float]) -> str:
    """Return the ends and the middle of some shares."""
    return f"{min(values):.2f} to {max(values):.2f} (median {median(values):.2f})"
