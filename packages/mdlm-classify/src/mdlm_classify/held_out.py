"""Held-out texts that are classified during training. Letters: N texts, C classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from mdlm_core.config import RunConfig
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import DataSource
from mdlm_core.tasks.bound import gather

if TYPE_CHECKING:
    from mdlm_classify.data.document import Document
    from mdlm_classify.data.source import LabelledSource


def chosen(source: DataSource, count: int) -> tuple[list[Document], Tensor]:
    """Return `count` held-out texts, spread evenly, and their classes ``(N,)``.

    Args:
        source: a `LabelledSource`.
        count: how many; 0 means all.

    Raises:
        DataError: if there are none.
    """
    documents, labels = cast("LabelledSource", source).documents("validation", count)
    if not documents:
        raise DataError(
            "no text is held out, and the model is measured on such; raise "
            "data.holdout, or set data.validation"
        )
    return documents, labels


def log_loss(log_posterior: Tensor, labels: Tensor) -> float:
    """Return the mean of -log p(its class | text) for ``(N, C)`` and ``(N,)``."""
    own = log_posterior.gather(1, labels[:, None])
    return -float(own.mean())


def mine(documents: list[Document]) -> Tensor:
    """Return which of N texts this process scores; the parts of all are disjoint."""
    from accelerate import PartialState

    state = PartialState()
    return torch.arange(state.process_index, len(documents), state.num_processes)


def everyones(places: Tensor, *values: Tensor) -> list[Tensor]:
    """Return values of all N texts in order, from those of each process.

    Args:
        places: which texts this process has scored.
        values: one entry for each of them.
    """
    parts = gather([(places, *(value.cpu() for value in values))])
    order = torch.cat([part[0] for part in parts]).argsort()
    return [torch.cat(group)[order] for group in list(zip(*parts, strict=True))[1:]]


def selection(accuracy: float, log_loss: float) -> float:
    """Return what decides the best checkpoint: the share of wrong answers.

    A thousandth of the log-loss decides ties.
    """
    return 1 - accuracy + 1e-3 * min(log_loss, 100.0)


def labels_of(run: RunConfig, source: DataSource) -> tuple[str, ...]:
    """Return the names of the classes: of the settings, or else of the data."""
    known: tuple[str, ...] = getattr(run.data.config, "labels", ())
    labels: tuple[str, ...] = known or getattr(source, "labels", ())
    if not labels:
        raise ConfigError(
            f"data.name is {run.data.name}, which has no labels; use "
            f"data.name=labelled-text, or set data.labels"
        )
    return labels
