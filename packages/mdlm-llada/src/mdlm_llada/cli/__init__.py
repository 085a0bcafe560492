"""``mdlm llada``: one file per command; heavy imports inside a command's body."""

from __future__ import annotations

import typer

from .chat import chat
from .convert import convert
from .eval import evaluate
from .generate import generate
from .infer import infer
from .launch_config import launch_config
from .preprocess import preprocess
from .score import score
from .tiny import tiny
from .variance import variance

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The LLaDA family: preprocess, generate, infer, score, evaluate, convert.",
)
app.command("preprocess")(preprocess)
app.command("launch-config")(launch_config)
app.command("convert")(convert)
app.command("tiny")(tiny)
app.command("score")(score)
app.command("eval")(evaluate)
app.command("generate")(generate)
app.command("chat")(chat)
app.command("infer")(infer)
app.command("variance")(variance)
