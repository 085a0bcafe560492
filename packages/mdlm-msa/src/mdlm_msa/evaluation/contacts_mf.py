"""Contacts from coupled columns: scores of pairs, mean-field couplings, precision.

Letters: R rows, L columns, S = 21 symbols, the last of them the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdlm_core.errors import DataError
from mdlm_msa.alphabet import GAP_STATE, RESIDUES, STATES, Ids
from mdlm_msa.laws import Array
from mdlm_msa.weights import sequence_weights

from .pairs import one_hot

CONTACT = 8.0
"""Angstrom between C-beta atoms, below which two residues are in contact."""
PSEUDOCOUNT = 0.5


def mean_field(
    states: Ids, weights: Array | None = None, *, pseudocount: float = PSEUDOCOUNT
) -> Array:
    """Return the couplings ``(L, S, L, S)`` of mean-field DCA, zero for the gap.

    ``J = -C^-1`` with ``C_ij(a, b) = f_ij(a, b) - f_i(a) f_j(b)`` over the symbols but
    the last, frequencies being mixed with the uniform law (Morcos et al., 2011,
    "Direct-coupling analysis of residue coevolution", eq. 9). Takes 20 L numbers
    squared of memory: 0.3 GB for L = 300.

    Args:
        states: ``(R, L)``; a letter that is no symbol counts as a gap.
        weights: ``(R,)``; those of `sequence_weights` if not given.
        pseudocount: weight of the uniform law.
    """
    columns = states.shape[1]
    kept = np.minimum(states, GAP_STATE)
    mass = sequence_weights(states) if weights is None else weights
    hot = torch.from_numpy(one_hot(kept, mass).reshape(-1, columns, STATES))
    hot = hot[:, :, :GAP_STATE].reshape(len(hot), -1)
    joint = (hot.T @ hot).double()
    single = joint.diagonal().clone()
    mixed = (1 - pseudocount) * joint + pseudocount / STATES**2
    single = (1 - pseudocount) * single + pseudocount / STATES
    for i in range(columns):
        part = slice(i * GAP_STATE, (i + 1) * GAP_STATE)
        mixed[part, part] = torch.diag(single[part])
    covariance = mixed - torch.outer(single, single)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    couplings = np.zeros((columns, STATES, columns, STATES))
    shape = (columns, GAP_STATE, columns, GAP_STATE)
    couplings[:, :GAP_STATE, :, :GAP_STATE] = -inverse.numpy().reshape(shape)
    return couplings


def pair_scores(couplings: NDArray[np.floating[Any]]) -> Array:
    """Return how strongly columns are coupled, ``(L, L)``, symmetric, diagonal 0.

    In the zero-sum gauge, the Frobenius norm of each block without the gap, less what
    the two columns have with all others (average product correction: Dunn et al.,
    2008, "Mutual information without the influence of phylogeny"; Ekeberg et al., 2013,
    "Improved contact prediction in proteins", eq. 24 and 25).

    Args:
        couplings: ``(L, S, L, S)``.
    """
    columns = len(couplings)
    norm = np.zeros((columns, columns))
    for i in range(columns):
        block = couplings[i].transpose(1, 0, 2).astype(np.float64)  # (L, S, S)
        block = (
            block
            - block.mean(1, keepdims=True)
            - block.mean(2, keepdims=True)
            + block.mean((1, 2), keepdims=True)
        )
        norm[i] = np.sqrt(np.square(block[:, :GAP_STATE, :GAP_STATE]).sum((1, 2)))
    np.fill_diagonal(norm, 0)
    if columns < 3:
        return norm
    mean = norm.sum(1) / (columns - 1)
    total = norm.sum() / (columns * (columns - 1))
    found = norm - np.outer(mean, mean) / total if total > 0 else norm
    np.fill_diagonal(found, 0)
    return found


@dataclass(frozen=True, slots=True)
class Structure:
    """Where the C-beta atoms of the query's columns are."""

    places: Array
    """``(L, 3)`` in Angstrom; nan for a column that the structure does not have."""

    @property
    def distances(self) -> Array:
        """``(L, L)`` in Angstrom; nan where one of the two is not known."""
        found: Array = np.sqrt(
            np.square(self.places[:, None] - self.places[None]).sum(-1)
        )
        return found

    @property
    def known(self) -> int:
        """How many columns have a place."""
        return int(np.isfinite(self.places[:, 0]).sum())


def read_structure(path: Path | str, query: str) -> Structure:
    """Read C-beta places: lines of column (from 1), residue, x, y and z.

    Columns are separated by tabs or spaces; lines with `#` are passed over.

    Args:
        path: the file.
        query: its letters, to which the residues must be the same; `X` fits any.

    Raises:
        DataError: if a line cannot be read, or does not fit the query.
    """
    places = np.full((len(query), 3), np.nan)
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.startswith("#") or not line.strip():
            continue
        cells = line.split()
        try:
            column, residue = int(cells[0]), cells[1]
            place = [float(cell) for cell in cells[2:5]]
        except (IndexError, ValueError):
            place, column, residue = [], 0, ""
        if len(place) != 3:
            raise DataError(
                f"'{path}', line {number}: '{line[:60]}' is not column, residue, x, y, "
                f"z, as in '1 M -36.387 -25.200 7.869'"
            )
        if not 1 <= column <= len(query):
            raise DataError(
                f"'{path}', line {number}: column {column}, and the query has "
                f"{len(query)}"
            )
        letter = query[column - 1]
        if letter in RESIDUES and residue in RESIDUES and letter != residue:
            raise DataError(
                f"'{path}', line {number}: column {column} is {residue}, and the query "
                f"has {letter} there; is it the structure of another protein?"
            )
        places[column - 1] = place
    if not np.isfinite(places).any():
        raise DataError(f"'{path}' has no place of any column")
    return Structure(places)


def precision(
    scores: Array,
    structure: Structure,
    *,
    separation: int = 6,
    per: int = 1,
    contact: float = CONTACT,
) -> float:
    """Return the share of contacts among the L / `per` best pairs: P@L, P@L/5.

    Only pairs that the structure knows are ranked. nan if there are none.

    Args:
        scores: ``(L, L)`` of `pair_scores`.
        structure: of the query.
        separation: |i - j| at least.
        per: 1 for P@L, 5 for P@L/5.
        contact: Angstrom, below which two residues are in contact.
    """
    columns = len(scores)
    distances = structure.distances
    i, j = np.triu_indices(columns, separation)
    known = np.isfinite(distances[i, j])
    i, j = i[known], j[known]
    if not len(i):
        return float("nan")
    best = np.argsort(-scores[i, j], kind="stable")[: max(1, columns // per)]
    return float((distances[i[best], j[best]] < contact).mean())


def random_precision(
    structure: Structure, *, separation: int = 6, contact: float = CONTACT
) -> float:
    """Return the precision of pairs drawn at random: the share of contacts."""
    distances = structure.distances
    i, j = np.triu_indices(len(distances), separation)
    found = distances[i, j]
    found = found[np.isfinite(found)]
    return float((found < contact).mean()) if len(found) else float("nan")


def precisions(scores: Array, structure: Structure) -> dict[str, float]:
    """Return P@L and P@L/5 for |i - j| of at least 6 and 24, by name."""
    return {
        f"P@L{'' if per == 1 else f'/{per}'} |i-j|>={separation}": precision(
            scores, structure, separation=separation, per=per
        )
        for separation in (6, 24)
        for per in (1, 5)
    }
