"""``mdlm personality``: one file per command; heavy imports inside the body."""

from __future__ import annotations

import typer

from .counterfactual import counterfactual
from .edit import edit
from .evaluate import evaluate
from .generate import generate
from .graph import graph
from .infer import infer
from .sweep import sweep

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Text of a persona: generate, counterfactual, edit, sweep, graph, evaluate.",
)
app.command("infer")(infer)
app.command("generate")(generate)
app.command("counterfactual")(counterfactual)
app.command("edit")(edit)
app.command("sweep")(sweep)
app.command("graph")(graph)
app.command("evaluate")(evaluate)
