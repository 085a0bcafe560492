"""One model for each class, behind the face of one that is told the class.

Letters: B batch, L length, D width, C classes, V vocabulary, N selected positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError

from .condition import NULL, labelled, labels_of, one_hot


class PerClass(nn.Module):
    """C models that share nothing. There is no null class."""

    has_null = False
    time_conditioned: bool

    def __init__(
        self, new: Callable[[], nn.Module], *, vocab_size: int, mask_id: int
    ) -> None:
        """Start without a class.

        Args:
            new: makes the model of one more class: a `Conditional` without classes.
            vocab_size: V.
            mask_id: the mask's id.
        """
        super().__init__()
        self._new = new
        self.vocab_size = vocab_size
        self.mask_id = mask_id
        self.time_conditioned = False
        self.models = nn.ModuleList()

    @property
    def classes(self) -> int:
        """C."""
        return len(self.models)

    def add_classes(self, count: int) -> None:
        """Append `count` new models."""
        device = next((p.device for p in self.parameters()), None)
        self.models.extend(self._new().to(device) for _ in range(count))
        self.time_conditioned = any(
            bool(getattr(model, "time_conditioned", False)) for model in self.models
        )

    def set_biases(
        self, background: Tensor, classes: Tensor, *, shared: bool = True
    ) -> None:
        """Start each model from the log-frequencies ``(C, V)`` of its class.

        Nothing is shared, so that without `shared` the models stay as they are.
        """
        if not shared:
            return
        for model, own in zip(self.models, classes, strict=True):
            cast("Any", model).set_biases(own, own.new_zeros(0, len(own)))

    def context_free(self) -> Tensor | None:
        """Return ``(C + 1, V)``: what each model's biases alone say.

        The last row is zero, because there is no null class. None if the models cannot
        say.
        """
        if not all(hasattr(model, "context_free") for model in self.models):
            return None
        laws = [cast("Any", model).context_free()[-1] for model in self.models]
        return torch.stack([*laws, torch.zeros_like(laws[0])])

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return states ``(B, L, D + C)``; the last C say whose states they are.

        Raises:
            UsageError: if a row has no class.
        """
        labels = labels_of(batch, self.classes)
        if bool((labels < 0).any()):
            raise UsageError(
                "a row has no class, but there is a model for each class and none for "
                "text of no class; train with model.per_class=false for that"
            )
        states: Tensor | None = None
        for c, model in enumerate(self.models):
            rows = (labels == c).nonzero()[:, 0]
            if not len(rows):
                continue
            part = batch.select(rows)
            part = labelled(part, torch.full_like(part.sample_id, NULL))
            own = cast("Any", model).hidden(part, None if t is None else t[rows])
            if states is None:
                states = own.new_zeros(len(batch), *own.shape[1:])
            states = states.index_copy(0, rows, own)
        assert states is not None  # a batch has rows
        if torch.is_grad_enabled():
            states = states + self._idle(labels)
        which = one_hot(labels, self.classes).to(states)
        return torch.cat([states, which[:, None].expand(-1, batch.length, -1)], -1)

    def _idle(self, labels: Tensor) -> Tensor:
        """Return a zero that gives the models without a row a gradient of zero.

        Processes that train together must agree on what has a gradient.
        """
        here = set(labels.tolist())
        idle = [model for c, model in enumerate(self.models) if c not in here]
        total = torch.zeros((), device=labels.device)
        for model in idle:
            total = total + sum(p.sum() for p in model.parameters()) * 0
        return total

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D + C)``, each by its own model."""
        width = hidden.shape[1] - self.classes
        owner = hidden[:, width:].argmax(1)
        logits = hidden.new_zeros(len(hidden), self.vocab_size)
        for c, model in enumerate(self.models):
            rows = (owner == c).nonzero()[:, 0]
            if len(rows):
                own = cast("Any", model).logits(hidden[rows, :width])
                logits = logits.index_copy(0, rows, own.to(logits.dtype))
        return logits
