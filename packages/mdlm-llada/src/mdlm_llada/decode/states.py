"""Where the laws of a block come from: the whole canvas, or a part and a cache.

Letters: B rows, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.config import DecodeConfig

from .blocks import Row, kept_columns
from .cached import Cached, Fed, around_block, behind_settled, has_holes


class Source(Protocol):
    """Gives the laws at chosen positions of some rows."""

    def laws(self, part: Batch, where: Tensor, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Yield ``(n, V)`` laws at the positions `where` ``(B, L)``, in their order.

        `part` are the canvas rows of `rows`, padded behind them.
        """
        ...


class Whole:
    """The model sees and computes the whole canvas at every step: any backbone."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def laws(self, part: Batch, where: Tensor, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Yield the laws."""
        yield from self.denoiser.laws(part, where)


class Trimmed:
    """As `Whole`, but the last layer computes the blocks in work alone.

    The backbone has ``states(tokens, positions=, see=, keep=)``.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.backbone = cast("Any", denoiser.backbone)
        self.shift = int(self.backbone.architecture.shift)

    def laws(self, part: Batch, where: Tensor, rows: Sequence[Row]) -> Iterator[Tensor]:
        """Yield the laws."""
        keep = kept_columns(rows, [0] * len(rows), self.shift)
        short = any(row.length < part.length for row in rows)
        places = torch.arange(part.length, device=part.tokens.device)
        states = self.backbone.states(
            part.tokens,
            positions=places.expand(part.tokens.shape),
            see=~part.pad[:, None, None, :] if short else None,
            keep=keep,
        )
        owner, place = where.nonzero(as_tuple=True)
        column = (place - self.shift).clamp(min=0) - keep.start
        self.denoiser.count.calls += 1
        self.denoiser.count.rows += len(rows)
        yield from self.denoiser.laws_of(states[owner, column])


def source(
    denoiser: Denoiser, canvas: Batch, settings: DecodeConfig, *, capacity: int
) -> Source:
    """Return where laws come from, by the settings and the kind of model.

    Raises:
        UsageError: if a cache is asked for that does not go with the model, with its
            guidance or with the canvas.
    """
    size = causal_block(denoiser)
    name = f"sampler.cache={settings.cache}" if not size else "block diffusion"
    plain = type(denoiser) is Denoiser and not denoiser.time_conditioned
    simple = canvas.positions is None and canvas.documents is None
    if not size and settings.cache == "none":
        own = hasattr(denoiser.backbone, "states") and not canvas.condition
        lean = plain and simple and own and not has_holes(canvas)
        return Trimmed(denoiser) if lean else Whole(denoiser)
    if size and settings.cache != "none":
        raise UsageError(
            f"sampler.cache is {settings.cache}, but this model has an exact cache, "
            f"which is always used; set sampler.cache=none"
        )
    if not plain:
        if size:  # guided: without a cache
            return Whole(denoiser)
        raise UsageError(
            f"{name} does not go with guidance or a model that sees t; set "
            f"sampler.cache=none"
        )
    if not hasattr(denoiser.backbone, "states"):
        raise UsageError(
            f"{name} needs a model that takes keys and values from a cache, such as "
            f"model.name=llada; this one is a {type(denoiser.backbone).__name__}. Set "
            f"sampler.cache=none"
        )
    if not simple:
        raise UsageError(
            f"{name} needs a canvas whose positions count from 0 and that has no "
            f"walls between documents; set sampler.cache=none"
        )
    if size:
        fed: Fed = behind_settled
    else:
        shift = bool(cast("Any", denoiser.backbone).architecture.shift)
        fed = around_block(settings, shift=shift)
    return Cached(
        denoiser,
        canvas,
        fed,
        capacity=capacity,
        size=size or settings.block,
        causal=size > 0,
    )


def causal_block(denoiser: Denoiser) -> int:
    """Return S of a model whose blocks do not see those behind them, 0 for others."""
    return int(getattr(denoiser.backbone, "block_size", 0))
