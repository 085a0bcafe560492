"""The diffusion transformer: a trunk that makes states, and a head on top.

Sahoo et al., 2024 (arXiv 2406.07524, appendix C.2), after Peebles and Xie, 2022.
Letters: B batch, L length, V vocabulary (mask included), D width, H heads,
K head size, N selected positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mdlm_core.errors import UsageError

from .attention import plan
from .conv import LocalMix
from .embed import NoiseLevel, TokenEmbedding
from .norm import AdaptiveNorm
from .packed import Attention
from .rotary import Angles, angles, rotate

if TYPE_CHECKING:
    from mdlm_core.config.components import DiTConfig
    from mdlm_core.data.batch import Batch

_SIGMA_EPS = 1e-3


class DiT(nn.Module):
    """A bidirectional transformer with adaptive layer norm and rotary positions.

    Blocks are the identity and logits are zero at the start, so that a new model
    gives every token the same probability.

    A subclass may say more than the canvas does: by the condition of the norms
    (:meth:`conditioning`), by vectors that its blocks attend to (:meth:`memory`, which
    a `block_type` of its own reads), or by what the trunk begins with (:meth:`trunk`).
    """

    block_type: ClassVar[type[nn.Module]]

    def __init__(
        self, config: DiTConfig, *, vocab_size: int, mask_id: int, length: int
    ) -> None:
        """Draw new weights from torch's global generator.

        Args:
            config: the sizes.
            vocab_size: V.
            mask_id: the mask's id.
            length: the usual L; positions are rotary, so that any other works too.
        """
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.mask_id = mask_id
        self.length = length
        self.time_conditioned = config.time_conditioned
        self.gradient_checkpointing = False
        """Whether blocks are recomputed in the backward pass."""

        self.embed = TokenEmbedding(vocab_size, config.width)
        self.noise_level = NoiseLevel(config.cond_width)
        self.blocks = nn.ModuleList(
            type(self).block_type(config) for _ in range(config.blocks)
        )
        self.norm = AdaptiveNorm(config.width)
        self.modulation = zero_(nn.Linear(config.cond_width, 2 * config.width))
        self.head = zero_(nn.Linear(config.width, vocab_size))

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas.

        Args:
            batch: read are `tokens`, `pad`, `positions` and `documents`, and what
                :meth:`conditioning` reads. Tokens at padded positions are not.
            t: ``(B,)``, read only if the model is conditioned on time.
        """
        return self.trunk(self.embedded(batch), batch, t)

    def embedded(self, batch: Batch) -> Tensor:
        """Return what the trunk begins with, ``(B, L, D)``: vectors of the tokens."""
        vectors: Tensor = self.embed(batch.tokens.masked_fill(batch.pad, self.mask_id))
        return vectors

    def trunk(self, x: Tensor, batch: Batch, t: Tensor | None) -> Tensor:
        """Return the states ``(B, L, D)`` for vectors `x` ``(B, L, D)``.

        For a subclass whose vectors say more than the token. The other arguments are
        those of :meth:`hidden`.
        """
        with torch.autocast(x.device.type, enabled=False):
            c = self.conditioning(batch, t)  # (B or 1, cond_width)
            shift, scale = self.modulation(c).chunk(2, dim=-1)
        around = self._surroundings(batch, x)

        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, c, around, use_reentrant=False)
            else:
                x = block(x, c, around)
        states: Tensor = self.norm(x, shift, scale)
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D)``."""
        logits: Tensor = self.head(hidden)
        return logits

    def conditioning(self, batch: Batch, t: Tensor | None) -> Tensor:
        """Return the condition of the norms, ``(B, cond_width)``, or one for all rows.

        It is a function of the noise level sigma = -log alpha(t) of the log-linear
        schedule, or of sigma = 0 for a model that does not see t. A subclass adds
        what it reads from `batch.condition`.

        Raises:
            UsageError: if the model is conditioned on time and `t` is None.
        """
        if not self.time_conditioned:
            sigma = torch.zeros(1, device=batch.tokens.device)
        elif t is None:
            raise UsageError("this model is conditioned on time: pass t, one per row")
        else:
            sigma = -torch.log1p(-(1 - _SIGMA_EPS) * t)
        condition: Tensor = self.noise_level(sigma)
        return condition

    def memory(self, batch: Batch) -> Tensor | None:
        """Return vectors ``(B, M, D)`` for the blocks of a subclass; None here."""
        return None

    def _surroundings(self, batch: Batch, x: Tensor) -> Surroundings:
        """Work out once what all blocks need to know about the positions."""
        config, positions = self.config, batch.positions
        if positions is None:
            positions = torch.arange(batch.length, device=x.device)[None, :, None]
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.new_empty(0, dtype=torch.get_autocast_dtype(device))
        return Surroundings(
            angles=angles(positions, config.width // config.heads),
            attention=plan(
                pad=batch.pad,
                documents=batch.documents,
                like=x,
                backend=config.attention,
            ),
            pad=batch.pad,
            documents=batch.documents,
            memory=self.memory(batch),
        )


class Surroundings(NamedTuple):
    """What a block knows besides the states: positions, who sees whom, a memory."""

    angles: Angles
    attention: Attention
    pad: Tensor
    """``(B, L)`` bool."""
    documents: Tensor | None
    """``(B, L)`` int64."""
    memory: Tensor | None = None
    """``(B, M, D)``: see `DiT.memory`."""


class Block(nn.Module):
    """Attention, then an MLP, each as ``x + gate * f(adaptive_norm(x))``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, inner = config.width, config.mlp_ratio * config.width
        self.heads = config.heads
        self.dropout = config.dropout
        self.local = LocalMix(width, config.conv_kernel) if config.conv_kernel else None
        self.modulation = zero_(nn.Linear(config.cond_width, 6 * width))
        self.norm1 = AdaptiveNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = AdaptiveNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor, c: Tensor, around: Surroundings) -> Tensor:
        """Return the next states ``(B, L, D)`` under the condition `c`."""
        with torch.autocast(x.device.type, enabled=False):
            six = self.modulation(c).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = six  # each (B or 1, D)

        if self.local is not None:
            x = x + self.local(x, pad=around.pad, documents=around.documents)
        y = self._attend(self.norm1(x, shift1, scale1), around)
        x = torch.addcmul(x, gate1[:, None], self._drop(y))
        y = self.up(self.norm2(x, shift2, scale2))
        y = self.down(F.gelu(y, approximate="tanh"))
        return torch.addcmul(x, gate2[:, None], self._drop(y))

    def _attend(self, x: Tensor, around: Surroundings) -> Tensor:
        rows, length, width = x.shape
        qkv = self.qkv(x).view(rows, length, 3, self.heads, -1)
        q, k = rotate(qkv[:, :, :2], around.angles).permute(2, 0, 3, 1, 4)
        v = qkv[:, :, 2].transpose(1, 2)  # (B, H, L, K)
        y = around.attention(q, k, v).transpose(1, 2)
        out: Tensor = self.out(y.reshape(rows, length, width))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


DiT.block_type = Block


def zero_(layer: nn.Linear) -> nn.Linear:
    """Set weight and bias to zero, and return the layer."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def build(config: DiTConfig, *, vocab_size: int, mask_id: int, length: int) -> DiT:
    """Return a new DiT, for the catalog."""
    return DiT(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
