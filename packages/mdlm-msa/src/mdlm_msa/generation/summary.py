"""What new rows add to an alignment, in numbers that need no folding.

Letters: R rows of the input, n new rows, L columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import Ids
from mdlm_msa.evaluation.compare import GENERATED, LEAST, beside_baselines
from mdlm_msa.evaluation.generators import MUTATION, NATURAL, PSSM
from mdlm_msa.evaluation.verdict import verdict
from mdlm_msa.identity import Planes, alike
from mdlm_msa.inspection import counted_rows
from mdlm_msa.origin import COPY
from mdlm_msa.weights import sequence_weights

from .generate import Generated
from .prompts import Prompts

ALIKE = 0.8
"""Identity over all columns from which on rows share a weight."""
_BLOCK = 256


def measure(found: Generated) -> dict[str, Any]:
    """Return the numbers by name, and a verdict.

    Identity is over columns where both rows have a residue; Neff is the sum of sequence
    weights at 80 % identity over all columns, on `neff_rows` rows of the input: all, or
    a random choice if they are too many.
    """
    source, new = found.source.states, found.alignment.states[1:]
    if not len(new):
        return {}
    counted = counted_rows(len(source))
    own, before, both = effective(source[counted], new)
    identity = np.array([row.identity for row in found.rows])
    nearest = np.array([row.nearest for row in found.rows])
    numbers: dict[str, Any] = {
        "rows": len(new),
        "neff_new": own,
        "neff_new_per_row": own / len(new),
        "neff_input": before,
        "neff_rows": len(counted),
        "input_rows": len(source),
        "neff_both": both,
        "neff_gain": both - before,
        "identity_to_query": float(np.median(identity)),
        "identity_low": float(identity.min()),
        "identity_high": float(identity.max()),
        "nearest_to_input": float(np.median(nearest)),
        "copies": float((nearest > COPY).mean()),
        "gaps": float((new == 20).mean()),
    }
    nats = np.array([row.nats for row in found.rows])
    residues = sum(row.residues for row in found.rows)
    if residues and np.isfinite(nats).all():
        numbers["bits_per_residue"] = float(nats.sum() / residues / np.log(2))
    return numbers | _beside(found)


def effective(source: Ids, new: Ids) -> tuple[float, float, float]:
    """Return Neff of new rows, of the input, and of both together.

    Every pair of rows is compared once.
    """
    least = math.ceil(ALIKE * source.shape[1] - 1e-9)
    planes = Planes.sorted(np.vstack([source, new]))
    count = len(source)
    one, other = planes.select(slice(0, count)), planes.select(slice(count, None))
    own, before = 1 / sequence_weights(new), 1 / sequence_weights(source)
    across, back = np.zeros(count, np.int64), np.zeros(len(new), np.int64)
    for top in range(0, count, _BLOCK):
        part = slice(top, top + _BLOCK)
        like = alike(one.select(part), other, least)
        across[part] = like.sum(1)
        back += like.sum(0)
    both = (1 / (before + across)).sum() + (1 / (own + back)).sum()
    return float((1 / own).sum()), float((1 / before).sum()), float(both)


def _beside(found: Generated) -> dict[str, Any]:
    """Return how the rows compare with natural rows that the model was not shown.

    Rows that could not have been shown, and those that repeat one that was, are no
    measure of new rows.
    """
    source, new = found.source.states, found.alignment.states[1:]
    seen = sorted({row for rows in found.shown.values() for row in rows})
    told = {row.tobytes() for row in source[[0, *seen]]}
    fit = Prompts(found.source, found.config).places
    unseen = np.array([i for i in fit if source[i].tobytes() not in told], np.int64)
    if len(unseen) < LEAST:
        return {
            "verdict": f"too few natural rows to compare with: {len(unseen)} that the "
            f"model was not shown, and {LEAST} are needed"
        }
    comparison = beside_baselines(
        new,
        source[unseen],
        source[0],
        Noise(found.config.seed).child("summary"),
        known=source[seen],
        shown=source[[0, *seen]],
    )
    said = verdict(comparison)
    numbers: dict[str, Any] = {
        f"{name}_{key}": getattr(line, key)
        for name, line in comparison.lines.items()
        for key in ("js", "rho", "pair_r", "residue_r", "gap_error")
    }
    numbers["unseen"] = len(unseen)
    numbers["verdict"] = said.words
    numbers["better_than_pssm"] = said.better
    numbers["reasons"] = list(said.reasons)
    numbers["rule"] = said.rule
    return numbers


def describe(numbers: dict[str, Any]) -> list[str]:
    """Return the numbers as lines to print."""
    if not numbers:
        return []
    some = ""
    if numbers["neff_rows"] < numbers["input_rows"]:
        some = (
            f", on {numbers['neff_rows']:,} of the {numbers['input_rows']:,} rows of "
            f"the input, drawn at random"
        )
    lines = [
        f"Neff {numbers['neff_input']:.1f} -> {numbers['neff_both']:.1f} with the new "
        f"rows (+{numbers['neff_gain']:.1f}; {numbers['neff_new_per_row']:.2f} for "
        f"each new row){some}",
        f"identity to the query {numbers['identity_to_query']:.0%} (median; "
        f"{numbers['identity_low']:.0%} to {numbers['identity_high']:.0%}), to the "
        f"nearest row of the input {numbers['nearest_to_input']:.0%}; above "
        f"{COPY:.0%}: {numbers['copies']:.0%} of the rows",
    ]
    gaps = f"gaps {numbers['gaps']:.0%}"
    if "bits_per_residue" in numbers:
        gaps += (
            f"; the model finds the rows likely to {numbers['bits_per_residue']:.2f} "
            f"bits per residue, each given what it was shown"
        )
    lines.append(gaps)
    if "unseen" in numbers:
        kinds = (GENERATED, NATURAL, PSSM, MUTATION)
        for what, key in (("columns, JS in bits", "js"), ("pair r", "pair_r")):
            told = ", ".join(
                f"{kind} {numbers[f'{kind}_{key}']:.3f}"
                for kind in kinds
                if f"{kind}_{key}" in numbers
            )
            lines.append(f"against {numbers['unseen']} rows not shown, {what}: {told}")
    lines.append(numbers["verdict"])
    return lines + [f"  {reason}" for reason in numbers.get("reasons", ())]
