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

from .attention import attention
from .block import Block, Surroundings
from .key_values import KeyValues, Places, places_of
from .norm import RMSNorm
from .rotary import Rotary

if TYPE_CHECKING:
    from mdlm_core.data.batch import Batch
    from mdlm_llada.architecture import Architecture

_STD = 0.02


class LLaDA(nn.Module):
    """A dense LLaDA, as an architecture describes it."""

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
        self.time_conditioned = False
        self.gradient_checkpointing = False
        """Whether blocks are recomputed in the backward pass."""

        self.embed = nn.Embedding(a.vocab_size, a.width)
        self.blocks = nn.ModuleList(Block(a, index) for index in range(a.blocks))
        self.norm = RMSNorm(a.width, a.norm_eps)
        self.head = nn.Linear(a.width, a.vocab_size, bias=False)
        self.rotary = Rotary(a.rotary_size, a.rope_theta)
        if a.tied:
            self.head.weight = self.embed.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices with deviation 0.02, those into the stream with less.

        The 2 `blocks` matrices that add to the residual stream are divided by their
        number's square root (Radford et al., 2019, section 2.3).
        """
        into_stream = (2 * len(self.blocks)) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            else:
                ends = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=_STD * (into_stream if ends else 1.0))

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas.

        Args:
            batch: read are `tokens`, `pad`, `positions` and `documents`. Tokens at
                padded positions are not.
            t: not read; the canvas says how much of it is masked.

        Raises:
            UsageError: if there is more than one position axis.
        """
        tokens, pad = batch.tokens, _some(batch.pad)
        if pad is not None:
            tokens = tokens.masked_fill(pad, self.mask_id)
        see = _see(pad, batch.documents)
        return self._run(tokens, _places(batch), see, None)

    def states(
        self,
        tokens: Tensor,
        *,
        positions: Tensor,
        see: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """Return the states ``(B, N, D)`` of some tokens, each where it stands.

        With a `cache` their keys and values are written to the slots `positions`, and
        they see all of its slots that `see` allows.

        Args:
            tokens: ``(B, N)`` ids.
            positions: ``(B, N)`` int64, from 0; the fastest are those that are one
                run of positions, the same in all rows.
            see: bool, broadcastable to ``(B, 1, N, M)``; M is N without a cache, and
                its number of slots with one. None means that all see all. Every
                token must see something.
            cache: earlier keys and values; changed in place.

        Raises:
            UsageError: if a cache is used while gradients are recorded.
        """
        if cache is not None and torch.is_grad_enabled():
            raise UsageError(
                "kept keys and values have no gradients; call this under "
                "torch.no_grad()"
            )
        return self._run(tokens, places_of(positions), see, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D)``."""
        logits: Tensor = self.head(hidden)
        return logits

    def _run(
        self,
        tokens: Tensor,
        places: Places,
        see: Tensor | None,
        cache: KeyValues | None,
    ) -> Tensor:
        x = self.embed(tokens)  # (B, N, D)
        device = x.device.type
        like = x
        if torch.is_autocast_enabled(device):
            like = x.new_empty(0, dtype=torch.get_autocast_dtype(device))
        around = Surroundings(
            angles=self.rotary.angles(places, x.device),
            attention=attention(see, like),
            places=places,
            cache=cache,
        )
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, around, use_reentrant=False)
            else:
                x = block(x, around)
        states: Tensor = self.norm(x)
        return states


def _some(pad: Tensor) -> Tensor | None:
    """Return `pad` if anything is padded."""
    return pad if pad.any() else None


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


def _see(pad: Tensor | None, documents: Tensor | None) -> Tensor | None:
    """Return who sees whom, ``(B, 1, 1, L)`` or ``(B, 1, L, L)``; None if all do."""
    if documents is None:
        if pad is None:
            return None
        seen = ~pad | pad.all(dim=1, keepdim=True)  # nobody sees nothing
        return seen[:, None, None, :]
    see = documents[:, :, None] == documents[:, None, :]
    if pad is not None:
        itself = torch.eye(pad.shape[1], dtype=torch.bool, device=pad.device)
        see = see & ~pad[:, None, :] | itself
    return see[:, None]
