"""``mdlm atat``: one file per command; heavy imports inside a command's body."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Adaptive time-aware masking: check, compare, measure, train, data sets.",
)

for _name in ("validate", "train", "ablate", "evaluate"):
    if find_spec(f"mdlm_atat.cli.{_name}") is not None:
        app.command(_name)(getattr(import_module(f"mdlm_atat.cli.{_name}"), _name))
if find_spec("mdlm_atat.cli.datasets") is not None:
    app.add_typer(import_module("mdlm_atat.cli.datasets").app, name="datasets")
