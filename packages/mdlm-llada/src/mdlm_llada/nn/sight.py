"""Who sees whom in a row. Letters: B batch, L length.

Masks are bool and broadcast to ``(B, 1, L, L)``: True means that the query, in the
third axis, sees the key, in the fourth. None means that all see all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .key_values import Places


def both_ways(pad: Tensor | None, documents: Tensor | None) -> Tensor | None:
    """Everything that is not padding and of the same document."""
    if documents is None:
        if pad is None:
            return None
        seen = ~pad | pad.all(dim=1, keepdim=True)  # nobody sees nothing
        return seen[:, None, None, :]
    return _within(_same(documents), pad)[:, None]


def block_causal(
    places: Places,
    block_size: int,
    *,
    pad: Tensor | None,
    documents: Tensor | None,
    device: torch.device,
) -> Tensor | None:
    """One's own block and those before it; block b starts at position b * size."""
    if isinstance(places, slice):
        first, last = places.start // block_size, (places.stop - 1) // block_size
        if first == last:
            return both_ways(pad, documents)
    block = blocks_of(places, block_size, device)
    return _limited(block[:, :, None] >= block[:, None, :], pad, documents)[:, None]


def noisy_and_clean(
    places: Places,
    block_size: int,
    *,
    pad: Tensor | None,
    documents: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Return the mask of a row of 2 L: a noisy copy, and behind it the clean one.

    A noisy token sees its own block's noisy tokens and the clean ones of the blocks
    before; a clean token sees clean ones, of its block and those before (Arriola et
    al., 2025, arXiv 2503.09573, section 3.3).
    """
    block = blocks_of(places, block_size, device)
    query, key = block[:, :, None], block[:, None, :]
    itself = torch.eye(block.shape[1], dtype=torch.bool, device=device)
    noisy = _limited(query == key, pad, documents, itself)
    before = _limited(query > key, pad, documents, torch.zeros_like(itself))
    clean = _limited(query >= key, pad, documents, itself)
    above = torch.cat((noisy, before), dim=-1)
    below = torch.cat((torch.zeros_like(clean), clean), dim=-1)
    return torch.cat((above, below), dim=-2)[:, None]


def blocks_of(places: Places, block_size: int, device: torch.device) -> Tensor:
    """Return ``(B or 1, L)``: the block in which each token stands."""
    if isinstance(places, slice):
        places = torch.arange(places.start, places.stop, device=device)[None]
    return places.div(block_size, rounding_mode="floor")


def _same(documents: Tensor) -> Tensor:
    return documents[:, :, None] == documents[:, None, :]


def _limited(
    see: Tensor,
    pad: Tensor | None,
    documents: Tensor | None,
    itself: Tensor | None = None,
) -> Tensor:
    """Take other documents and padding out of ``(B or 1, L, L)``."""
    if documents is not None:
        see = see & _same(documents)
    return _within(see, pad, itself)


def _within(see: Tensor, pad: Tensor | None, itself: Tensor | None = None) -> Tensor:
    """Take padding out of the keys, and let everyone see itself."""
    if pad is None:
        return see
    if itself is None:
        itself = torch.eye(pad.shape[1], dtype=torch.bool, device=pad.device)
    return see & ~pad[:, None, :] | itself
