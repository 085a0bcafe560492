"""The texts a command is given, and the model it needs. Imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.errors import UsageError

from .tables import write_bytes

if TYPE_CHECKING:
    from mdlm_classify.predictor import Predictor

GivenTexts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="A text; may be repeated."),
]
Rows = Annotated[
    int, typer.Option("--rows", metavar="N", help="The first texts of --data; 0: all.")
]


def given_texts(
    text: Sequence[str] | None,
    data: str | None,
    settings: Any,
    *,
    column: str | None = None,
    split: str | None = None,
    rows: int = 0,
) -> list[str]:
    """Return the texts of ``--text`` or ``--data``, or the lines of standard input.

    Raises:
        UsageError: if there are two sources, or no text.
        DataError: if the data cannot be read.
    """
    if data is not None:
        from .reading import read

        found = read(data, settings, text=column, split=split, labelled=False).texts
        return list(found[:rows] if rows else found)
    texts = list(text or ()) or [line.rstrip("\r\n") for line in sys.stdin]
    if not texts:
        raise UsageError("there is no text; give --text TEXT, --data F, or lines")
    return texts


def check_sources(text: Sequence[str] | None, data: str | None) -> None:
    """Refuse two sources of texts, and none.

    Raises:
        UsageError: which it is.
    """
    if data is not None and text:
        raise UsageError("--data and --text are two sources of texts; give one")
    if not text and data is None and sys.stdin.isatty():
        raise UsageError("there is no text; give --text TEXT, --data F, or lines")


def masked_diffusion(classifier: Any, run: Path, command: str) -> Predictor:
    """Return what scores the texts of a masked diffusion model.

    Raises:
        UsageError: if the classifier is another kind of model.
    """
    from mdlm_classify.predictor import Predictor

    model = getattr(classifier, "model_", None)
    if isinstance(model, Predictor):
        return model
    raise UsageError(
        f"'mdlm classify {command}' needs a masked diffusion model, and '{run}' is a "
        f"{type(classifier).__name__}; train one with mdlm classify train --model mdlm"
    )


def write_text(out: Path, body: str) -> None:
    """Write a file, wholly or not at all; see `tables.write_bytes`."""
    write_bytes(out, body.encode(errors="replace"))
