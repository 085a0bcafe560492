"""What each way of drawing times and masks gains, at equal cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mdlm_core.kernels.noise import Noise
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.curves import Curves
from mdlm_llada.sft.density import Density
from mdlm_llada.sft.fit import FITTED, fit_density

from .decompose import Cells, Parts, between_strata, decompose
from .measure import Draws
from .numbers import At, Method, Number, Report

HITS = 2.0
"""How often a token must be hidden, on average, to tell what its own spread is."""


class Recipe(NamedTuple):
    """A way of drawing times and masks, and how to find its variance."""

    name: str
    forwards: int
    law: str
    """The density of times."""
    stratified: bool
    masks: Callable[[Parts], Tensor]
    """Gives A."""


def report(
    draws: Draws,
    *,
    config: TimesConfig,
    batch: int,
    noise: Noise,
    masks: int = 2,
    own: Density | None = None,
) -> Report:
    """Decompose the variance and say what each method takes off.

    P-POTS is judged on rows that its density was not fitted to: each half of the rows
    gets the density of the other half.

    Args:
        draws: the measurement.
        config: how densities are fitted, and the strata.
        batch: rows of a global batch.
        noise: gives the random starts of the fit.
        masks: independent masks of MultiSample.
        own: a density that exists already, for example that of a run.
    """
    strata = config.strata or max(2, math.isqrt(batch))
    rows = len(draws.plain)
    laws: dict[str, list[Density]] = {}
    for name in FITTED:
        laws[name] = fitted(draws, config, name, noise.child(name))
    if own is not None:
        laws["own"] = [own] * rows
    uniform = Density.uniform()
    laws["uniform"] = [uniform] * rows
    recipes = list(_recipes([name for name in laws if name != "uniform"], masks))
    cells = Cells.of(draws)

    def numbers(chosen: Tensor) -> dict[str, Tensor]:
        return {
            **_numbers(cells, laws, recipes, strata, chosen),
            **_tokens(draws.rows(chosen)),
        }

    found = _jackknife(numbers, rows)
    return Report(
        rows=rows,
        times=len(draws.t),
        masks=draws.plain.shape[2],
        batch=batch,
        strata=strata,
        loss=found["loss"],
        a=found["Normal/masks"],
        b=found["Normal/rate"],
        c=found["data"],
        total=found["Normal/variance"],
        alone=found["alone"],
        together=found["together"],
        methods=tuple(
            Method(
                name,
                forwards,
                masks=found[f"{name}/masks"],
                rate=found[f"{name}/rate"],
                variance=found[f"{name}/variance"],
                gain=found[f"{name}/gain"],
                gain_per_row=found[f"{name}/gain_per_row"],
            )
            for name, forwards, *_ in recipes
        ),
        curve=tuple(_curve(draws, cells, laws)),
    )


def fitted(
    draws: Draws, config: TimesConfig, model: Literal["EPR", "AP"], noise: Noise
) -> list[Density]:
    """Return a density for each row, fitted to the rows of the other half."""
    rows = torch.arange(len(draws.plain))
    kind = replace(config, ppots=True, model=model)
    halves = []
    for half in (0, 1):
        losses = draws.plain[rows % 2 != half].clamp(max=config.loss_max)
        curves = Curves(draws.grid.times, losses, draws.grid.shares)
        halves.append(fit_density(kind, curves, noise.child(half)))
    return [halves[row % 2] for row in range(len(rows))]


def _recipes(laws: Sequence[str], masks: int) -> list[Recipe]:
    """Return what is compared."""

    def single(parts: Parts) -> Tensor:
        return parts.single

    def pair(parts: Parts) -> Tensor:
        return parts.pair

    def several(parts: Parts) -> Tensor:
        return parts.single / masks

    found: list[Recipe] = [
        Recipe("Normal", 1, "uniform", False, single),
        Recipe("StraTS", 1, "uniform", True, single),
        Recipe(f"MultiSample-{masks}", masks, "uniform", False, several),
        Recipe("MIRROR", 2, "uniform", False, pair),
    ]
    for law in laws:
        name = "P-POTS of the run" if law == "own" else f"P-POTS ({law})"
        found += [
            Recipe(name, 1, law, False, single),
            Recipe(f"{name} + StraTS", 1, law, True, single),
            Recipe(f"{name} + MIRROR", 2, law, False, pair),
            Recipe(f"{name} + MIRROR + StraTS", 2, law, True, pair),
        ]
    return found


def _numbers(
    cells: Cells,
    laws: Mapping[str, Sequence[Density]],
    recipes: Sequence[Recipe],
    strata: int,
    chosen: Tensor,
) -> dict[str, Tensor]:
    """Return all numbers of a report, from the rows `chosen`."""
    some = cells.rows(chosen)
    parts, taken = {}, {}
    for name, each in laws.items():
        mine = [each[row] for row in chosen.tolist()]
        weight = torch.stack([1 / law.at(cells.grid.times) for law in mine])
        parts[name] = decompose(some, weight)
        taken[name] = between_strata(some, mine, strata)
    normal = parts["uniform"]
    total = normal.single + normal.rate + normal.data
    found = {"loss": (some.mean @ cells.grid.shares).mean(), "data": normal.data}
    for name, forwards, law, stratified, masks in recipes:
        a = masks(parts[law])
        b = parts[law].rate - taken[law] * stratified
        variance = a + b + parts[law].data
        found |= {
            f"{name}/masks": a,
            f"{name}/rate": b,
            f"{name}/variance": variance,
            f"{name}/gain": total / (variance * forwards),
            f"{name}/gain_per_row": total / variance,
        }
    return found


def _tokens(draws: Draws) -> dict[str, Tensor]:
    """Return the integrals over the times of the terms of Theorem 1."""
    whole = (draws.parts.mean(0) * draws.grid.shares[:, None]).sum(0)
    return {"alone": whole[0] + whole[1], "together": whole[2]}


def _jackknife(
    numbers: Callable[[Tensor], dict[str, Tensor]], rows: int
) -> dict[str, Number]:
    """Return each number with its standard error over the choice of rows.

    From the n values that leave one row out: ``(n - 1) / n`` times their sum of squared
    deviations is the variance (Quenouille and Tukey).
    """
    everyone = torch.arange(rows)
    whole = numbers(everyone)
    without = [numbers(everyone[everyone != row]) for row in range(rows)]
    found: dict[str, Number] = {}
    for name, value in whole.items():
        values = torch.stack([part[name] for part in without])
        error = (values.var(correction=0) * (rows - 1)).sqrt()
        found[name] = Number(float(value), float(error))
    return found


def _curve(
    draws: Draws, cells: Cells, laws: Mapping[str, Sequence[Density]]
) -> list[At]:
    split = (draws.t * cells.masks >= HITS).tolist()
    rho, parts = cells.correlation().tolist(), draws.parts.mean(0).tolist()
    densities = {
        name: torch.stack([law.at(draws.grid.times) for law in each]).mean(0).tolist()
        for name, each in laws.items()
        if name != "uniform"
    }
    return [
        At(
            t=t,
            share=float(draws.grid.shares[j]),
            mean=float(cells.mean[:, j].mean()),
            variance=float(cells.single[:, j].mean()),
            context=parts[j][0] if split[j] else math.nan,
            hidden=parts[j][1] if split[j] else math.nan,
            together=parts[j][2],
            correlation=rho[j],
            density={name: values[j] for name, values in densities.items()},
        )
        for j, t in enumerate(draws.t.tolist())
    ]
