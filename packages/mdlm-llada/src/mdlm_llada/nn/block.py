"""One transformer block.

Letters: B batch, N tokens, M keys, H heads, G key heads, K head size, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from .attention import Attention
from .experts import Experts
from .mlp import gated
from .norm import RMSNorm
from .rotary import Angles, rotate

if TYPE_CHECKING:
    from mdlm_llada.architecture import Architecture

    from .key_values import KeyValues, Places


class Surroundings(NamedTuple):
    """What all blocks know about the positions, worked out once."""

    angles: Angles
    attention: Attention
    places: Places
    """Where the tokens stand, for `cache`."""
    cache: KeyValues | None = None
    keep: slice | None = None
    """The tokens that go on; the others give their keys and values alone."""


class Block(nn.Module):
    """Attention, then a gated MLP or experts, each as ``x + f(norm(x))``."""

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        a = architecture
        self.index = index
        self.head_size = a.head_size
        queries, keys = a.heads * a.head_size, a.kv_heads * a.head_size
        self.attention_norm = RMSNorm(a.width, a.norm_eps)
        self.q = nn.Linear(a.width, queries, bias=a.qkv_bias)
        self.k = nn.Linear(a.width, keys, bias=a.qkv_bias)
        self.v = nn.Linear(a.width, keys, bias=a.qkv_bias)
        self.out = nn.Linear(queries, a.width, bias=a.out_bias)
        self.q_norm = RMSNorm(a.head_size, a.norm_eps) if a.qk_norm else None
        self.k_norm = RMSNorm(a.head_size, a.norm_eps) if a.qk_norm else None
        self.mlp_norm = RMSNorm(a.width, a.norm_eps)
        mixed = a.experts is not None and index >= a.experts.dense_layers
        self.experts = Experts(a) if mixed else None
        if self.experts is None:
            self.gate = nn.Linear(a.width, a.mlp_width, bias=False)
            self.up = nn.Linear(a.width, a.mlp_width, bias=False)
            self.down = nn.Linear(a.mlp_width, a.width, bias=False)

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the next states ``(B, N, D)``, or those of `around.keep`."""
        y = self._attend(self.attention_norm(x), around)
        if around.keep is not None:
            x = x[:, around.keep]
        x = _sum(x, y)
        return _sum(x, self._transform(self.mlp_norm(x)))

    def _attend(self, x: Tensor, around: Surroundings) -> Tensor:
        cos, sin = around.angles
        k = rotate(self._heads(self.k(x), self.k_norm), (cos, sin))
        v = self._heads(self.v(x), None)
        if around.cache is not None:
            around.cache.write(self.index, around.places, k, v)
            k, v = around.cache.keys[self.index], around.cache.values[self.index]
        if around.keep is not None:
            x = x[:, around.keep]
            cos, sin = cos[:, :, around.keep], sin[:, :, around.keep]
        q = rotate(self._heads(self.q(x), self.q_norm), (cos, sin))
        out: Tensor = self.out(around.attention(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor, norm: RMSNorm | None) -> Tensor:
        """Return ``(B, H, N, K)`` for ``(B, N, H * K)``."""
        x = x.view(*x.shape[:-1], -1, self.head_size)
        return (x if norm is None else norm(x)).transpose(1, 2)

    def _transform(self, x: Tensor) -> Tensor:
        if self.experts is not None:
            mixed: Tensor = self.experts(x)
            return mixed
        out: Tensor = self.down(gated(self.gate(x), self.up(x)))
        return out


def _sum(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x + y``, in the place of `y` if it has room for that."""
    return y.add_(x) if y.dtype == x.dtype else x + y
