"""Pytest fixtures, for those who ask: ``pytest -p mdlm_core.testing.fixtures``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import PackedSource
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.plugins import Plugins

from . import tiny
from .contract import fresh_plugins as _fresh_plugins


@pytest.fixture
def fresh_plugins() -> Callable[..., Plugins]:
    """Give a function: core and the given plugin modules, and nothing else."""
    return _fresh_plugins


@pytest.fixture
def tiny_batch() -> Batch:
    """Give four clean rows, one with a frozen prompt and one with padding."""
    return tiny.tiny_batch()


@pytest.fixture
def tiny_vocab() -> CharTokenizer:
    """Give a tokenizer of ten letters."""
    return tiny.tiny_vocab()


@pytest.fixture
def tiny_source() -> PackedSource:
    """Give a source of random documents over ten letters."""
    return tiny.tiny_source()
