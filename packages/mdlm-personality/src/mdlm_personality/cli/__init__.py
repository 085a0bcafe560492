"""``mdlm personality``: one file per command; heavy imports inside the body."""

from __future__ import annotations

import typer

from .infer import infer

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Text of a persona: generate, counterfactual, edit, sweep, graph, evaluate.",
)
app.command("infer")(infer)
