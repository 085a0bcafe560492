"""The class of a row, and a head that knows it.

Letters: B batch, D width, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Backbone

LABEL = "label"
"""The name of the class in `Batch.condition`."""
NULL = -1
"""No class."""


class Conditional(Backbone, Protocol):
    """A backbone that is told the class."""

    has_null: bool
    """Whether it also knows text of no class, label `NULL`."""

    @property
    def classes(self) -> int:
        """C."""
        ...

    def add_classes(self, count: int) -> None:
        """Append classes; what has been learned stays as it is."""
        ...

    def set_biases(
        self, background: Tensor, classes: Tensor, *, shared: bool = True
    ) -> None:
        """Start from log-frequencies of tokens, ``(V,)`` of all text, ``(C, V)``.

        Without `shared` only the classes' own biases are set, for a model that knows
        how frequent tokens are.
        """
        ...


def labelled(batch: Batch, labels: Tensor) -> Batch:
    """Return the batch with the classes `labels` ``(B,)`` int64, -1 for none."""
    condition: Mapping[str, Tensor] = {**batch.condition, LABEL: labels}
    return replace(batch, condition=condition)


def labels_of(batch: Batch, classes: int) -> Tensor:
    """Return the classes ``(B,)`` of a batch; -1, no class, if it does not say.

    Raises:
        UsageError: if there is no such class.
    """
    labels = batch.condition.get(LABEL)
    if labels is None:
        return torch.full((len(batch),), NULL, device=batch.tokens.device)
    wrong = (labels < NULL) | (labels >= classes)
    if bool(wrong.any()):
        raise UsageError(
            f"a row has the class {int(labels[wrong][0])}; the model has {classes}, "
            f"numbered from 0, and {NULL} for none"
        )
    return labels


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return ``(B, C)`` int64 with a one at each label; all zeros for -1."""
    if not classes:
        return labels.new_zeros(len(labels), 0)
    return F.one_hot(labels + 1, classes + 1)[:, 1:]


def widened(head: nn.Linear, count: int) -> nn.Linear:
    """Return a head ``(D + count) -> V`` that gives zero weight to what is new."""
    wide = nn.Linear(head.in_features + count, head.out_features).to(head.weight)
    with torch.no_grad():
        wide.weight[:, : head.in_features] = head.weight
        wide.weight[:, head.in_features :] = 0
        wide.bias.copy_(head.bias)
    return wide
