"""Bits per residue of held-out rows: a model beside the baselines, on the same rows.

A row is restored given its gaps, the query and k other rows. All laws see the same k
rows. Letters: R rows, L columns, F families, k prompt rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import STATES
from mdlm_msa.data.family import Family
from mdlm_msa.gaps import coverage
from mdlm_msa.identity import nearest_identity
from mdlm_msa.laws import (
    Array,
    background_law,
    copy_law,
    gap_law,
    nats,
    pssm,
    substitution_law,
    uniform,
)
from mdlm_msa.layout import size
from mdlm_msa.scoring.residues import Gaps
from mdlm_msa.scoring.rows import Target, score_rows

from .held_out_table import (
    MODEL,
    PSSM,
    PSSM_ALL,
    PSSM_QUERY,
    Cost,
    HeldOutTable,
    Line,
)

__all__ = [
    "KS",
    "MODEL",
    "PSSM",
    "PSSM_ALL",
    "PSSM_QUERY",
    "Cost",
    "HeldOutTable",
    "Line",
    "evaluate_model",
    "split_rows",
]

KS = (0, 1, 4, 16)
Indices = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""


def split_rows(
    alignment: Alignment,
    noise: Noise,
    *,
    share: float = 0.25,
    most: int = 200,
    min_coverage: float = 0.5,
    max_identity: float = 0.9,
) -> Family:
    """Return a family with a random part of its homologues held out.

    Rows of low coverage, and held-out rows that are like a row to learn from or like
    the query (`id_pair`), are in neither part.

    Args:
        alignment: the query first.
        noise: decides which rows.
        share: of the homologues that is held out.
        most: rows held out at most.
        min_coverage: share of the columns in which a row has a residue, at least.
        max_identity: that a held-out row must be below.
    """
    states = alignment.states
    least = max(min_coverage, 1 / max(1, alignment.length))
    found = np.flatnonzero(coverage(states[1:]) >= least) + 1
    order = np.random.default_rng(noise.integer()).permutation(found)
    count = min(most, int(np.ceil(share * len(found))))
    held, train = np.sort(order[:count]), np.sort(order[count:])
    known = states[np.concatenate([[0], train])]
    held = held[nearest_identity(states[held], known) < max_identity]
    return Family(
        name=alignment.name,
        alignment=alignment,
        train_rows=train,
        held_out_rows=held,
    )


def evaluate_model(
    backbone: Backbone | None,
    families: Mapping[str, Family],
    *,
    ks: Sequence[int] = KS,
    draws: int = 8,
    rows: int = 32,
    noise: Noise,
    schedule: Schedule | None = None,
    longest: int = 0,
    tokens_at_once: int = 16384,
    gaps: Gaps = "given",
    support: bool = False,
    progress: Progress | None = None,
) -> HeldOutTable:
    """Measure a model and all baselines on the same held-out rows.

    Each held-out row gets its own random prompts from the rows to learn from; those
    for a smaller k are the first of those for a larger one. A family that is held out
    whole is divided by `split_rows`, so that there are rows to prompt with. What a row
    costs is an upper bound on its -log2 p for the model, and exact for the baselines.

    Args:
        backbone: the model; None measures the baselines alone.
        families: by name, such as `MSASource.families`.
        ks: numbers of prompt rows besides the query.
        draws: evaluations of each row by the model.
        rows: held-out rows of a family, a random choice; 0 means all.
        noise: decides rows, prompts and masks.
        schedule: the one of training, for a backbone that sees the time.
        longest: tokens of a canvas at most, as the model was trained; 0 means any. A
            family whose canvas would be longer is left out at that k, and said so.
        tokens_at_once: tokens that go through the model together, about.
        gaps: "given" measures residues, knowing where gaps are; "scored" measures all
            21 symbols, and the numbers are bits per column. Laws that saw no row but
            the query then give a gap one half.
        support: whether the model's profile sees all other rows to learn from too.
        progress: called after each batch.

    Raises:
        DataError: if no family has a held-out row.
    """
    costs: list[Cost] = []
    left_out: dict[str, str] = {}
    plans = {}
    for name, family in families.items():
        plan = _plan(name, family, max(ks, default=0), rows, noise, gaps)
        if plan is None:
            left_out[name] = "no held-out row"
        else:
            plans[name] = plan
    if not plans:
        raise DataError(
            f"none of the {len(families)} families has a held-out row; hold out more "
            f"rows, or allow rows that are more alike"
        )
    todo = sum(len(plan.held) for plan in plans.values()) * len(ks)
    done = 0
    for name, plan in plans.items():
        costs += _baselines(name, plan)
        for k in ks:
            reason = _impossible(plan, k, longest)
            if reason:
                left_out[f"{name}, k = {k}"] = reason
                continue
            costs += _given(name, plan, k)
            if backbone is not None:
                found = _model(
                    backbone,
                    plan,
                    k,
                    draws=draws,
                    noise=noise.child("masks", name),
                    schedule=schedule,
                    at_once=tokens_at_once,
                    support=support,
                    progress=_after(progress, done, todo),
                )
                costs.append(_cost(name, MODEL, k, found, plan.residues))
            done += len(plan.held)
    return HeldOutTable(
        costs=tuple(costs), left_out=left_out, seed=noise.child("table").integer()
    )


def _after(
    progress: Progress | None, before: int, todo: int
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda done: progress(before + done, todo)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured in a family."""

    alignment: Alignment
    train: Indices
    held: Indices
    prompts: Indices
    """``(rows, k)`` for the largest k that there are rows for."""
    residues: Array
    """Of each row; all symbols if gaps are scored."""
    gaps: Gaps

    def nats(self, law: Array, held: Indices, shown: Indices) -> Array:
        """Return what a law of columns needs for rows, having seen some."""
        states = self.alignment.states
        chance = gap_law(states[shown]) if self.gaps == "scored" else None
        return nats(law, states[held], chance)[0]


