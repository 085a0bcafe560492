"""The trunk of the LLaDA family.

Nie et al., 2025 (arXiv 2502.09992): a Llama whose tokens all see each other, without
an input for the time. Letters: B batch, L length, N tokens, M keys, V vocabulary,
D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mdlm_core.errors import UsageError

from . import sight
from .attention import attention
from .block import Block, Surroundings
from .key_values import KeyValues, Places, places_of
from .norm import RMSNorm
from .rotary import Rotary

if TYPE_CHECKING:
    from mdlm_core.data.batch import Batch
    from mdlm_llada.architecture import Architecture

CLEAN = "clean"
"""The name in `Batch.condition` of the clean tokens ``(B, L)`` for block diffusion."""

_STD = 0.02


class LLaDA(nn.Module):
    """A dense LLaDA, a Dream, a LLaDA-MoE or a LLaDA 2.x, as its architecture says."""

    def __init__(self, architecture: Architecture, *, mask_id: int) -> None:
        """Draw new weights from torch's global generator.

        Args:
            architecture: sizes and switches.
            mask_id: the mask's id.
        """
        super().__init__()
        a = architecture
        self.architecture = architecture
        self.vocab_size = a.vocab_size
        self.mask_id = mask_id
        self.block_size = a.block_size
        """Positions in a block of block diffusion; 0 if all see all."""
        self.time_conditioned = False
        self.gradient_checkpointing = False
        """Whether blocks are recomputed in the backward pass."""

        self.embed = nn.Embedding(a.vocab_size, a.width)
        self.blocks = nn.ModuleList(Block(a, index) for index in range(a.blocks))
        self.norm = RMSNorm(a.width, a.norm_eps)
        self.head = nn.Linear(a.width, a.vocab_size, bias=False)
        if a.tied:
            self.head.weight = self.embed.weight
        self.rotary = Rotary(a.rotary_size, a.rope_theta)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices with deviation 0.02, those into the stream with less.

        The matrices that add to the residual stream, two in each block, are divided
        by their number's square root (Radford et al., 2019, section 2.3).
        """
        into_stream = (2 * len(self.blocks)) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            else:
                ends = name.removesuffix(".weight").endswith((".out", ".down"))
                nn.init.normal_(parameter, std=_STD * (into_stream if ends else 1.0))

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas; that at i is about token i.

        In block diffusion a token sees its own block and those before it. Training
        needs them clean while the token's own block is noisy: if `batch.condition`
        has ``"clean"`` ``(B, L)``, a noisy token sees its own noisy block and the
        clean ones before.

        Args:
            batch: read are `tokens`, `pad`, `positions` and `documents`, and in block
                diffusion ``condition["clean"]``. Tokens at padded positions are not.
            t: not read; the canvas says how much of it is masked.

        Raises:
            UsageError: if there is more than one position axis.
        """
        pad = batch.pad if batch.pad.any() else None
        tokens, places = self._filled(batch.tokens, pad), _places(batch)
        documents, device = batch.documents, batch.tokens.device
        size, clean = self.block_size, batch.condition.get(CLEAN)
        if not size:
            see = sight.both_ways(pad, documents)
        elif clean is None:
            see = sight.block_causal(
                places, size, pad=pad, documents=documents, device=device
            )
        else:
            see = sight.noisy_and_clean(
                places, size, pad=pad, documents=documents, device=device
            )
            tokens = torch.cat((tokens, self._filled(clean, pad)), dim=1)
            places = _twice(places, device)
            return self._run(tokens, places, see, keep=slice(0, batch.length))
        states = self._run(tokens, places, see)
        return _shifted(states, pad, documents) if self.architecture.shift else states

    def states(
        self,
        tokens: Tensor,
        *,
        positions: Tensor,
        see: Tensor | None = None,
        cache: KeyValues | None = None,
        keep: slice | None = None,
    ) -> Tensor:
        """Return the states ``(B, N, D)`` of some tokens, each where it stands.

        With a `cache` their keys and values are written to the slots `positions`, and
        they see all of its slots that `see` allows. Nothing is shifted: with
        `architecture.shift` the state of a token is about the token after it.

        Args:
            tokens: ``(B, N)`` ids.
            positions: ``(B, N)`` int64, from 0; the fastest are those that are one
                run of positions, the same in all rows.
            see: bool, broadcastable to ``(B, 1, N, M)``; M is N without a cache, and
                its number of slots with one. None means that all see all. Every
                token must see something.
            cache: earlier keys and values; changed in place.
            keep: which of the N tokens' states are returned; the last block then does
                without the others.

        Raises:
            UsageError: if a cache is used while gradients are recorded.
        """
        if cache is not None and torch.is_grad_enabled():
            raise UsageError(
                "kept keys and values have no gradients; call this under "
                "torch.no_grad()"
            )
        return self._run(tokens, places_of(positions), see, cache, keep)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D)``."""
        logits: Tensor = self.head(hidden)
        return logits

    def _filled(self, tokens: Tensor, pad: Tensor | None) -> Tensor:
        return tokens if pad is None else tokens.masked_fill(pad, self.mask_id)

    def _run(
        self,
        tokens: Tensor,
        places: Places,
        see: Tensor | None,
        cache: KeyValues | None = None,
        keep: slice | None = None,
    ) -> Tensor:
        x = self.embed(tokens)  # (B, N, D)
        device = x.device.type
        like = x
        if torch.is_autocast_enabled(device):
            like = x.new_empty(0, dtype=torch.get_autocast_dtype(device))
        angles = self.rotary.angles(places, x.device)
        around = Surroundings(angles, attention(see, like), places, cache)
        for block in self.blocks[:-1]:
            x = self._through(block, x, around)
        if keep is not None:
            if see is not None and see.shape[2] > 1:
                around = around._replace(attention=attention(see[:, :, keep], like))
            around = around._replace(keep=keep)
        states: Tensor = self.norm(self._through(self.blocks[-1], x, around))
        return states

    def _through(self, block: nn.Module, x: Tensor, around: Surroundings) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x, around, use_reentrant=False)
        else:
            out = block(x, around)
        return out


def _places(batch: Batch) -> Places:
    """Return where the tokens of `batch` stand."""
    positions = batch.positions
    if positions is None:
        return slice(0, batch.length)
    if positions.shape[-1] != 1:
        raise UsageError(
            f"a model of the LLaDA family has one position axis, not "
            f"{positions.shape[-1]}: use another backbone for these data"
        )
    return positions[..., 0]


def _twice(places: Places, device: torch.device) -> Tensor:
    """Return ``(B or 1, 2 L)``: the same positions again."""
    if isinstance(places, slice):
        places = torch.arange(places.start, places.stop, device=device)[None]
    return torch.cat((places, places), dim=1)


def _shifted(states: Tensor, pad: Tensor | None, documents: Tensor | None) -> Tensor:
    """Move the states one to the right; the first of a row or document stays.

    Dream's state at i - 1 is about token i (Ye et al., 2025, arXiv 2508.15487).
    """
    before = torch.cat((states[:, :1], states[:, :-1]), dim=1)
    if pad is None and documents is None:
        return before
    first = torch.zeros_like(states[:, 1:, 0], dtype=torch.bool)  # (B, L - 1)
    if documents is not None:
        first = first | (documents[:, 1:] != documents[:, :-1])
    if pad is not None:
        first = first | pad[:, :-1]
    first = torch.nn.functional.pad(first, (1, 0), value=True)
    return torch.where(first[..., None], states, before)
