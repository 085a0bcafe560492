"""``mdlm classify``: one file per command; heavy imports inside a command's body."""

from __future__ import annotations

import typer

from .calibrate import calibrate
from .compare import compare
from .edit import edit
from .evaluate import evaluate
from .explain import explain
from .predict import predict
from .sample import sample
from .simple_diffusion import train_simple_diffusion
from .train import train

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Text classification by likelihood: train, predict, evaluate, compare.",
)
app.command("train")(train)
app.command("predict")(predict)
app.command("evaluate")(evaluate)
app.command("calibrate")(calibrate)
app.command("explain")(explain)
app.command("sample")(sample)
app.command("edit")(edit)
app.command("compare")(compare)
app.command("train-simple-diffusion")(train_simple_diffusion)