def _plan(
    name: str, family: Family, most: int, rows: int, noise: Noise, gaps: Gaps
) -> _Plan | None:
    alignment = family.alignment
    if family.whole:
        family = split_rows(alignment, noise.child("split", name))
    counted = alignment.is_residue.sum(1)
    held = family.held_out_rows[counted[family.held_out_rows] > 0]
    if not len(held):
        return None
    if 0 < rows < len(held):
        draw = np.random.default_rng(noise.child("rows", name).integer())
        held = np.sort(draw.choice(held, rows, replace=False))
    train = family.train_rows
    chosen = np.zeros((len(held), min(most, len(train))), np.int64)
    for place, row in enumerate(held):
        draw = np.random.default_rng(noise.child("prompt", name, int(row)).integer())
        chosen[place] = draw.permutation(train)[: chosen.shape[1]]
    if gaps == "scored":
        counted = (alignment.states < STATES).sum(1)
    count = counted[held].astype(np.float64)
    return _Plan(alignment, train, held, chosen, count, gaps)


def _impossible(plan: _Plan, k: int, longest: int) -> str:
    """Return why a family cannot be measured with k prompt rows, or nothing."""
    if k > plan.prompts.shape[1]:
        return f"only {plan.prompts.shape[1]} rows to prompt with"
    needed = size(k + 2, plan.alignment.length)
    if longest and needed > longest:
        return f"the canvas would take {needed:,} tokens, and {longest:,} is the most"
    return ""


def _cost(name: str, law: str, k: int | None, nats: Array, residues: Array) -> Cost:
    return Cost(family=name, law=law, k=k, nats=nats, residues=residues)


def _baselines(name: str, plan: _Plan) -> list[Cost]:
    """Return the costs of the laws that look at no prompt."""
    states = plan.alignment.states
    columns = states.shape[1]
    laws = {
        "uniform": uniform(columns),
        "background": background_law(columns),
        "BLOSUM62 of query": substitution_law(states[0]),
        "0.9 copy of query": copy_law(states[0]),
        PSSM_ALL: pssm(states[plan.train]),
    }
    seen = {PSSM_ALL: plan.train}
    none = np.zeros(0, np.int64)
    return [
        _cost(
            name,
            law,
            None,
            plan.nats(table, plan.held, seen.get(law, none)),
            plan.residues,
        )
        for law, table in laws.items()
    ]


def _given(name: str, plan: _Plan, k: int) -> list[Cost]:
    """Return the costs of the laws of k prompt rows."""
    states = plan.alignment.states
    found = np.zeros((2, len(plan.held)))
    for place, row in enumerate(plan.held):
        prompts = plan.prompts[place, :k]
        for which, shown in enumerate((prompts, np.append(prompts, 0))):
            law = pssm(states[shown])
            found[which, place] = plan.nats(law, np.array([row]), shown)[0]
    return [
        _cost(name, PSSM, k, found[0], plan.residues),
        _cost(name, PSSM_QUERY, k, found[1], plan.residues),
    ]


def _model(
    backbone: Backbone,
    plan: _Plan,
    k: int,
    *,
    draws: int,
    noise: Noise,
    schedule: Schedule | None,
    at_once: int,
    support: bool,
    progress: Callable[[int], None] | None,
) -> Array:
    """Return the model's nats of each held-out row, given its gaps and k rows."""
    rows = plan.alignment.rows
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done)

    return score_rows(
        backbone,
        [
            Target(
                rows[row],
                rows[np.append(0, prompts[:k])],
                rows[np.setdiff1d(plan.train, prompts[:k])] if support else None,
            )
            for row, prompts in zip(plan.held, plan.prompts, strict=True)
        ],
        draws=draws,
        noise=noise,
        gaps=plan.gaps,
        batch=max(1, at_once // size(k + 2, rows.shape[1])),
        ids=plan.held.tolist(),
        schedule=schedule,
        done=count,
    ).nats
