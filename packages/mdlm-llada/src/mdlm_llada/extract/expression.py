"""Arithmetic in a text: found, read and worked out, without running it as a program."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, sub, truediv

from .boxed import last_boxed

_TAG = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "·": "*"})
_ALLOWED = re.compile(r"[0-9+\-*/(). ]+")
_LONGEST = 200
OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
}
"""What an expression may do."""
_SIGN_OF: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}


def find_expression(text: str) -> str | None:
    r"""Return the expression that a text gives as its answer, None without one.

    It is what stands in the last ``<answer>``, or else in the last ``\boxed{}``, or
    else in the last line that is one; what follows an equals sign is left out.
    """
    tagged = _TAG.findall(text)
    boxed = last_boxed(text)
    if tagged:
        parts = [tagged[-1]]
    elif boxed is not None:
        parts = [boxed]
    else:
        parts = list(reversed(text.strip().splitlines()))
    for part in parts:
        plain = _plain(part)
        if _ALLOWED.fullmatch(plain) and any(c.isdigit() for c in plain):
            return plain
    return None


def _plain(text: str) -> str:
    text = text.replace(r"\times", "*").replace(r"\cdot", "*").replace(r"\div", "/")
    text = re.sub(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
    return text.translate(_SIGNS).partition("=")[0].strip().strip("$").strip()


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """Return the value of an expression, exactly, and the numbers that it uses.

    None if it is no expression of whole numbers, + - * / and brackets, or divides by
    zero.
    """
    if len(expression) > _LONGEST or not _ALLOWED.fullmatch(expression):
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        used: list[int] = []
        return _value(tree.body, used), used
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGN_OF:
        left, right = _value(node.left, used), _value(node.right, used)
        return OPERATORS[_SIGN_OF[type(node.op)]](left, right)
    raise ValueError("no arithmetic of whole numbers")
