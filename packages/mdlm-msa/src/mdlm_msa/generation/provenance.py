"""Rows that say of themselves that a model wrote them, and a record of how.

The header of a new row is ``mdlm|<model>|seed=0|row=3|nll=2.310``, nll in nats per
residue, without a tab or a blank. Beside the file, ``<file>.json`` holds the model, the
settings, which rows were shown, and what is known about each row.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mdlm_core.cache import write_atomic
from mdlm_core.train.state import named_tensors, whole
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import decode
from mdlm_msa.origin import PREFIX

from .generate import Generated, NewRow
from .inpaint import Inpainted
from .recorded import FORMAT, sidecar

if TYPE_CHECKING:
    from mdlm_core.train.runs import LoadedRun

_PACKAGES = ("mdlm-core", "mdlm-msa", "torch", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model wrote rows."""

    name: str
    """In headers: no blank, no tab, no `|`."""
    fingerprint: str
    """A hash of all weights."""
    run: str = ""
    """The folder."""
    checkpoint: str = ""
    weights: str = ""
    step: int = 0

    @classmethod
    def of(cls, loaded: LoadedRun) -> Model:
        """Describe a model that was loaded from a run folder."""
        return cls(
            name=clean(loaded.folder.resolve().name),
            fingerprint=fingerprint(loaded.module),
            run=str(loaded.folder),
            checkpoint=loaded.checkpoint.name,
            weights=loaded.weights,
            step=loaded.step,
        )


def clean(name: str) -> str:
    """Return a name that can stand in a header."""
    kept = "".join(c if c.isprintable() and c not in " |>\t" else "_" for c in name)
    return kept or "model"


def fingerprint(module: nn.Module) -> str:
    """Return a hash of the names and values of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named_tensors(module).items()):
        values = whole(tensor).contiguous().flatten()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def header(row: NewRow, number: int, *, model: str, seed: int) -> str:
    """Return the header of a new row; `number` counts from 1."""
    cost = row.nats_per_residue
    known = f"|nll={cost:.3f}" if math.isfinite(cost) else ""
    return f"{PREFIX}{clean(model)}|seed={seed}|row={number}{known}"


def cost_of(header: str) -> float:
    """Return the nats per residue that a header says, nan if it says none."""
    first = header.split(None, 1)[0] if header.strip() else ""
    parts = first.split("|") if first.startswith(PREFIX) else []
    for part in parts:
        if part.startswith("nll="):
            try:
                return float(part.removeprefix("nll="))
            except ValueError:
                break
    return math.nan


def marked(found: Generated, *, model: str, keep_input: bool = False) -> Alignment:
    """Return the query and the new rows under their headers.

    Args:
        found: the new rows.
        model: its name.
        keep_input: whether the rows of the input stand between them, as given.
    """
    before = found.given if keep_input else found.given.select([0])
    new = found.alignment.rows[1:]
    headers = tuple(
        header(row, i, model=model, seed=found.config.seed)
        for i, row in enumerate(found.rows, start=1)
    )
    letters = before.letters
    if letters is not None:
        letters = (*letters, *(decode(row).encode() for row in new))
    return Alignment(
        rows=np.vstack([before.rows, new]),
        headers=before.headers + headers,
        letters=letters,
        name=before.name,
        comments=before.comments,
        notes=dict(before.notes),
    )


def record(
    found: Generated,
    model: Model,
    *,
    file: str = "",
    sampler: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what is worth keeping about new rows, for JSON.

    Args:
        found: the new rows.
        model: which wrote them.
        file: the name of the file that they are in.
        sampler: its name and all its settings.
        measured: numbers about the rows.
    """
    source = found.given
    told = {row for rows in found.shown.values() for row in rows}
    return {
        **_origin(source, model, file, sampler),
        "prompt": _prompt(found.source, told),
        "what": "rows written by a model; they are no natural proteins",
        "settings": asdict(found.config) | {"length": found.length},
        "canvases": asdict(found.plan),
        "shown": [
            {"canvas": canvas, "rows": [_shown(source, row) for row in rows]}
            for canvas, rows in sorted(found.shown.items())
        ],
        "written": found.drawn,
        "accepted": len(found.rows),
        "acceptance": found.acceptance,
        "rejected": dict(found.rejected),
        "rows": [
            {
                "row": number,
                "header": header(row, number, model=model.name, seed=found.config.seed),
                **{key: _finite(value) for key, value in asdict(row).items()},
            }
            for number, row in enumerate(found.rows, start=1)
        ],
        "notes": list(found.notes),
        "measured": {key: _finite(value) for key, value in (measured or {}).items()},
    }


def marked_inpainted(found: Inpainted, *, model: str) -> Alignment:
    """Return the alignment; rows that the model wrote into say so in their headers."""
    headers = list(found.alignment.headers)
    for row in found.rows:
        count = int(found.written[row].sum())
        mark = f"{PREFIX}{clean(model)}|seed={found.config.seed}|filled={count}"
        headers[row] = f"{mark} {headers[row]}"
    return replace(found.alignment, headers=tuple(headers))


def inpainted_record(
    found: Inpainted,
    model: Model,
    *,
    what: str,
    file: str = "",
    sampler: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what is worth keeping about rows that were filled; see `record`."""
    source = found.given
    told = {row for rows in found.shown.values() for row in rows} | set(found.rows)
    return {
        **_origin(source, model, file, sampler),
        "prompt": _prompt(source.canonical(), told),
        "what": f"rows of which a model wrote a part: {what}",
        "settings": asdict(found.config),
        "shown": [
            {"first": row + 1, "rows": [_shown(source, other) for other in others]}
            for row, others in sorted(found.shown.items())
        ],
        "written": int(found.written.sum()),
        "changed": found.changed,
        "rows": [
            {
                **_shown(source, row),
                "columns": (found.written[row].nonzero()[0] + 1).tolist(),
            }
            for row in found.rows
        ],
        "notes": list(found.notes),
    }


def _origin(
    source: Alignment, model: Model, file: str, sampler: Mapping[str, Any] | None
) -> dict[str, Any]:
    query = source.query
    return {
        "format": FORMAT,
        "file": file,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": sys.version.split()[0]},
        "model": asdict(model),
        "sampler": dict(sampler or {}),
        "query": {
            "name": source.name,
            "header": source.headers[0],
            "residues": len(query),
            "sha256": hashlib.sha256(query.encode()).hexdigest(),
        },
        "input": {"rows": source.depth, "notes": dict(source.notes)},
    }


def write_record(path: Path, what: Mapping[str, Any]) -> Path:
    """Write the record of the file `path` beside it, and return where it is."""
    place = sidecar(path)
    text = json.dumps(what, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(place, f"{text}\n".encode())
    return place


def _prompt(source: Alignment, rows: Collection[int]) -> list[dict[str, Any]]:
    """Return the query and all rows that were shown, once each, as the model saw them.

    So that an evaluation knows them, whatever becomes of the file they were in.
    """
    return [
        {**_shown(source, row), "letters": decode(source.rows[row])}
        for row in sorted({0, *rows})
    ]


def _shown(source: Alignment, row: int) -> dict[str, Any]:
    return {"row": row + 1, "header": source.headers[row]}


def _finite(value: Any) -> Any:
    """Return None for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
