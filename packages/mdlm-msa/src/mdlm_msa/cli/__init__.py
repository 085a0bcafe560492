"""``mdlm msa``: one file per command; heavy imports inside a command's body."""

from __future__ import annotations

import typer

from .align import align
from .chat import chat
from .check import check
from .choose import choose
from .convert import convert
from .eval import evaluate
from .filter import filter_
from .generate import generate
from .inpaint import inpaint
from .inspect import inspect
from .prefer import prefer
from .score import score
from .train import train

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Protein alignments: generate, inpaint, score, train, align, evaluate.",
)


@app.callback()
def group() -> None:
    """Protein alignments: generate, inpaint, score, train, align, evaluate."""


app.command("train")(train)
app.command("score")(score)
app.command("generate")(generate)
app.command("inpaint")(inpaint)
app.command("choose")(choose)
app.command("chat")(chat)
app.command("filter")(filter_)
app.command("subsample", help="The same as filter.")(filter_)
app.command("convert")(convert)
app.command("inspect")(inspect)
app.command("check")(check)
app.command("prefer")(prefer)
app.command("align")(align)
app.command("eval")(evaluate)
