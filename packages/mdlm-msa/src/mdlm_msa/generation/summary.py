"""What new rows add to an alignment, in numbers that need no folding.

Letters: R rows of the input, n new rows, L columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mdlm_msa.weights import neff

from .generate import Generated

DEEP = 20
"""Homologues in the input from which on column statistics are compared."""
_COPY = 0.95


def measure(found: Generated) -> dict[str, Any]:
    """Return the numbers by name; those that need a deep input are left out without.

    Identity is over columns where both rows have a residue; Neff is the sum of sequence
    weights at 80 % identity over all columns.
    """
    source, new = found.source.states, found.alignment.states[1:]
    if not len(new):
        return {}
    own, before = neff(new), neff(source)
    both = neff(np.vstack([source, new]))
    identity = np.array([row.identity for row in found.rows])
    nearest = np.array([row.nearest for row in found.rows])
    numbers: dict[str, Any] = {
        "rows": len(new),
        "neff_new": own,
        "neff_new_per_row": own / len(new),
        "neff_input": before,
        "neff_both": both,
        "neff_gain": both - before,
        "identity_to_query": float(np.median(identity)),
        "identity_low": float(identity.min()),
        "identity_high": float(identity.max()),
        "nearest_to_input": float(np.median(nearest)),
        "copies": float((nearest > _COPY).mean()),
        "gaps": float((new == 20).mean()),
    }
    nats = np.array([row.nats for row in found.rows])
    residues = sum(row.residues for row in found.rows)
    if residues and np.isfinite(nats).all():
        numbers["bits_per_residue"] = float(nats.sum() / residues / np.log(2))
    if len(source) > DEEP:
        from mdlm_msa.evaluation.profile import compare

        numbers["gaps_input"] = float((source[1:] == 20).mean())
        difference = compare(new, source[1:])
        numbers["js"] = difference.js
        numbers["conservation_rho"] = difference.rho
    return numbers


def describe(numbers: dict[str, Any]) -> list[str]:
    """Return the numbers as lines to print."""
    if not numbers:
        return []
    lines = [
        f"Neff {numbers['neff_input']:.1f} -> {numbers['neff_both']:.1f} with the new "
        f"rows (+{numbers['neff_gain']:.1f}; {numbers['neff_new_per_row']:.2f} for "
        f"each new row)",
        f"identity to the query {numbers['identity_to_query']:.0%} (median; "
        f"{numbers['identity_low']:.0%} to {numbers['identity_high']:.0%}), to the "
        f"nearest row of the input {numbers['nearest_to_input']:.0%}; above "
        f"{_COPY:.0%}: {numbers['copies']:.0%} of the rows",
    ]
    gaps = f"gaps {numbers['gaps']:.0%}"
    if "gaps_input" in numbers:
        gaps += f" (input {numbers['gaps_input']:.0%})"
    if "bits_per_residue" in numbers:
        gaps += (
            f"; the model finds them likely to {numbers['bits_per_residue']:.2f} bits "
            f"per residue"
        )
    lines.append(gaps)
    if "js" in numbers:
        lines.append(
            f"columns differ from the input's by {numbers['js']:.3f} bits "
            f"(Jensen-Shannon; rows of one family about 0.03, copies of the query 0.6)"
        )
    return lines
