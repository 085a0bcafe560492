"""Texts from causal models, token by token. Letters: B rows, L length, V vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_classify.nn.condition import labelled
from mdlm_classify.nn.per_class import PerClass
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.kernels import modes
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.noise import Noise


def sample(
    models: PerClass, labels: Tensor, *, length: int, noise: Noise, ids: int
) -> Tensor:
    """Return ``(B, L)`` ids; a row depends on its class, its number and `noise` alone.

    Args:
        models: the model of each class.
        labels: ``(B,)`` int64: the class of each row.
        length: L.
        noise: the generator.
        ids: those that the tokenizer has: the rest is never drawn.
    """
    device = next(models.parameters()).device
    labels = labels.to(device)
    numbers = noise.uniform(torch.arange(len(labels), device=device), length)
    rows = torch.zeros(len(labels), length, dtype=torch.int64, device=device)
    with torch.no_grad(), modes.evaluating(models):
        for place in range(length):
            # What stands at `place` itself is not read.
            batch = labelled(Batch.of(rows[:, : place + 1]), labels)
            logits = models.logits(models.hidden(batch)[:, -1])
            law = subs(logits, models.mask_id)
            law[:, ids:] = -torch.inf
            rows[:, place] = categorical(law, numbers[:, place])
    return rows.cpu()
