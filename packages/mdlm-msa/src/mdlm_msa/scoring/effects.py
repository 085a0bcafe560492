"""Scores of variants: how much more probable a variant is than the query.

Both stand in the place of a homologue, after the rows that are shown, the query among
them. Two scores, both in bits and positive if the variant is the more probable one:

- ``nelbo``: the bound of the query minus that of the variant, under common masks, with
  its standard error; see `differences`. Substitutions are judged together, as one
  protein.
- ``masked-marginal``: the sum over the substitutions of log2 p(new) - log2 p(old), each
  position hidden alone in the query (Meier et al., 2021, "Language models enable
  zero-shot prediction of the effects of mutations on protein function"). One evaluation
  for each position, however many variants; substitutions are taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.stats import spearmanr

from mdlm_core.diffusion.likelihood import draw_error
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_msa.alphabet import STATE_OF, Ids

from .differences import differences
from .rows import Floats, Target, laws_alone
from .variants import Variant

Method = Literal["nelbo", "masked-marginal"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Effects:
    """Scores of n variants."""

    variants: tuple[Variant, ...]
    score: Floats
    """``(n,)`` bits by which the variant is more probable than the query."""
    se: Floats
    """``(n,)`` its standard error from the draws; 0 if there are none."""
    method: Method
    given: int
    """How many rows were shown."""

    def spearman(self) -> tuple[float, int]:
        """Return the rank correlation with what was measured, and of how many.

        nan if fewer than three variants have a measured value, or all are the same.
        """
        pairs = [
            (score, variant.measured)
            for score, variant in zip(self.score, self.variants, strict=True)
            if variant.measured is not None
        ]
        if len(pairs) < 3 or any(
            len(set(side)) == 1 for side in zip(*pairs, strict=True)
        ):
            return math.nan, len(pairs)
        ours, theirs = zip(*pairs, strict=True)
        return float(spearmanr(ours, theirs).statistic), len(pairs)


def score_variants(
    backbone: Backbone,
    query: Ids,
    variants: Sequence[Variant],
    given: Ids,
    *,
    method: Method = "nelbo",
    draws: int = 16,
    noise: Noise,
    batch: int = 8,
    schedule: Schedule | None = None,
    done: Callable[[int], object] = lambda rows: None,
) -> Effects:
    """Score variants of a query given the rows that are shown.

    Args:
        backbone: the denoiser.
        query: ``(L,)``.
        variants: of it.
        given: ``(g, L)`` the shown rows; g may be 0.
        method: "nelbo" or "masked-marginal".
        draws: of "nelbo".
        noise: the generator of this measurement.
        batch: canvases that go through the model together; changes nothing else.
        schedule: the one of training, for a backbone that sees the time.
        done: told how much more is done after each batch: variants in a draw of
            "nelbo" (variants times draws in all), positions otherwise.

    Raises:
        DataError: if there is no variant.
    """
    if not variants:
        raise DataError("there is no variant to score")
    if method == "nelbo":
        values = differences(
            backbone,
            query,
            variants,
            given,
            draws=draws,
            noise=noise,
            batch=batch,
            schedule=schedule,
            done=done,
        )
        difference = torch.from_numpy(values)
        score = difference.mean(1).numpy()
        error = draw_error(difference, stratified=True).numpy()
    else:
        columns = sorted({c for variant in variants for c in variant.columns})
        score, error = np.zeros(len(variants)), np.zeros(len(variants))
        if columns:
            laws = laws_alone(
                backbone,
                Target(query, given),
                columns,
                batch=batch,
                schedule=schedule,
                done=done,
            )
            gain = (
                laws - laws[np.arange(len(columns)), STATE_OF[query[columns]]][:, None]
            )
            row_of = {column: index for index, column in enumerate(columns)}
            for index, variant in enumerate(variants):
                score[index] = sum(
                    gain[row_of[c], STATE_OF[r]]
                    for c, r in zip(variant.columns, variant.residues, strict=True)
                )
    return Effects(
        variants=tuple(variants),
        score=score,
        se=error,
        method=method,
        given=len(given),
    )
