"""What a law is: a plain function whose docstring is the law.

A law takes what it is about by name (`policy`, `batch`, `schedule`, ...), raises
`BrokenLaw` with what it saw, and returns nothing. `Subject` says which names there
are. Laws of a kind are the public functions of `laws.<kind>`, in their order there.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Function = Callable[..., None]


class BrokenLaw(AssertionError):
    """A component does not keep a law; the message says what was seen."""


def hold(condition: object, message: str) -> None:
    """Raise `BrokenLaw` with `message` unless `condition` is true."""
    if not condition:
        raise BrokenLaw(message)


def same(found: Tensor, expected: Tensor, what: str) -> None:
    """Hold that two tensors are equal in shape and in every element."""
    hold(
        found.shape == expected.shape,
        f"{what}: shape {tuple(found.shape)} instead of {tuple(expected.shape)}",
    )
    differ = int((found != expected).sum())
    hold(not differ, f"{what}: {differ} of {found.numel()} elements differ")


def close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Hold that two tensors agree to `tolerance`, relative to the largest element."""
    hold(
        found.shape == expected.shape,
        f"{what}: shape {tuple(found.shape)} instead of {tuple(expected.shape)}",
    )
    if not found.numel():
        return
    gap = (found.double() - expected.double()).abs().max().item()
    scale = 1 + expected.double().abs().max().item()
    hold(
        gap <= tolerance * scale,  # false for nan
        f"{what}: differs by {gap:.3g}, allowed is {tolerance * scale:.3g}",
    )


def backward(loss: Tensor) -> None:
    """Compute the gradients of `loss`."""
    torch.autograd.backward(loss)


@contextmanager
def untouched() -> Iterator[None]:
    """Hold that the block draws nothing from the global generators."""
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()
    yield
    hold(torch.equal(torch_state, torch.get_rng_state()), "torch's generator moved on")
    hold(python_state == random.getstate(), "the generator of `random` moved on")
    now = np.random.get_state()
    hold(repr(numpy_state) == repr(now), "numpy's generator moved on")


@dataclass(frozen=True, slots=True)
class Rule:
    """When a law is checked."""

    applies: Callable[[Any], bool] = lambda spec: True
    """Whether the law is meant for a component with this spec."""
    builds: bool = True
    """Whether the component itself is built, and what it requires is needed."""
    costly: bool = False
    """Whether it takes seconds; `check` leaves it out."""


_RULES: dict[Function, Rule] = {}


def rule(
    *,
    applies: Callable[[Any], bool] = lambda spec: True,
    builds: bool = True,
    costly: bool = False,
) -> Callable[[Function], Function]:
    """Say when a law is checked; the function stays as it is. See `Rule`."""

    def note(function: Function) -> Function:
        _RULES[function] = Rule(applies, builds, costly)
        return function

    return note


@dataclass(frozen=True, slots=True)
class Law:
    """A law with what is known about it."""

    kind: str
    function: Function
    rule: Rule

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def text(self) -> str:
        """The sentence that is the law."""
        return " ".join((inspect.getdoc(self.function) or "").split())

    @property
    def arguments(self) -> list[str]:
        """The names of what it is about."""
        return list(inspect.signature(self.function).parameters)


KINDS = (
    "plugin",
    "config",
    "backbone",
    "schedule",
    "masking",
    "sampler",
    "dataset",
    "task",
    "preset",
)
"""The kinds that have laws, in the order in which they are checked."""


def laws_of(kind: str) -> list[Law]:
    """Return the laws of a kind, in the order in which they are written."""
    module = import_module(f"{__package__}.laws.{kind}")
    return [Law(kind, f, _RULES.get(f, Rule())) for f in _functions(module)]


def _functions(module: ModuleType) -> list[Function]:
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]
