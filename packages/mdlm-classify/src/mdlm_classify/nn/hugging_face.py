"""A language model of transformers that is told the class of a text, or none.

The class comes in twice: its vector is added to the embedding of every token, and it
has a bias of its own for every token of the vocabulary. Both are zero at first, so that
a pretrained model begins as it is; the null class adds nothing.

Letters: B batch, L length, V vocabulary (mask included), D width, E width of the
embedding, C classes, N selected positions.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.interop.hugging_face import (
    HuggingFaceBackbone,
    check,
    check_mask,
    shifts,
)
from mdlm_core.interop.hugging_face_weights import load

from .condition import labels_of, one_hot

if TYPE_CHECKING:
    from mdlm_classify.config import ClassHuggingFaceConfig


class ClassHuggingFace(HuggingFaceBackbone):
    """A `HuggingFaceBackbone` with `classes` classes and the null class.

    It starts without a class; `add_classes` appends some, and leaves what has been
    learned as it is.
    """

    has_null = True

    def __init__(
        self,
        model: nn.Module,
        *,
        mask_id: int,
        causal: bool,
        shift: bool,
        new: bool,
        bias_scale: float,
    ) -> None:
        """Wrap a model; see `HuggingFaceBackbone`.

        Args:
            model: a `PreTrainedModel` with a head over the vocabulary.
            mask_id: the mask.
            causal: whether it was trained to see what is to the left alone.
            shift: whether its state at i is about token i + 1.
            new: whether its weights are new, so that it knows no language yet.
            bias_scale: how many times faster than other weights the biases learn.
        """
        super().__init__(model, mask_id=mask_id, causal=causal, shift=shift)
        self.bias_scale = bias_scale
        self.new = new
        width = int(self.model.get_input_embeddings().embedding_dim)
        self.class_vectors = nn.Parameter(torch.zeros(0, width))
        """``(C, E)``: what a class adds to the embedding of each token."""
        self.class_biases = nn.Parameter(torch.zeros(0, self.vocab_size))
        """``(C, V)``: what a class adds to the logits, over `bias_scale`."""
        self.background = nn.Parameter(torch.zeros(self.vocab_size))
        """``(V,)``: what is added to the logits under every class, and under none."""

    @property
    def classes(self) -> int:
        """C."""
        return len(self.class_vectors)

    @property
    def head(self) -> nn.Module | None:
        """Nothing: the logits are a head's and the biases, not one linear layer."""
        return None

    def add_classes(self, count: int) -> None:
        """Append `count` classes that add nothing yet."""
        for name in ("class_vectors", "class_biases"):
            old = getattr(self, name).detach()
            wider = torch.cat([old, old.new_zeros(count, old.shape[1])])
            setattr(self, name, nn.Parameter(wider))

    def set_biases(
        self, background: Tensor, classes: Tensor, *, shared: bool = True
    ) -> None:
        """Start the biases from the frequencies of tokens.

        A class gets the ratio of its frequencies to those of all text. A model whose
        weights are new gets the frequencies of all text too; a pretrained one knows
        how frequent tokens are.

        Args:
            background: log-probabilities under the null class, ``(V,)`` or only of
                the tokenizer's ids, if the model has rows for more.
            classes: log-probabilities under each class, ``(C, V)`` or fewer as well.
            shared: whether a new model gets the frequencies of all text.
        """
        ids = slice(len(background))
        with torch.no_grad():
            if self.new and shared:
                self.background[ids] = background.to(self.background)
            columns = (classes - background) / self.bias_scale
            self.class_biases[:, ids] = columns.to(self.class_biases)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the embeddings ``(B, L, E)``, the vector of the class added."""
        tokens = super().inputs(batch)["input_ids"]
        embedded: Tensor = self.model.get_input_embeddings()(tokens)
        which = one_hot(labels_of(batch, self.classes), self.classes)
        told = which.to(self.class_vectors) @ self.class_vectors  # (B, E)
        return {"inputs_embeds": embedded + told[:, None].to(embedded)}

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return states ``(B, L, D + C)``; the last C say which class it is.

        Args:
            batch: also read is ``condition["label"]`` ``(B,)``, the class or -1.
            t: not read.
        """
        states = super().hidden(batch, t)
        which = one_hot(labels_of(batch, self.classes), self.classes).to(states)
        return torch.cat([states, which[:, None].expand(-1, batch.length, -1)], -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D + C)``."""
        width = hidden.shape[-1] - self.classes
        states, which = hidden[:, :width], hidden[:, width:]
        head = super().head
        own = self._own_logits(states) if head is None else head(states)
        biases = which.to(self.class_biases) @ self.class_biases * self.bias_scale
        logits: Tensor = own + self.background + biases
        return logits


def build(
    config: ClassHuggingFaceConfig, *, vocab_size: int, mask_id: int, length: int
) -> nn.Module:
    """Return the model at ``config.path``, or a new one, without classes.

    Args:
        config: the settings.
        vocab_size: ids of the tokenizer.
        mask_id: its mask.
        length: L, which learned positions must suffice for.

    Raises:
        ConfigError: if settings and model do not go together.
        CheckpointError: if the model cannot be loaded, or cannot be a backbone.
        MissingExtraError: if transformers is missing.
    """
    check_mask(config, mask_id)
    new = partial(_new, config, vocab_size=vocab_size, mask_id=mask_id, length=length)
    if not config.per_class:
        return new()
    from .per_class import PerClass

    return PerClass(new, vocab_size=vocab_size, mask_id=mask_id)


def _new(
    config: ClassHuggingFaceConfig, *, vocab_size: int, mask_id: int, length: int
) -> ClassHuggingFace:
    """Return one model without classes."""
    model, causal = load(
        config, vocab_size=vocab_size, length=length, sizes=sizes_of(config)
    )
    backbone = ClassHuggingFace(
        model,
        mask_id=mask_id,
        causal=causal,
        shift=shifts(config, model, causal),
        new=config.random,
        bias_scale=config.bias_scale,
    )
    check(backbone, config.path, length)
    return backbone


def sizes_of(config: ClassHuggingFaceConfig) -> dict[str, object]:
    """Return the sizes of a new model, as transformers calls them."""
    return {
        "num_hidden_layers": config.blocks,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": 4 * config.width,
    }
