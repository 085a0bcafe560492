"""Candidates written by a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import Ids
from mdlm_msa.config import GenerationConfig
from mdlm_msa.generation.generate import generate, sampler_of

from .making import Write

if TYPE_CHECKING:
    from mdlm_core.train import LoadedRun

_SEEDS = 2**31


def writer(
    run: LoadedRun,
    config: GenerationConfig,
    *,
    length: int,
    done: Callable[[int], object] = lambda count: None,
) -> Write:
    """Return a function that writes alignments below a query and a prompt.

    All rows of an alignment are on one canvas, with all rows of the prompt.

    Args:
        run: the model.
        config: steps, sampler, temperature and what else decides how rows are written;
            the numbers of rows and the seed are the caller's.
        length: tokens of a canvas, at most.
        done: told after each alignment.
    """
    sampler = sampler_of(config, run.catalog)

    def write(given: Alignment, rows: int, count: int, noise: Noise) -> list[Ids]:
        found = []
        for k in range(count):
            settings = replace(
                config,
                rows=rows,
                together=rows,
                prompt=given.depth - 1,
                select="top",
                seed=noise.child(k).integer() % _SEEDS,
                draws=0,
            )
            new = generate(
                run.backbone,
                given,
                settings,
                schedule=run.schedule,
                length=length,
                sampler=sampler,
                catalog=run.catalog,
            )
            found.append(new.alignment.rows[1:])
            done(1)
        return found

    return write
