"""Draw from categorical laws over a vocabulary, exactly, with one number per draw.

The usual ways, ``argmax(log p + Gumbel)`` and ``argmax(p / exponential)``, are not
exact in float32: a uniform number has at most 2^24 values, so the smallest
exponential is 6e-8, and a token that is much rarer than that beside a dominant one
never wins (Zheng et al. 2024, arXiv 2409.02908). An inverse CDF with one float64
number has no such floor, and needs one number instead of V.

Letters: N draws, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mdlm_core.errors import MdlmError

_BLOCK = 256
_CHUNK = {"cpu": 2**20, "other": 2**26}  # probabilities at once: they stay in cache


def categorical(log_probs: Tensor, u: Tensor) -> Tensor:
    """Draw one token per row by a two-level inverse CDF.

    The blocks of 256 tokens are summed in float64; `u` chooses the block and then,
    by a float64 cumulative sum, the token inside it. A token of probability zero is
    never drawn. The rows are normalised here, so a constant may be missing.

    Args:
        log_probs: ``(N, V)`` log-probabilities, -inf for what is impossible.
        u: ``(N,)`` float64 in (0, 1), one number per row.

    Returns:
        ``(N,)`` int64.

    Raises:
        MdlmError: if a row is not finite or has no possible token.
    """
    if log_probs.device.type == "mps":  # no float64 there
        return categorical(log_probs.cpu(), u.cpu()).to(log_probs.device)
    size = _CHUNK.get(log_probs.device.type, _CHUNK["other"])
    rows = max(1, size // max(1, log_probs.shape[-1]))
    if len(log_probs) <= rows:
        return _draw(log_probs, u)
    chunks = zip(torch.split(log_probs, rows), torch.split(u, rows), strict=True)
    return torch.cat([_draw(*chunk) for chunk in chunks])


def _draw(log_probs: Tensor, u: Tensor) -> Tensor:
    """Draw for rows that fit into the cache together."""
    probs = pad(log_probs.exp(), (0, -log_probs.shape[-1] % _BLOCK))
    blocks = probs.view(
        len(probs), probs.shape[-1] // _BLOCK, _BLOCK
    )  # (N, V / 256, 256)
    edges = blocks.sum(-1, dtype=torch.float64).cumsum(-1)  # (N, V / 256)
    total = edges[:, -1]
    if not bool(((total > 0) & (total < torch.inf)).all()):
        raise MdlmError(
            "a row of log-probabilities is not finite or allows no token; the model "
            "has diverged, or every token is banned"
        )
    target = u.to(edges) * total
    block = _first_above(edges, target)
    row = torch.arange(len(block), device=block.device)
    before = torch.where(block > 0, edges[row, block - 1], 0.0)
    inside = blocks[row, block].double().cumsum(-1)  # (N, 256)
    return block * _BLOCK + _first_above(inside, target - before)


def _first_above(edges: Tensor, target: Tensor) -> Tensor:
    """Return the first index of each ascending row whose edge is above `target`.

    The target is held below the last edge, which rounding may let it reach; so the
    answer is always an index at which the edges rise.
    """
    last = edges[:, -1]
    target = torch.minimum(target, torch.nextafter(last, torch.zeros_like(last)))
    return torch.searchsorted(edges, target.unsqueeze(-1), right=True).squeeze(-1)


def truncate(
    log_probs: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """Return the law sharpened by temperature, top-k and top-p, in this order.

    Every stage renormalises. Top-p keeps the smallest set of most probable tokens
    whose probability reaches `top_p`: the token that crosses it stays.

    Args:
        log_probs: ``(N, V)`` normalised log-probabilities.
        temperature: divides the log-probabilities; 0 keeps the most probable token.
        top_k: keep that many tokens; 0 means all.
        top_p: in (0, 1]; 1 means all.

    Returns:
        ``(N, V)`` normalised log-probabilities.
    """
    if temperature == 0:
        best = log_probs.argmax(-1, keepdim=True)
        return torch.full_like(log_probs, -torch.inf).scatter_(-1, best, 0.0)
    if temperature != 1:
        log_probs = (log_probs / temperature).log_softmax(-1)
    if 0 < top_k < log_probs.shape[-1]:
        best = log_probs.topk(top_k, dim=-1).indices
        log_probs = _keep(log_probs, best, torch.ones_like(best, dtype=torch.bool))
    if top_p < 1:
        ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
        probs = ordered.double().exp()
        log_probs = _keep(log_probs, order, probs.cumsum(-1) - probs < top_p)
    return log_probs


def _keep(log_probs: Tensor, tokens: Tensor, kept: Tensor) -> Tensor:
    """Return the law on the `tokens` ``(N, K)`` that are `kept` ``(N, K)``."""
    mask = torch.zeros_like(log_probs, dtype=torch.bool).scatter_(-1, tokens, kept)
    return log_probs.masked_fill(~mask, -torch.inf).log_softmax(-1)
