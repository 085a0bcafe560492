"""Fill what rows of an alignment lack, and draw anew what hardly can be right.

All other residues stay as they are, and so does the query. Letters: R rows, L columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mdlm_core.catalog import Catalog
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Sampler, Schedule
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import BYTE_OF_ID, MASK, Ids, X
from mdlm_msa.config import GenerationConfig
from mdlm_msa.layout import Canvas

from .canvases import Plan, Window, plan, spread, windows
from .demands import demands, rows_to_fill
from .generate import sampler_of
from .holes import Mask, What, holes, unlikely
from .prompts import Prompts
from .wording import of_letters
from .writing import View, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpainted:
    """An alignment with some of its symbols written by a model."""

    alignment: Alignment
    """All rows, in their order; what was not written is as it was given."""
    given: Alignment
    """The input as it was given."""
    written: Mask
    """``(R, L)``: what the model wrote."""
    changed: int
    """How many of these are another symbol than before."""
    shown: dict[int, tuple[int, ...]]
    """For the first row of each canvas, which rows were shown besides the query."""
    config: GenerationConfig
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows in which something was written, from 0, the query."""
        return tuple(np.flatnonzero(self.written.any(1)).tolist())


def inpaint(
    backbone: Backbone,
    alignment: Alignment,
    what: What,
    config: GenerationConfig | None = None,
    *,
    schedule: Schedule,
    length: int,
    columns: Mask | None = None,
    rows: Sequence[int] | None = None,
    below: float = 0.01,
    sampler: Sampler | None = None,
    catalog: Catalog | None = None,
    max_rows: int = 0,
    callback: View | None = None,
) -> Inpainted:
    """Write what is missing in rows of an alignment, given all the rest of them.

    With ``config.together = 1`` a row comes out the same whatever other rows are
    filled; otherwise the rows of a canvas see each other.

    Args:
        backbone: the model.
        alignment: the query first.
        what: gaps; x, the residues X, but not B and Z, of which more is known;
            fragments, the gaps before the first and
            after the last residue of a row; columns, whatever stands in them; unlikely,
            residues whose probability given all others is below `below`. What stands
            for a gap or an X is one of the twenty residues; elsewhere ``config.gaps``
            decides.
        config: how it is written; `rows`, `identity`, `max_similar`, `tries` and
            `freeze` are not read.
        schedule: the one of training.
        length: tokens of a canvas if ``config.length`` is 0.
        columns: ``(L,)``, for what = "columns".
        rows: the rows to fill, from 0; None means all that lack something.
        below: see `what`.
        sampler: instead of the one that ``config.sampler`` names.
        catalog: where the sampler comes from; by default the installed plugins.
        max_rows: of a canvas, as in training; 0 means as many as fit.
        callback: told how canvases fill in.

    Raises:
        UsageError: if a row is not there or is the query, or columns are not given.
        DataError: if nothing is to be filled.
    """
    config = replace(config or GenerationConfig(), freeze="")
    source = alignment.canonical()
    if config.gaps == "template":
        raise UsageError(
            "gaps=template is for new rows; here what is written has gaps=free or none"
        )
    if what in ("gaps", "x", "fragments"):
        config = replace(config, gaps="none")
    targets = rows_to_fill(source, rows)
    noise = Noise(config.seed).child("inpaint")
    parts = windows(source.length, config.window)
    prompts = Prompts(source, config)
    setting = _Setting(backbone, schedule, source, config, parts, noise, prompts)
    if what == "unlikely":
        made = setting.plan(length, 1, max_rows)
        empty = unlikely(
            backbone,
            source,
            targets.tolist(),
            [setting.shown(np.array([row]), made.shown) for row in targets],
            below,
            parts=[slice(window.start, window.stop) for window in parts],
            noise=noise.child("judge"),
            at_once=config.batch,
            schedule=schedule,
        )
    else:
        empty = holes(source, what, columns=columns)
        if what == "x":
            empty &= alignment.rows == X
        empty[np.setdiff1d(np.arange(source.depth), targets)] = False
    lacking = np.flatnonzero(empty.any(1))
    if not len(lacking):
        raise DataError(
            f"'{source.name}' has nothing to fill: no row that may be filled has "
            + {
                "gaps": "a gap",
                "x": "an X",
                "fragments": "a gap at its ends",
                "columns": "a column that was named",
                "unlikely": f"a residue with a probability below {below:g}",
            }[what]
        )
    made = setting.plan(length, len(lacking), max_rows)
    writer = Writer(
        backbone=backbone,
        schedule=schedule,
        sampler=sampler or sampler_of(config, catalog),
        config=config,
        allowed=demands(source.rows[0], config).allowed,
        windows=parts,
        noise=noise.child("sample"),
        view=callback,
    )
    after, shown = alignment.rows.copy(), {}
    groups = [
        lacking[top : top + made.together]
        for top in range(0, len(lacking), made.together)
    ]
    for top in range(0, len(groups), config.batch):
        some = groups[top : top + config.batch]
        canvases = []
        for group in some:
            given = setting.shown(group, made.shown)
            shown[int(group[0])] = tuple(given[1:].tolist())
            free = np.where(empty[group], MASK, source.rows[group]).astype(np.uint8)
            canvases.append(Canvas(np.vstack([source.rows[given], free]), len(given)))
        written = writer.write(canvases, [int(group[0]) for group in some])
        for group, canvas, full in zip(some, canvases, written, strict=True):
            after[group] = np.where(
                empty[group], full[canvas.given :], alignment.rows[group]
            )
    notes = of_letters(alignment, source)
    return Inpainted(
        alignment=_with_rows(alignment, after, empty),
        given=alignment,
        written=empty,
        changed=int((after != alignment.rows).sum()),
        shown=shown,
        config=config,
        notes=(*notes, prompts.note) if prompts.note else tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Setting:
    """What filling and judging have in common."""

    backbone: Backbone
    schedule: Schedule
    source: Alignment
    config: GenerationConfig
    windows: Sequence[Window]
    noise: Noise
    prompts: Prompts

    def plan(self, length: int, rows: int, max_rows: int) -> Plan:
        columns = self.windows[0].stop - self.windows[0].start
        config = replace(self.config, rows=rows)
        tokens, available = self.config.length or length, len(self.prompts)
        config = spread(
            columns, config, tokens=tokens, available=available, max_rows=max_rows
        )
        return plan(
            columns, config, tokens=tokens, available=available, max_rows=max_rows
        )

    def shown(self, group: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the rows that stand above a group: the query, and `count` others."""
        others = np.setdiff1d(np.arange(1, self.source.depth), group)
        noise = self.noise.child("prompt", int(group[0]))
        chosen = self.prompts.choose(count, noise, among=others)
        return np.concatenate([[0], chosen]).astype(np.int64)


def _with_rows(given: Alignment, rows: Ids, written: Mask) -> Alignment:
    """Return an alignment with other symbols where some were written.

    Everything else is spelled as it was, insertions too.
    """
    letters = given.letters
    if letters is not None:
        letters = tuple(
            _respelled(line, rows[i], written[i], i) if written[i].any() else line
            for i, line in enumerate(letters)
        )
    return replace(given, rows=rows, letters=letters)


def _respelled(line: bytes, row: Ids, written: Mask, number: int) -> bytes:
    found = np.frombuffer(line, np.uint8).copy()
    columns = np.flatnonzero((found < ord("a")) | (found > ord("z")))
    if len(columns) != len(row):
        raise DataError(
            f"row {number + 1} is spelled with {len(columns)} columns, and the query "
            f"has {len(row)}"
        )
    found[columns[written]] = BYTE_OF_ID[row[written]]
    return found.tobytes()
