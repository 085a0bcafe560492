"""What the parts that use Hugging Face libraries share: the extra, and quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from mdlm_core.errors import MissingExtraError


def require(module: str, what: str) -> ModuleType:
    """Return a module of the extra ``hf``, imported now.

    Raises:
        MissingExtraError: if it is not installed; the message says what needs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the module '{module}' ({error}); "
            "install it with: pip install 'mdlm-core[hf]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the hub's messages on each retry out of the terminal inside the block."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
