"""What a batch says about personas.

`Batch.condition` holds "traits" ``(B, K)``, the observed columns in the units of the
user, and "known" ``(B, K)`` bool, which of them are. "persona" ``(B, n)``, the nodes of
the causal layer, may be given instead of "traits", by interventions; "known" may then
also be ``(B, n)``, by node. A row of which nothing is known has no persona: that is the
one null, in training and in sampling.

Letters: B batch, K observed columns (the five traits, then labels), n nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mdlm_core.errors import UsageError

from .traits import TRAITS, check_value

VALUES, KNOWN, PERSONA = "traits", "known", "persona"
"""The names in `Batch.condition`."""


def as_condition(
    values: Sequence[float | None],
    labels: Mapping[str, float] | None = None,
    *,
    columns: Sequence[str] = TRAITS,
) -> dict[str, Tensor]:
    """Return the condition ``(1, K)`` of one persona.

    Args:
        values: five traits in [0, 1], None for one that is not known.
        labels: other columns that are known, in their units.
        columns: the names of all K columns, the traits first.

    Raises:
        UsageError: if there are not five values, one is not in [0, 1], or a label is
            no column or not finite.
    """
    if len(values) != len(TRAITS):
        raise UsageError(
            f"a persona has {len(TRAITS)} traits ({', '.join(TRAITS)}), but "
            f"{len(values)} values were given"
        )
    row = torch.zeros(1, len(columns))
    known = torch.zeros(1, len(columns), dtype=torch.bool)
    for index, (name, value) in enumerate(zip(TRAITS, values, strict=True)):
        if value is not None:
            row[0, index] = check_value(name, value)
            known[0, index] = True
    for name, value in (labels or {}).items():
        if name not in columns[len(TRAITS) :]:
            others = ", ".join(columns[len(TRAITS) :]) or "none"
            raise UsageError(
                f"'{name}' is no label of this model; its labels are: {others}"
            )
        if not torch.isfinite(torch.tensor(value)):
            raise UsageError(f"{name} is {value}; it must be a finite number")
        index = list(columns).index(name)
        row[0, index] = value
        known[0, index] = True
    return {VALUES: row, KNOWN: known}
