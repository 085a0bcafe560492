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
from mdlm_personality.conditions import KNOWN, VALUES
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
    """Return mean states of held-out rows, read without a persona, and their traits.

    The states are those that the head reads, meant over the tokens of a row; the model
    is told nothing, so that what they hold of a person comes from the text.

    Args:
        trained: the model.
        source: the data.
        rows: how many; 0 means all.

    Returns:
        ``(N, D)`` and ``(N, 5)``, NaN where a trait is not known.
    """
    codes: list[Tensor] = []
    traits: list[Tensor] = []
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
            known = batch.condition[KNOWN][:, : len(TRAITS)]
            values = batch.condition[VALUES][:, : len(TRAITS)].double()
            traits.append(values.masked_fill(~known, torch.nan).cpu())
    return np.asarray(torch.cat(codes).numpy()), np.asarray(torch.cat(traits).numpy())
