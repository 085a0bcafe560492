"""A token and how sure it is, at every position that is asked about."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import MdlmError
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.config import DecodeConfig

from .blocks import Row
from .rules import LATE, sureness
from .states import Source

TURN = 2**16
"""Columns of noise for one evaluation: positions of a block, at most."""


class Proposal(NamedTuple):
    """What the model proposes for the blocks ``(B, S)`` of some rows."""

    tokens: Tensor
    """``(B, S)``: what stands there, where nothing was asked."""
    sure: Tensor
    """``(B, S)`` scores; -inf where nothing was asked."""
    entropy: Tensor | None
    """``(B, S)`` in nats, for the entropy bound."""
    revised: Tensor
    """``(B, S)`` bool: tokens so probable that they replace what was written."""


def propose(
    denoiser: Denoiser,
    source: Source,
    part: Batch,
    rows: list[Row],
    window: Tensor,
    asked: Tensor,
    *,
    settings: DecodeConfig,
    noise: Noise,
    ends: Tensor,
) -> Proposal:
    """Draw a token at each position that is asked about.

    The draw of a position is keyed by the row's sample id, how often the row has been
    evaluated, and the place in the block; so it depends on no other row.

    Args:
        denoiser: draws, by temperature, top-k and top-p.
        source: gives the laws.
        part: the B rows of the canvas.
        rows: what is known about them.
        window: ``(B, S)`` positions of the rows' blocks.
        asked: ``(B, S)`` bool.
        settings: which score, and what is done about ends of text.
        noise: keys every draw.
        ends: ids that end a text.
    """
    now = part.tokens.gather(1, window)
    where = torch.zeros_like(part.pad)
    where[asked.nonzero(as_tuple=True)[0], window[asked]] = True
    place = torch.arange(window.shape[1], device=window.device)
    turns = torch.tensor([row.turn for row in rows], device=window.device)
    columns = turns[:, None] * TURN + place
    count = len(window[asked])
    u = torch.zeros(count, dtype=torch.float64, device=window.device)
    if denoiser.temperature > 0:
        u = noise.child("what").uniform(part.sample_id[:, None], columns)[asked]
    tokens, sure, entropy, probability, start = [], [], [], [], 0
    for law in source.laws(part, where, rows):
        drawn = denoiser.choose(law, u[start : start + len(law)])
        start += len(law)
        tokens.append(drawn)
        sure.append(sureness(settings, law, drawn))
        if settings.entropy_bound > 0:
            entropy.append(torch.special.entr(law.exp()).sum(-1))
        if settings.edit_threshold > 0:
            probability.append(law.gather(-1, drawn[:, None])[:, 0].exp())
    scores = torch.cat(sure)
    drawn = torch.cat(tokens)
    if bool(scores.isnan().any()):
        raise MdlmError(
            "the model gives numbers that are not finite; it has diverged, or its "
            "type has too small a range for its weights"
        )
    if settings.remasking == "random":
        order = noise.child("order").uniform(part.sample_id[:, None], columns)
        scores = order[asked].float()
    if settings.eos == "last":
        scores = torch.where(torch.isin(drawn, ends), scores - LATE, scores)

    def spread(values: Tensor, elsewhere: float) -> Tensor:
        full = torch.full(now.shape, elsewhere, device=now.device)
        return full.masked_scatter(asked, values.float())

    proposed = now.masked_scatter(asked, drawn)
    revised = torch.zeros_like(asked)
    if probability:
        surely = spread(torch.cat(probability), 0.0) >= settings.edit_threshold
        revised = surely & (proposed != now)
    return Proposal(
        proposed,
        spread(scores, -torch.inf),
        spread(torch.cat(entropy), 0.0) if entropy else None,
        revised,
    )
