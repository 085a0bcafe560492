"""A mixture of experts with the two routers of the family.

Letters: T tokens, D width, E experts, k experts of a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mlp import GatedMLP

if TYPE_CHECKING:
    from mdlm_llada.architecture import Architecture

_TINY = 1e-20


class Routing(NamedTuple):
    """Which experts a token goes to, and what they count."""

    chosen: Tensor
    """``(T, k)`` int64."""
    weights: Tensor
    """``(T, k)`` float32."""


class Experts(nn.Module):
    """The sum of a token's experts, and of those that every token goes to.

    Expert e computes ``down[e] (silu(gate[e] x) * up[e] x)``. Children: `router`, and
    `shared`, one MLP as wide as all shared experts together, or None. With the router
    of LLaDA 2.x there is the buffer `bias` ``(E,)``, which stays float32.
    """

    bias: Tensor | None

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        config = architecture.experts
        assert config is not None
        self.config = config
        self.normed = architecture.norm_topk
        self.grouped = architecture.router == "sigmoid-groups"
        width, inner, count = architecture.width, config.width, config.count
        self.router = nn.Linear(width, count, bias=False)
        self.gate = nn.Parameter(torch.empty(count, inner, width))
        self.up = nn.Parameter(torch.empty(count, inner, width))
        self.down = nn.Parameter(torch.empty(count, width, inner))
        self.shared = GatedMLP(width, inner * config.shared) if config.shared else None
        self.register_buffer("bias", torch.zeros(count) if self.grouped else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums ``(..., D)`` for tokens `x` ``(..., D)``."""
        flat = x.flatten(0, -2)  # (T, D)
        out = self._mix(flat, self.route(flat)).view_as(x)
        return out if self.shared is None else out + self.shared(x)

    def route(self, x: Tensor) -> Routing:
        """Return the experts of the tokens `x` ``(T, D)``."""
        config = self.config
        if self.grouped:
            with torch.autocast(x.device.type, enabled=False):
                scores = F.linear(x.float(), self.router.weight.float()).sigmoid()
            assert self.bias is not None
            chosen = best_in_groups(
                scores + self.bias,
                config.per_token,
                groups=config.groups,
                groups_per_token=config.groups_per_token,
            )
        else:
            scores = self.router(x).softmax(-1, dtype=torch.float32)  # (T, E)
            chosen = scores.topk(config.per_token, dim=-1).indices
        weights = scores.gather(-1, chosen)
        if self.normed and config.per_token > 1:
            weights = weights / (weights.sum(-1, keepdim=True) + _TINY)
        return Routing(chosen, weights * config.scale)

    def _mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Send each token to its experts, and add up in the order of its choice."""
        times = routing.chosen.shape[-1]
        order = routing.chosen.flatten().argsort(stable=True)  # by expert
        counts = routing.chosen.flatten().bincount(minlength=self.config.count)
        pieces = torch.split(x[order // times], counts.tolist())
        outs = [
            self._expert(index, piece)
            for index, piece in enumerate(pieces)
            if len(piece)
        ]
        weights = routing.weights.flatten()[order, None]
        weighted = torch.cat(outs or [x[:0]]) * weights.to(x.dtype)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return weighted[back].view(len(x), times, -1).sum(1).to(x.dtype)

    def _expert(self, index: int, x: Tensor) -> Tensor:
        inner = F.silu(F.linear(x, self.gate[index])) * F.linear(x, self.up[index])
        return F.linear(inner, self.down[index])

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Experts:
        before = self.bias
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.bias
        if before is not None and after is not None and after.dtype != torch.float32:
            exact = after.float() if before.is_meta else before.to(after.device)
            self.bias = exact
        return self


def best_in_groups(
    scores: Tensor, count: int, *, groups: int, groups_per_token: int
) -> Tensor:
    """Return the `count` best experts ``(T, count)`` of each token's best groups.

    A group counts what its two best experts count together.

    Args:
        scores: ``(T, E)``; the experts of a group stand side by side.
        count: experts of a token.
        groups: groups of equal size.
        groups_per_token: groups that a token may choose from.
    """
    if groups_per_token < groups:
        each = scores.view(len(scores), groups, -1)  # (T, groups, E / groups)
        two = min(2, each.shape[-1])
        best = each.topk(two, dim=-1).values.sum(-1).topk(groups_per_token, dim=-1)
        out = torch.ones(each.shape[:-1], dtype=torch.bool, device=scores.device)
        out = out.scatter(-1, best.indices, value=False)
        scores = each.masked_fill(out[..., None], -torch.inf).flatten(-2)
    return scores.topk(count, dim=-1).indices
