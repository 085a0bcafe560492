"""Graphs by other methods, to compare with: PC, GES and LiNGAM of causal-learn.

PC and GES give a class of graphs: edges whose direction the data does not decide stay
without one. LiNGAM directs all edges, if noises are not Gaussian. None of them is told
the tiers, so that a direction they agree on is their own finding; all of them assume,
as the fit does, that no common cause is missing from the table.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import MissingExtraError, UnknownNameError

from .tables import Table

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Method = Literal["pc", "ges", "lingam"]
METHODS: tuple[Method, ...] = get_args(Method)
Verdict = Literal["same", "opposite", "undirected", "absent"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a method found."""

    method: Method
    directed: Mask
    """(K, K): row parent, column child."""
    undirected: Mask
    """(K, K), symmetric: joined, in a direction that is not known, or in both."""
    rows: int

    def verdict(self, parent: int, child: int) -> Verdict:
        """Say what became of the edge parent -> child."""
        if self.directed[parent, child]:
            return "same"
        if self.directed[child, parent]:
            return "opposite"
        return "undirected" if self.undirected[parent, child] else "absent"


def cross_check(
    table: Table,
    methods: Sequence[str] = METHODS,
    *,
    alpha: float = 0.01,
    least: float = 0.05,
) -> list[Found]:
    """Run other methods on the rows in which everything is known.

    Args:
        table: values (N, K).
        methods: of pc, ges, lingam.
        alpha: level of the tests of PC (partial correlations, Fisher's z).
        least: standardised weight from which LiNGAM has an edge.

    Raises:
        MissingExtraError: if causal-learn is not installed.
        UnknownNameError: if a method is another one.
        DataError: if too few rows are complete.
    """
    for name in methods:
        if name not in METHODS:
            raise UnknownNameError(
                f"'{name}' is no method to compare with; there are {', '.join(METHODS)}"
            )
    try:
        import causallearn  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "to compare graphs, causal-learn is needed; install it: "
            "pip install 'mdlm-personality[causal]'"
        ) from None
    values = table.complete().standardised().values
    run = {"pc": _pc, "ges": _ges, "lingam": _lingam}
    found = []
    for name in METHODS:
        if name not in methods:
            continue
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of that library, about its own code
            level = alpha if name == "pc" else least
            directed, undirected = run[name](values, level)
        found.append(Found(name, directed, undirected, len(values)))
    return found


def _pc(values: Array, alpha: float) -> tuple[Mask, Mask]:
    from causallearn.search.ConstraintBased.PC import pc

    found = pc(values, alpha=alpha, indep_test="fisherz", show_progress=False)
    return _of_endpoints(found.G.graph)


def _ges(values: Array, _: float) -> tuple[Mask, Mask]:
    from causallearn.search.ScoreBased.GES import ges

    return _of_endpoints(ges(values, score_func="local_score_BIC")["G"].graph)


def _lingam(values: Array, least: float) -> tuple[Mask, Mask]:
    from causallearn.search.FCMBased.lingam import DirectLiNGAM

    model = DirectLiNGAM()
    model.fit(values)
    weight = np.asarray(model.adjacency_matrix_).T  # there [child, parent]
    directed: Mask = np.abs(weight) >= least
    return directed, np.zeros_like(directed)


def _of_endpoints(graph: Any) -> tuple[Mask, Mask]:
    """Return directed and undirected edges of causal-learn's matrix of endpoints.

    i -> j is graph[j, i] = 1 (an arrow head at j) and graph[i, j] = -1 (a tail at i).
    """
    marks = np.asarray(graph)
    directed: Mask = (marks == -1) & (marks.T == 1)
    undirected: Mask = (marks != 0) & (marks == marks.T)
    return directed, undirected


__all__ = ["METHODS", "Found", "Method", "Verdict", "cross_check"]
