"""``mdlm atat``: one file per command; heavy imports inside a command's body."""

from __future__ import annotations

import typer

from . import datasets
from .ablate import ablate
from .evaluate import evaluate
from .train import train
from .validate import validate

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Adaptive time-aware masking: check, compare, measure, train, data sets.",
)
app.command("validate")(validate)
app.command("train")(train)
app.command("ablate")(ablate)
app.command("evaluate")(evaluate)
app.add_typer(datasets.app, name="datasets")
