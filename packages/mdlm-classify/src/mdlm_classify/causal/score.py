"""Exact log p(text | class) by causal models: one pass for each window and class.

Letters: N texts, C classes, B rows of a pass, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import labelled
from mdlm_classify.nn.per_class import PerClass
from mdlm_classify.scoring.scores import Scores
from mdlm_classify.windows import batches_of, padded
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Loss
from mdlm_core.diffusion.objective import chunked_nll
from mdlm_core.kernels import modes


def negative_log_likelihood(models: PerClass, batch: Batch) -> Loss:
    """Return -log p(row | its class), summed over rows and their free tokens.

    Differentiable. Each row is read by the model of its class.
    """
    free = batch.free
    nll = chunked_nll(models, models.hidden(batch)[free], batch.tokens[free])
    return Loss(nll.sum(), free.sum(), nll.detach(), free)


def score(
    models: PerClass,
    documents: Sequence[Document],
    *,
    tokens_at_once: int = 16_384,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Return log p(text | class) of N texts under the C classes of `models`.

    The windows of a long text are read one by one, each from the start, and their
    log-probabilities add up.

    Args:
        models: the model of each class.
        documents: the texts; one without a token has probability one.
        tokens_at_once: tokens that go through a model together.
        progress: told how many tokens are done, and of how many.
    """
    classes = models.classes
    total = torch.zeros(len(documents), classes, dtype=torch.float64)
    windows = torch.zeros(len(documents), dtype=torch.int64)
    device = next(models.parameters()).device
    with torch.no_grad(), modes.evaluating(models):
        for owner, rows in batches_of(documents, tokens_at_once, progress):
            batch = padded(rows, device=device)
            windows.index_add_(0, owner, torch.ones_like(owner))
            for c in range(classes):
                told = labelled(batch, torch.full_like(batch.sample_id, c))
                total[:, c].index_add_(0, owner, row_log_likelihood(models, told))
    return Scores(
        log_likelihood=total,
        se=torch.zeros_like(total),
        draws=torch.ones_like(total, dtype=torch.int64),
        tokens=torch.tensor([document.tokens for document in documents]),
        evaluations=windows * classes,
        kept=torch.ones_like(total, dtype=torch.bool),
        exact=True,
    )


def row_log_likelihood(models: PerClass, batch: Batch) -> Tensor:
    """Return log p(row | its class) ``(B,)`` float64, on the CPU."""
    free = batch.free
    nll = chunked_nll(models, models.hidden(batch)[free], batch.tokens[free])
    values = torch.zeros(free.shape, dtype=torch.float64)
    values[free.cpu()] = nll.double().cpu()
    return -values.sum(1)
