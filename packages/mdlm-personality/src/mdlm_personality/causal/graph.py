"""Graphs given by a user: edges by name, networkx graphs, DOT and edge-list files.

The convention of everything causal here: ``mask[i, j]`` and ``A[i, j] != 0`` mean
i -> j, row parent and column child.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mdlm_core.errors import DataError, MissingExtraError, UnknownNameError, UsageError
from mdlm_personality.traits import TRAITS, trait_index

from .order import check_acyclic, topological_order

if TYPE_CHECKING:
    import networkx

_DOT = (".dot", ".gv")
_FILES = (*_DOT, ".csv", ".tsv", ".txt", ".edges")


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge, from cause to effect."""

    parent: str
    child: str
    weight: float | None = None

    def __str__(self) -> str:
        return f"{self.parent} -> {self.child}"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes with names, and the edges between them, without a cycle."""

    names: tuple[str, ...]
    mask: Tensor
    """``(n, n)`` bool: row parent, column child."""

    @classmethod
    def of(cls, names: Sequence[str], edges: Iterable[Edge]) -> Graph:
        """Return the graph of `edges` between nodes called `names`.

        Traits may be given by their first letter.

        Raises:
            UnknownNameError: if an edge names no node; near misses are listed.
            UsageError: if an edge is there twice, or there is a cycle; it is named.
        """
        mask = torch.zeros(len(names), len(names), dtype=torch.bool)
        for edge in edges:
            parent, child = (place(names, name) for name in (edge.parent, edge.child))
            if mask[parent, child]:
                raise UsageError(f"the edge {edge} is there twice; give it once")
            mask[parent, child] = True
        check_acyclic(mask, names)
        return cls(tuple(names), mask)

    def order(self) -> tuple[str, ...]:
        """Return the names, causes first."""
        found = topological_order(self.mask)
        assert found is not None
        return tuple(self.names[i] for i in found.tolist())

    def edges(self, weights: Tensor | None = None) -> list[Edge]:
        """Return the edges, with their entries of `weights` ``(n, n)`` if given."""
        return [
            Edge(
                self.names[i],
                self.names[j],
                None if weights is None else float(weights[i, j]),
            )
            for i, j in self.mask.nonzero().tolist()
        ]


def place(names: Sequence[str], name: str) -> int:
    """Return the node called `name`; a trait may be given by its first letter.

    Raises:
        UnknownNameError: if there is none; near misses are listed.
    """
    if name in names:
        return names.index(name)
    with suppress(UnknownNameError):
        trait = TRAITS[trait_index(name)]
        if trait in names:
            return names.index(trait)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    some = ", ".join([*names[:6], "..."] if len(names) > 6 else names)
    raise UnknownNameError(f"'{name}' is no node of the graph, which has {some}.{hint}")


def read_edges(
    source: str | Path | Iterable[str] | networkx.DiGraph,
) -> list[Edge]:
    """Return the edges of `source`.

    It may be texts such as ``"a -> b"``, ``"a -> b -> c"`` or ``"a,b,0.5"``; one text
    of several lines; a networkx DiGraph, whose edges may have a "weight"; or a file, or
    a single text that is the path of one: DOT (.dot, .gv), or lines as above (.csv,
    .tsv, .txt, .edges). Blank lines, what follows a #, and a head "parent,child" are
    left out.

    Raises:
        UsageError: if a text is no edge.
        DataError: if a file cannot be read, or a line of it is no edge.
        MissingExtraError: if a DOT file is given, and pydot is missing.
    """
    if hasattr(source, "is_directed"):
        return _of_networkx(source)
    if isinstance(source, Path):
        return _of_file(source)
    texts = [source] if isinstance(source, str) else [str(text) for text in source]
    if len(texts) == 1 and texts[0].strip().lower().endswith(_FILES):
        return _of_file(Path(texts[0].strip()))
    lines = [line for text in texts for line in text.splitlines()]
    return [edge for line in lines for edge in _of_line(line, f"'{line}'", UsageError)]


def _of_line(
    line: str, where: str, error: type[UsageError] | type[DataError]
) -> list[Edge]:
    """Return the edges of one line, none if it is blank."""
    text = line.split("#")[0].strip()
    if not text:
        return []
    if "->" in text:
        names = [name.strip().strip('"') for name in text.rstrip(";").split("->")]
        weight = None
        if found := re.fullmatch(r"(.+?)\s*[:,\t]\s*([^:,\t]+)", names[-1]):
            names[-1], weight = found[1].strip(), _number(found[2], where, error)
    else:
        parts = next(csv.reader([text], delimiter="\t" if "\t" in text else ","))
        parts = [part.strip() for part in parts]
        if [part.lower() for part in parts[:2]] == ["parent", "child"]:
            return []
        names = parts[:2] if len(parts) in (2, 3) else []
        weight = _number(parts[2], where, error) if len(parts) == 3 else None
    if len(names) < 2 or not all(names):
        raise error(
            f"{where} is no edge; write cause -> effect, or cause,effect, or "
            f"cause,effect,weight"
        )
    return [Edge(parent, child, weight) for parent, child in itertools.pairwise(names)]


def _number(
    text: str, where: str, error: type[UsageError] | type[DataError]
) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise error(f"{where} has the weight '{text.strip()}', which is no number")
    return value


def _of_file(path: Path) -> list[Edge]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the graph cannot be read: {error}") from None
    if path.suffix.lower() in _DOT:
        return _of_dot(text, path)
    edges = []
    for number, line in enumerate(text.splitlines(), 1):
        edges += _of_line(line, f"{path}, line {number}: '{line}'", DataError)
    if not edges:
        raise DataError(f"{path} has no edge; write one per line, cause -> effect")
    return edges


def _of_dot(text: str, path: Path) -> list[Edge]:
    try:
        import pydot
    except ImportError:
        raise MissingExtraError(
            f"{path}: DOT files need pydot; install it: "
            f"pip install 'mdlm-personality[dot]', or write lines 'cause -> effect' "
            f"into a .txt file"
        ) from None
    said = io.StringIO()  # what is wrong is printed, and not raised
    with warnings.catch_warnings(), redirect_stdout(said):
        warnings.simplefilter("ignore", DeprecationWarning)  # about its own parser
        graphs = pydot.graph_from_dot_data(text)
    if not graphs:
        wrong = " ".join(said.getvalue().split())
        raise DataError(f"{path} is no DOT file that pydot can read: {wrong}")
    if graphs[0].get_type() != "digraph":
        raise DataError(f"{path} is an undirected graph; write digraph and ->")
    import networkx

    return _of_networkx(networkx.DiGraph(networkx.nx_pydot.from_pydot(graphs[0])))


def _of_networkx(graph: networkx.DiGraph) -> list[Edge]:
    if not graph.is_directed():
        raise UsageError("the graph is undirected; give a networkx.DiGraph")
    edges = []
    for parent, child, data in graph.edges(data=True):
        names = [str(name).strip('"') for name in (parent, child)]
        weight = data.get("weight", data.get("label"))
        text = "" if weight is None else str(weight).strip('"')
        where = f"the edge {names[0]} -> {names[1]}"
        edges.append(Edge(names[0], names[1], _number(text, where, UsageError)))
    return edges
