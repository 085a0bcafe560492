"""What ``--condition`` says, and what a task makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from mdlm_core.protocols import Task

Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        help="What the texts are to be like, if the model knows; may be repeated.",
    ),
]


def read_conditions(texts: Sequence[str]) -> dict[str, str]:
    """Return the values by name of ``NAME=VALUE`` texts; a value may hold ``=``.

    Raises:
        UsageError: if a text has another form, or a name is given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name:
            raise UsageError(
                f"--condition '{text}' is not NAME=VALUE, such as label=positive"
            )
        if name in values:
            raise UsageError(
                f"--condition gives '{name}' twice, as '{values[name]}' and as "
                f"'{value.strip()}'; give it once"
            )
        values[name] = value.strip()
    return values


def condition_of(
    task: Task, values: Mapping[str, str], num: int, *, name: str
) -> Mapping[str, Tensor] | None:
    """Return the condition of `num` rows, None if the task knows of none.

    Args:
        task: asked through its method `condition`, if it has one.
        values: what the user said, by name; may be empty.
        num: B.
        name: the task's, for the error.

    Raises:
        UsageError: if there are values, and the task takes none.
    """
    ask = getattr(task, "condition", None)
    if ask is not None:
        condition: Mapping[str, Tensor] = ask(values, num)
        return condition
    if values:
        raise UsageError(
            f"--condition {next(iter(values))}: a model of the task '{name}' takes no "
            f"condition; leave it out"
        )
    return None
