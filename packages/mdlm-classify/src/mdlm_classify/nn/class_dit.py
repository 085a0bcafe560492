"""A diffusion transformer that is told the class of a text, or none.

The class comes in twice: its vector joins the condition of the adaptive norms, and it
has a bias of its own for every token of the vocabulary. Of the two the biases are the
model of multinomial naive Bayes, and the rest is what the context adds.

Letters: B batch, L length, V vocabulary (mask included), D width, C classes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.nn.dit import DiT

from .condition import labels_of, one_hot, widened

if TYPE_CHECKING:
    from mdlm_classify.config import ClassDiTConfig


class ClassDiT(DiT):
    """A `DiT` with `classes` classes and the null class, which adds nothing.

    It starts without a class; `add_classes` appends some, and leaves what has been
    learned as it is.
    """

    has_null = True

    def __init__(
        self, config: ClassDiTConfig, *, vocab_size: int, mask_id: int, length: int
    ) -> None:
        """Draw new weights from torch's global generator; see `DiT`."""
        super().__init__(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
        self.bias_scale = config.bias_scale
        self.class_vectors: nn.Parameter | None
        """``(C, cond_width)``: what a class adds to the condition of the norms."""
        self.register_parameter("class_vectors", None)

    @property
    def classes(self) -> int:
        """C."""
        return 0 if self.class_vectors is None else len(self.class_vectors)

    def add_classes(self, count: int) -> None:
        """Append `count` classes, their vectors drawn and their biases zero."""
        new = torch.randn(count, self.config.cond_width).to(self.head.weight)
        if self.class_vectors is not None:
            new = torch.cat([self.class_vectors.detach(), new])
        self.class_vectors = nn.Parameter(new)
        self.head = widened(self.head, count)

    def set_biases(
        self, background: Tensor, classes: Tensor, *, shared: bool = True
    ) -> None:
        """Start the head from the frequencies of tokens.

        With zero weights on the states, as in a new model, the law of a token is then
        ``classes[c]`` at every position, whatever the context.

        Args:
            background: ``(V,)`` log-probabilities under the null class.
            classes: ``(C, V)`` log-probabilities under each class.
            shared: whether to set the bias that all classes share, or only what each
                class adds to it.
        """
        with torch.no_grad():
            if shared:
                self.head.bias.copy_(background)
            columns = (classes - background).T / self.bias_scale
            self.head.weight[:, self.config.width :] = columns.to(self.head.weight)

    def context_free(self) -> Tensor:
        """Return ``(C + 1, V)`` float32: what the biases alone say, log-probabilities.

        Row c is the law of a token under class c if the states add nothing, and the
        last row that under the null class. The mask has probability zero.
        """
        columns = self.head.weight[:, self.config.width :].T * self.bias_scale
        biases = torch.cat([columns, columns.new_zeros(1, self.vocab_size)])
        return subs((self.head.bias + biases).float(), self.mask_id)

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return states ``(B, L, D + C)``; the last C say which class it is.

        Args:
            batch: also read is ``condition["label"]`` ``(B,)``, the class or -1.
            t: see `DiT.hidden`.
        """
        states = super().hidden(batch, t)
        if not self.classes:
            return states
        which = one_hot(labels_of(batch, self.classes), self.classes) * self.bias_scale
        return torch.cat(
            [states, which.to(states)[:, None].expand(-1, batch.length, -1)], -1
        )

    def conditioning(self, batch: Batch, t: Tensor | None) -> Tensor:
        """Return the condition of the norms ``(B, cond_width)``."""
        condition = super().conditioning(batch, t)
        if self.class_vectors is None:
            return condition
        which = one_hot(labels_of(batch, self.classes), self.classes)
        return condition + which.to(self.class_vectors) @ self.class_vectors


def build(
    config: ClassDiTConfig, *, vocab_size: int, mask_id: int, length: int
) -> nn.Module:
    """Return a new model without classes, for the catalog."""
    if config.per_class:
        from .per_class import PerClass

        new = partial(
            ClassDiT, config, vocab_size=vocab_size, mask_id=mask_id, length=length
        )  # no function of this one, so that the model can be pickled
        return PerClass(new, vocab_size=vocab_size, mask_id=mask_id)
    return ClassDiT(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
