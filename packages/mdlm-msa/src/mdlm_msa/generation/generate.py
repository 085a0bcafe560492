"""New rows for a query, with or without known homologues, from a trained model.

Letters: R rows of the input, L columns, N rows of a canvas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config.schema import Component
from mdlm_core.errors import MdlmError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Sampler, Schedule
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import DOT, GAP, MASK, Ids, encode
from mdlm_msa.config import GenerationConfig
from mdlm_msa.formats.letters import is_protein
from mdlm_msa.layout import Canvas

from .band import EMPTY, judge
from .canvases import Plan, plan, windows
from .demands import Demands, demands
from .likelihood import row_costs
from .prompts import Prompts
from .wording import no_template, shortfall, told
from .writing import View, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """What is known about a new row."""

    canvas: int
    """On which canvas it was written, from 0."""
    place: int
    """Which of the new rows of that canvas it is, from 0."""
    nfe: int
    """Forward passes of its canvas."""
    identity: float
    """To the query, over columns where both have a residue."""
    nearest: float
    """To the most alike row of the input, the query included."""
    nats: float = float("nan")
    """The bound on -log p of its residues, given its gaps and the rows shown."""
    se: float = float("nan")
    """Its standard error."""
    residues: int = 0
    """How many residues that is."""

    @property
    def nats_per_residue(self) -> float:
        """`nats` over `residues`."""
        return self.nats / self.residues if self.residues else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """New rows, and how they came about."""

    alignment: Alignment
    """The query as it was given, then the new rows, without those of the input."""
    given: Alignment
    """The input as it was given."""
    source: Alignment
    """The input as the model saw it: in canonical letters."""
    rows: tuple[NewRow, ...]
    """About each row of `alignment` after the query."""
    shown: Mapping[int, tuple[int, ...]]
    """For each canvas, which rows of the input were shown besides the query, on it or
    to the profile alone."""
    plan: Plan
    drawn: int
    """Rows that were written, those that were not accepted too."""
    rejected: Mapping[str, int]
    """Why rows were not accepted, and how many."""
    config: GenerationConfig
    length: int
    """Tokens of a canvas, at most."""
    reached: tuple[float, ...] = ()
    """Identity to the query of each written row that has a residue, accepted or not."""
    reached_nearest: tuple[float, ...] = ()
    """The same to the most alike row of the input."""
    notes: tuple[str, ...] = field(default=())
    """What the user should know."""

    @property
    def acceptance(self) -> float:
        """The share of the written rows that was accepted."""
        return 1 - sum(self.rejected.values()) / self.drawn if self.drawn else 0.0


class BudgetError(MdlmError):
    """Too few rows were accepted; `generated` holds those that were."""

    def __init__(self, message: str, generated: Generated) -> None:
        super().__init__(message)
        self.generated = generated


def generate(
    backbone: Backbone,
    alignment: Alignment | str,
    config: GenerationConfig | None = None,
    *,
    schedule: Schedule,
    length: int,
    sampler: Sampler | None = None,
    catalog: Catalog | None = None,
    max_rows: int = 0,
    callback: View | None = None,
) -> Generated:
    """Write new rows below a query.

    A row depends on the seed, its number, the input and the settings, but neither on
    `batch` nor on how many rows are asked for. With an identity band its number is
    that among all rows that are written.

    Args:
        backbone: the model.
        alignment: the query, as a sequence or the first row of an alignment whose
            other rows may be shown to the model.
        config: what is generated, and how.
        schedule: the one of training.
        length: tokens of a canvas if ``config.length`` is 0: as in training.
        sampler: instead of the one that ``config.sampler`` names.
        catalog: where the sampler comes from; by default the installed plugins.
        max_rows: of a canvas, as in training; 0 means as many as fit.
        callback: told how canvases fill in.

    Raises:
        UsageError: if the query is not one, does not fit, or demands contradict.
        BudgetError: if too few rows were accepted after ``config.tries`` times as many
            were written; it holds those that were.
    """
    config = config or GenerationConfig()
    given = _given(alignment)
    source = given.canonical()
    prompts = Prompts(source, config)
    tokens = config.length or length
    parts = windows(source.length, config.window)
    made = plan(
        parts[0].stop - parts[0].start,
        config,
        tokens=tokens,
        available=len(prompts),
        max_rows=max_rows,
    )
    wanted = demands(source.rows[0], config)
    if config.gaps == "template" and not made.shown:
        raise UsageError(no_template(prompts))
    noise = Noise(config.seed).child("generate")
    writer = Writer(
        backbone=backbone,
        schedule=schedule,
        sampler=sampler or sampler_of(config, catalog),
        config=config,
        allowed=wanted.allowed,
        windows=parts,
        noise=noise.child("sample"),
        view=callback,
    )
    found = _Found()
    for numbers in _batches(config, made, found):
        _draw(found, numbers, writer, prompts, wanted, made, noise)
    rows = _scored(found, writer, source, made, schedule, noise) if found.rows else ()
    notes = told(
        given,
        prompts,
        made,
        windows=len(parts),
        rows=found.rows,
        tokens=tokens,
        trained=length,
    )
    result = Generated(
        alignment=_joined(given, found),
        given=given,
        source=source,
        rows=tuple(rows),
        shown={
            number: (*rows.tolist(), *found.support[number].tolist())
            for number, rows in found.shown.items()
        },
        plan=made,
        drawn=found.drawn,
        rejected=dict(found.rejected),
        config=config,
        length=tokens,
        reached=tuple(found.reached),
        reached_nearest=tuple(found.reached_nearest),
        notes=notes,
    )
    if len(found.rows) < config.rows:
        raise BudgetError(shortfall(result), result)
    return result


def sampler_of(config: GenerationConfig, catalog: Catalog | None = None) -> Sampler:
    """Return the sampler that the settings name, with canvases as it takes them."""
    catalog = catalog or load_catalog()
    settings = catalog.component("sampler", config.sampler).config.load()(
        steps=config.steps, batch_size=config.batch
    )
    sampler: Sampler = catalog.build(
        "sampler", Component(name=config.sampler, config=settings)
    )
    return sampler


@dataclass(slots=True)
class _Found:
    """What was accepted so far."""

    rows: list[Ids] = field(default_factory=list)
    about: list[NewRow] = field(default_factory=list)
    shown: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    support: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    drawn: int = 0
    reached: list[float] = field(default_factory=list)
    reached_nearest: list[float] = field(default_factory=list)


def _given(alignment: Alignment | str) -> Alignment:
    if isinstance(alignment, str):
        ids = encode(alignment)
        if not len(ids) or (ids == 255).any():
            place = int((ids == 255).argmax()) if len(ids) else 0
            raise UsageError(
                f"the query has {alignment[place : place + 1]!r} at place {place + 1}; "
                f"write residues in upper case, without spaces"
                if len(ids)
                else "the query is empty; give its residues"
            )
        alignment = Alignment(rows=ids[None], headers=("query",), name="query")
    if not alignment.length or np.isin(alignment.rows[0], (GAP, DOT)).any():
        raise UsageError(
            f"the query of '{alignment.name}' "
            + ("has gaps" if alignment.length else "is empty")
            + "; its columns are its own residues"
        )
    if not is_protein(alignment.query.encode()):
        raise UsageError(
            f"the query of '{alignment.name}' has no residue that is known, only X; "
            f"give the sequence of a protein"
        )
    return alignment


def _batches(
    config: GenerationConfig, made: Plan, found: _Found
) -> Iterator[list[int]]:
    """Yield the numbers of canvases until enough is accepted or the budget is spent."""
    start = 0
    budget = -(-config.rows * config.tries // made.together)
    while start < budget and len(found.rows) < config.rows:
        missing = -(-(config.rows - len(found.rows)) // made.together)
        stop = min(start + min(config.batch, missing), budget)
        yield list(range(start, stop))
        start = stop


def _draw(
    found: _Found,
    numbers: Sequence[int],
    writer: Writer,
    prompts: Prompts,
    wanted: Demands,
    made: Plan,
    noise: Noise,
) -> None:
    """Write canvases, and keep what is accepted, in their order."""
    config, source = writer.config, prompts.source
    shown, supports, canvases = {}, {}, []
    for number in numbers:
        shown[number] = prompts.choose(made.shown, noise.child("prompt", number))
        further = prompts.further(shown[number], noise.child("support", number))
        patterns = source.is_gap[shown[number]]
        rows = _blank(patterns, wanted, made.together, config, noise, number)
        given = source.rows[np.concatenate([[0], shown[number]]).astype(np.int64)]
        support = source.rows[further] if len(further) else None
        canvases.append(Canvas(np.vstack([given, rows]), len(given), support))
        supports[number] = further
    written, passes = writer.evaluated(canvases, numbers)
    for index, number in enumerate(numbers):
        new = written[index][canvases[index].given :]
        verdict = judge(new, source.rows, config)
        for place, reason in enumerate(verdict.reason):
            if len(found.rows) == config.rows:
                return
            found.drawn += 1
            if reason != EMPTY:
                found.reached.append(float(verdict.identity[place]))
                found.reached_nearest.append(float(verdict.nearest[place]))
            if reason:
                found.rejected[reason] += 1
                continue
            found.shown[number] = shown[number]
            found.support[number] = supports[number]
            found.rows.append(new[place])
            found.about.append(
                NewRow(
                    canvas=number,
                    place=place,
                    nfe=int(passes[index]),
                    identity=round(float(verdict.identity[place]), 6),
                    nearest=round(float(verdict.nearest[place]), 6),
                )
            )


def _blank(
    patterns: NDArray[np.bool_],
    wanted: Demands,
    count: int,
    config: GenerationConfig,
    noise: Noise,
    number: int,
) -> Ids:
    """Return rows ``(count, L)`` to write: masks, and what is decided beforehand.

    With gaps=template the gaps are those of one of the rows shown, `patterns`.
    """
    rows = np.repeat(wanted.fixed[None], count, 0)
    if config.gaps == "template":
        u = noise.child("template", number).uniform(torch.zeros(1).long(), count)[0]
        which = (u.numpy() * len(patterns)).astype(np.int64)
        rows[(rows == MASK) & patterns[which]] = GAP
    return rows


def _scored(
    found: _Found,
    writer: Writer,
    source: Alignment,
    made: Plan,
    schedule: Schedule,
    noise: Noise,
) -> list[NewRow]:
    """Return what is known about the rows, with what they cost."""
    config = writer.config
    if not config.draws:
        return found.about
    shown = {
        number: source.rows[np.concatenate([[0], rows]).astype(np.int64)]
        for number, rows in found.shown.items()
    }
    cost = row_costs(
        writer.backbone,
        np.stack(found.rows),
        [shown[row.canvas] for row in found.about],
        support=[source.rows[found.support[row.canvas]] for row in found.about],
        ids=[row.canvas * made.together + row.place for row in found.about],
        draws=config.draws,
        noise=noise.child("score"),
        at_once=config.batch,
        windows=writer.windows,
        schedule=schedule,
    )
    return [
        replace(row, nats=float(nats), se=float(se), residues=int(count))
        for row, nats, se, count in zip(found.about, *cost, strict=True)
    ]


def _joined(given: Alignment, found: _Found) -> Alignment:
    rows = np.vstack([given.rows[:1], *(row[None] for row in found.rows)])
    headers = (given.headers[0], *(f"new {i}" for i in range(1, len(rows))))
    return Alignment(rows=rows, headers=headers, name=given.name)
