"""The `mdlm` command: one file per command, errors and exit codes here.

0 is success, 1 a run that failed, 2 usage or configuration, 130 an interrupt.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from mdlm_core import __version__
from mdlm_core.errors import MdlmError

from .group import PluginGroup

__all__ = ["app", "main", "run", "run_module"]

app = typer.Typer(
    cls=PluginGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Masked diffusion language models: train, sample, measure, extend.",
)


def _version(value: bool) -> None:
    if value:
        print(f"mdlm-core {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say it."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error; MDLM_DEBUG=1."),
    ] = False,
) -> None:
    """Hold the options of `mdlm` itself; `run` reads ``--debug`` by itself."""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    raise SystemExit(run(sys.argv[1:]))


def run(
    arguments: Sequence[str], program: typer.Typer | None = None, name: str = "mdlm"
) -> int:
    """Run one command and return its exit code; errors go to stderr.

    Args:
        arguments: what stands behind ``mdlm``; ``--debug`` may stand anywhere.
        program: another command line, which then tells its errors in the same way.
        name: what that is called, for its help.
    """
    debug = "--debug" in arguments or os.environ.get("MDLM_DEBUG") == "1"
    rest = [item for item in arguments if item != "--debug"]
    try:
        command = get_command(program or app)
        code = command.main(rest, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    except KeyboardInterrupt:
        return 130
    except typer.Abort:
        print("aborted", file=sys.stderr)
        return 1
    except SystemExit as stop:
        return _code_of(stop)
    except Exception as error:
        return _report(error, debug)
    return code if isinstance(code, int) else 0


def run_module(
    command: Callable[..., Any], module: str, *, any_option: bool = False
) -> NoReturn:
    """Run the command of ``python -m module`` with this process's arguments and exit.

    Args:
        command: what Typer makes a command of.
        module: the name of the module.
        any_option: whether options that it does not know are left to the command, in
            its context's ``args``.
    """
    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    free = {"allow_extra_args": any_option, "ignore_unknown_options": any_option}
    program.command(context_settings=free)(command)
    raise SystemExit(run(sys.argv[1:], program, f"python -m {module}"))


def _report(error: Exception, debug: bool) -> int:
    """Tell an error on stderr and return the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, MdlmError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if format_message := getattr(error, "format_message", None):
        return _report_usage(error, format_message())
    print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    if not debug:
        print("This is unexpected; --debug shows the traceback.", file=sys.stderr)
    return 1


def _report_usage(error: Exception, message: str) -> int:
    """Tell what Typer has to say about the way a command was called."""
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mdlm"
    text = message[:1].lower() + message[1:].removesuffix(".")
    print(f"error: {text}; see '{path} --help'", file=sys.stderr)
    return 2


def _closed_pipe() -> int:
    """Leave quietly after the reader of our output has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _code_of(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1
