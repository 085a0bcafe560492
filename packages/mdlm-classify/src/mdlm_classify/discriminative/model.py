"""An encoder of transformers, and a head over the classes on the mean of its states.

The head is that of RoBERTa (Liu et al., 2019, arXiv 1907.11692): a layer, tanh,
dropout, and a layer to the classes. It stands on the mean over the tokens instead of on
a first token, because rows have no special tokens.

Letters: N texts, B rows, L length, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdlm_classify.config import ClassHuggingFaceConfig
from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import NULL, labels_of
from mdlm_classify.nn.hugging_face import sizes_of
from mdlm_classify.windows import batches_of, padded
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.interop.hugging_face import (
    HuggingFaceBackbone,
    check,
    check_mask,
    shifts,
)
from mdlm_core.interop.hugging_face_weights import load
from mdlm_core.kernels import modes

DROPOUT = 0.1


class Head(nn.Module):
    """From the mean state of a row to the logits of the classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(width, classes)

    def forward(self, state: Tensor) -> Tensor:
        """Return logits ``(B, C)`` for states ``(B, D)``."""
        inner = self.dropout(self.dense(self.dropout(state)).tanh())
        logits: Tensor = self.out(inner)
        return logits


class Discriminator(nn.Module):
    """An encoder and a head, and their loss: cross-entropy over the classes."""

    class_weights: Tensor
    """``(C,)`` float32: how much a row of each class counts."""

    def __init__(self, backbone: HuggingFaceBackbone, classes: int) -> None:
        """Put a new head on an encoder.

        Its head over the vocabulary is not used, and not trained.

        Args:
            backbone: the encoder.
            classes: C.
        """
        super().__init__()
        self.backbone = backbone
        backbone.requires_grad_(False)
        backbone.trunk.requires_grad_(True)
        width = int(backbone.model.config.hidden_size)
        self.head = Head(width, classes)
        self.register_buffer("class_weights", torch.ones(classes))

    @property
    def classes(self) -> int:
        """C."""
        return self.head.out.out_features

    def logits(self, batch: Batch) -> Tensor:
        """Return ``(B, C)`` for rows of tokens; gaps and padding are told by masks."""
        states = self.backbone.hidden(batch)
        there = (~batch.pad)[..., None].to(states)
        mean = (states * there).sum(1) / there.sum(1).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the weighted -log p(class | row), summed over rows with a class.

        `draw` is not used. `nll` and `masked` say one number for each such row, at its
        first free token.
        """
        labels = labels_of(batch, self.classes)
        known = labels != NULL
        logits = self.logits(batch).float()
        nll = F.cross_entropy(logits[known], labels[known], reduction="none")
        first = batch.free & (batch.free.cumsum(1) == 1) & known[:, None]
        return Loss(
            total=(nll * self.class_weights[labels[known]]).sum(),
            count=known.sum(),
            nll=nll.detach(),
            masked=first,
        )

    def count(self, batch: Batch) -> Tensor:
        """Return how many rows have a class: what the loss is divided by."""
        return (labels_of(batch, self.classes) != NULL).sum()


def build(
    config: ClassHuggingFaceConfig,
    *,
    vocab_size: int,
    mask_id: int,
    length: int,
    classes: int,
) -> Discriminator:
    """Return the encoder at ``config.path``, or a new one, with a new head.

    Raises:
        ConfigError: if settings and model do not go together.
        CheckpointError: if the model cannot be loaded, or does not see both ways.
        MissingExtraError: if transformers is missing.
    """
    check_mask(config, mask_id)
    model, causal = load(
        config, vocab_size=vocab_size, length=length, sizes=sizes_of(config)
    )
    backbone = HuggingFaceBackbone(
        model, mask_id=mask_id, causal=causal, shift=shifts(config, model, causal)
    )
    check(backbone, config.path, length)
    return Discriminator(backbone, classes)


def log_posterior(
    model: Discriminator,
    documents: Sequence[Document],
    *,
    log_prior: Tensor,
    tokens_at_once: int = 16_384,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return log p(class | text) ``(N, C)`` float64, on the CPU.

    The logits of a long text are the means over its windows, by their tokens.

    Args:
        model: encoder and head.
        documents: the texts.
        log_prior: ``(C,)``: what a text without a token gets.
        tokens_at_once: tokens that go through the model together.
        progress: told how many tokens are done, and of how many.
    """
    device = next(model.parameters()).device
    logits = torch.zeros(len(documents), model.classes, dtype=torch.float64)
    size = torch.zeros(len(documents), 1, dtype=torch.float64)
    with torch.no_grad(), modes.evaluating(model):
        for owner, rows in batches_of(documents, tokens_at_once, progress):
            found = model.logits(padded(rows, device=device)).double().cpu()
            tokens = torch.tensor([[len(row)] for row in rows]).double()
            logits.index_add_(0, owner, found * tokens)
            size.index_add_(0, owner, tokens)
    empty = size == 0
    posterior = (logits / size.masked_fill(empty, 1)).log_softmax(1)
    return torch.where(empty, log_prior.double().log_softmax(0), posterior)
