"""What a model holds of persons: the nodes of its causal layer, and states of texts.

Letters: B rows, L length, M persons, N rows of text, n nodes, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.draws import measuring
from mdlm_core.tasks.held_out import held_out
from mdlm_personality.data.source import PersonaSource
from mdlm_personality.saved import Trained
from mdlm_personality.traits import TRAITS

from .intervals import Floats

AT_ONCE = 64


def persona_codes(trained: Trained, values: Floats) -> Floats:
    """Return the nodes ``(M, n)`` of persons whose traits are known.

    Args:
        trained: the model.
        values: ``(M, 5)`` traits; NaN is not known.
    """
    traits = torch.tensor(values[:, : len(TRAITS)], dtype=torch.float32)
    known = ~traits.isnan()
    device = trained.device
    with torch.no_grad():
        z = trained.persona.complete(
            traits.nan_to_num(0.0).to(device), known.to(device)
        )
    return np.asarray(z.double().cpu().numpy())


def text_codes(
    trained: Trained, source: PersonaSource, rows: int
) -> tuple[Floats, Floats]:
    """Return mean states of persons' held-out rows, read without a persona.

    The states are those that the head reads, meant over the tokens of a row; the model
    is told nothing, so that what they hold of a person comes from the text. The rows of
    a person are one mean: what is measured on other persons has met none of them.

    Args:
        trained: the model.
        source: the data.
        rows: how many; 0 means all.

    Returns:
        ``(M, D)`` and traits ``(M, 5)``, NaN where one is not known.
    """
    codes: list[Tensor] = []
    owner = torch.from_numpy(source.owners("validation"))
    owners: list[Tensor] = []
    with measuring(trained.backbone):
        for part in held_out(source, rows, at_once=AT_ONCE):
            batch = part.to(trained.device)
            plain = Batch.of(
                batch.tokens,
                frozen=batch.frozen,
                pad=batch.pad,
                sample_id=batch.sample_id,
                documents=batch.documents,
            )
            t = torch.zeros(len(batch), device=batch.tokens.device)
            states = trained.backbone.hidden(plain, t).double()
            free = batch.free.unsqueeze(-1)
            count = free.sum(1).clamp(min=1)
            codes.append(((states * free).sum(1) / count).cpu())
            owners.append(owner[part.sample_id.cpu()])
    persons, place = np.unique(torch.cat(owners).numpy(), return_inverse=True)
    where = torch.from_numpy(place)
    states = torch.cat(codes)
    sums = states.new_zeros(len(persons), states.shape[1]).index_add(0, where, states)
    means = sums / where.bincount(minlength=len(persons)).unsqueeze(1)
    traits = source.table("validation")[persons, : len(TRAITS)]
    return np.asarray(means.numpy()), np.asarray(traits)
