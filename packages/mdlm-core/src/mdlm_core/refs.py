"""A reference to an object that is not imported yet."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .errors import MdlmError, PluginError


@dataclass(frozen=True, slots=True)
class Ref:
    """Name an object as ``"package.module:attribute"`` without importing it.

    Specs carry references, so that listing components, printing help and
    checking a configuration never import torch.
    """

    target: str

    def __post_init__(self) -> None:
        module, _, attribute = self.target.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), attribute]):
            raise PluginError(
                f"'{self.target}' is no reference; write 'package.module:attribute'"
            )

    @property
    def module(self) -> str:
        """The module part."""
        return self.target.partition(":")[0]

    def load(self) -> Any:
        """Import the module and return the attribute.

        Raises:
            PluginError: if the module cannot be imported or lacks the attribute.
        """
        name, _, attribute = self.target.partition(":")
        try:
            module = import_module(name)
        except MdlmError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"'{self.target}' cannot be imported: {reason}"
            ) from error
        try:
            return getattr(module, attribute)
        except AttributeError as error:
            raise PluginError(f"module '{name}' has no '{attribute}'") from error

    def __str__(self) -> str:
        return self.target
