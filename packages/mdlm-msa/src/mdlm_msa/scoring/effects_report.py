"""Scores of variants as text, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .effects import Effects
from .tables import LINES, csv_text, finite
from .variants import Numbering


def effects_card(effects: Effects, facts: Mapping[str, object]) -> dict[str, Any]:
    """Return the scores of variants for JSON."""
    rank, pairs = effects.spearman()
    return {
        **facts,
        "method": effects.method,
        "given": effects.given,
        "spearman": finite(rank),
        "measured": pairs,
        "variants": [
            dict(zip(_VARIANT, (*line[:1], *map(finite, line[1:])), strict=True))
            for line in _effects(effects)
        ],
    }


_VARIANT = ("variant", "score", "se", "measured")


def _effects(effects: Effects) -> list[list[Any]]:
    return [
        [variant.name, float(score), float(error), variant.measured]
        for variant, score, error in zip(
            effects.variants, effects.score, effects.se, strict=True
        )
    ]


def effects_csv(effects: Effects) -> str:
    """Return one line a variant, in the order of the file."""
    return csv_text([_VARIANT, *_effects(effects)])


def effects_text(effects: Effects, query: Numbering) -> str:
    """Return a table of the variants, the most probable first."""
    lines = [f"{'score, bits':>18}  {'measured':>9}  variant"]
    order = np.argsort(-effects.score, kind="stable")
    for index in order[:LINES]:
        variant, error = effects.variants[index], effects.se[index]
        value = f"{effects.score[index]:+.3f}" + (f" ± {error:.3f}" if error else "")
        known = "" if variant.measured is None else f"{variant.measured:.4g}"
        lines.append(f"{value:>18}  {known:>9}  {variant.name}")
    if len(order) > LINES:
        lines.append(f"... and {len(order) - LINES} more: --out FILE.csv")
    rank, pairs = effects.spearman()
    lines.append("")
    lines.append(
        f"{len(order)} variants of {len(query.letters)} residues, given "
        f"{effects.given} rows, by {effects.method}"
    )
    if pairs:
        known = "cannot be ranked" if math.isnan(rank) else f"{rank:.3f}"
        lines.append(f"Spearman with {pairs} measured values: {known}")
    return "\n".join(lines)
