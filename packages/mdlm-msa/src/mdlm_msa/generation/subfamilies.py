"""An alignment in parts, one for each subfamily, as for proteins of several folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mdlm_core.errors import UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.clusters import clusters


def subfamilies(alignment: Alignment, count: int) -> Iterator[Alignment]:
    """Yield the query with the rows of each of the largest subfamilies.

    Showing a model one subfamily at a time keeps its couplings apart from those of the
    others (AF-Cluster; Wayment-Steele et al., 2024).

    Args:
        alignment: the query first.
        count: subfamilies, at most, from the largest on.

    Raises:
        UsageError: if there is no homologue.
    """
    if alignment.depth < 2:
        raise UsageError(
            f"subfamilies of '{alignment.name}' need homologues, and it has only the "
            f"query; give an alignment"
        )
    labels = clusters(alignment.canonical().states[1:])
    for label in range(min(count, int(labels.max()) + 1)):
        places = np.concatenate([[0], 1 + (labels == label).nonzero()[0]])
        part = alignment.select(places.astype(np.int64))
        yield replace(part, name=f"{alignment.name}.{label + 1}")
