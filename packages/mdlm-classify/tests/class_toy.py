"""A model of classes small enough to enumerate everything it can say.

V = 4: three tokens, and the mask, which is 3. Under each class, and under none, any
canvas has its own law at each position.
"""

from __future__ import annotations

import math
from itertools import permutations

import torch
from torch import Tensor, nn

from mdlm_classify.data.document import Document, of_ids
from mdlm_classify.nn.condition import labels_of
from mdlm_core.data.batch import Batch

V, MASK = 4, 3
LENGTH = 4


class ClassToy(nn.Module):
    """Random logits for every class (the last is none), canvas and position."""

    vocab_size, mask_id, time_conditioned = V, MASK, False
    has_null = True

    def __init__(
        self, classes: int = 3, *, seed: int = 0, scale: float = 1.5, own: float = 1.0
    ) -> None:
        """Draw the tables; `own` is how much of it differs between classes."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = V**LENGTH, LENGTH, V
        shared = torch.randn(1, *shape, generator=generator)
        each = torch.randn(classes + 1, *shape, generator=generator)
        self.table = nn.Parameter(scale * (shared + own * each))
        self.classes = classes
        self.rows = 0
        self.seen: list[Tensor] = []

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        self.rows += len(batch)
        missing = LENGTH - batch.length
        canvas = batch.tokens.masked_fill(batch.pad, 0)
        canvas = torch.nn.functional.pad(canvas, (0, missing))
        self.seen.append(batch.tokens)
        index = (canvas * V ** torch.arange(LENGTH)).sum(1)
        table = self.table[labels_of(batch, self.classes), index]
        return table[:, : batch.length]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.clone()

    def log_prob(self, canvas: list[int], label: int, at: int, token: int) -> float:
        """Return log p(token at position `at` | canvas, class), by hand."""
        index = sum(value * V**place for place, value in enumerate(canvas))
        row = self.table.detach()[label, index, at].double().tolist()
        return row[token] - math.log(sum(math.exp(row[v]) for v in range(MASK)))

    def chain(self, ids: list[int], label: int, order: tuple[int, ...]) -> float:
        """Return log p of restoring the positions of `order`, the rest being seen."""
        canvas = [MASK if i in order else token for i, token in enumerate(ids)]
        total = 0.0
        for at in order:
            total += self.log_prob(canvas, label, at, ids[at])
            canvas[at] = ids[at]
        return total

    def bound(self, ids: list[int], label: int) -> float:
        """Return the mean of the chain over all orders, which is below log p."""
        free = [i for i, token in enumerate(ids) if token != MASK]
        orders = list(permutations(free))
        return sum(self.chain(ids, label, order) for order in orders) / len(orders)


def document(*ids: int, length: int = LENGTH) -> Document:
    """Return a text of these ids in windows of `length`."""
    return of_ids(ids, length=length, mask_id=MASK)


def documents(count: int, *, length: int = LENGTH, seed: int = 0) -> list[Document]:
    """Return texts of random ids, 1 to `length` of them."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        size = int(torch.randint(1, length + 1, (1,), generator=generator))
        ids = torch.randint(0, MASK, (size,), generator=generator).tolist()
        found.append(of_ids(ids, length=LENGTH, mask_id=MASK))
    return found
