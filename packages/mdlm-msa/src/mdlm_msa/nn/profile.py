"""What the visible rows of an alignment say about a token: a profile that can learn.

For a token of row r in column c it is a PSSM of the other rows, in which a row counts
the more, the more of what is visible of row r it explains. With

    S(r, s) = sum over columns visible in both of  log P(x_r | x_s) / p(x_r),

P the law of substitution and p the background, row s has the weight ``w_s``
proportional to ``exp(kappa S(r, s))``, and the law of the token is

    p(a) = (alpha f(a) + beta sum over b of f(b) P(a | b)) / (alpha + beta),

with f the weighted frequencies in the column, ``alpha = n - 1`` for their effective
number ``n = (sum w)^2 / sum w^2``, and beta the pseudocount. With kappa = 0 it is the
profile of PSI-BLAST (Altschul et al., 1997, Nucleic Acids Res. 25, 3389), with one row
it is substitution alone, and without a visible row the background. P, p, beta and kappa
are learned.

Letters: B batch, L length of a canvas, R rows, C columns (0 is that of separators),
S = 21 states, the gap among them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdlm_core.errors import UsageError
from mdlm_msa import substitution
from mdlm_msa.alphabet import STATE_OF, STATES, decode

GAP_RATE = 0.08
"""Chance of a gap where nothing is known, or a residue is, at the start."""
GAP_AFTER_GAP = 0.6
"""Chance of a gap in a column in which another row has one, at the start."""
_FASTER = 10.0
"""How many times faster than other weights beta and kappa learn."""
_LEVEL = 1e-2
"""Share of the weights that all rows have alike, so that none is forgotten."""


class Laws(NamedTuple):
    """What is known about each position of a canvas."""

    log_prob: Tensor
    """``(B, L, S)`` float32: log p(a)."""
    depth: Tensor
    """``(B, L)`` float32: n, the effective number of rows seen there."""


class Profile(nn.Module):
    """The law of a token given the visible tokens of other rows.

    Args:
        pseudocount: beta at the start.
        kappa: at the start.
        columns: in a model of one family, its columns, each with a prior of its own in
            place of substitution; otherwise 0.
    """

    state_of: Tensor
    query: Tensor
    """``(C - 1,)`` ids, in a model of one family; 0 before they are known."""

    def __init__(self, pseudocount: float, kappa: float, columns: int = 0) -> None:
        super().__init__()
        background, substitution = start()
        self.background = nn.Parameter(background.log())
        self.substitution = nn.Parameter(substitution.log())
        self.log_beta = nn.Parameter(torch.zeros(()))
        self.log_kappa = nn.Parameter(torch.zeros(()))
        self.begin(pseudocount, kappa)
        self.column_law: nn.Parameter | None = None
        """``(C - 1, S)`` logits."""
        if columns:
            laws = background.log().expand(columns, STATES).clone()
            self.column_law = nn.Parameter(laws)
            self.register_buffer("query", torch.zeros(columns, dtype=torch.int64))
        table = torch.from_numpy(STATE_OF).long()
        self.register_buffer("state_of", table.clamp(max=STATES), persistent=False)

    def begin(self, beta: float, kappa: float) -> None:
        """Set the pseudocount, and how much likeness counts."""
        with torch.no_grad():
            self.log_beta.fill_(math.log(beta) / _FASTER)
            self.log_kappa.fill_(math.log(kappa) / _FASTER)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        unseen: Tensor,
        documents: Tensor | None = None,
        support: Tensor | None = None,
    ) -> Laws:
        """Return the law of every position.

        Args:
            tokens: ``(B, L)`` ids; what has no state, as a mask, is not visible.
            positions: ``(B, L, 2)`` column and row.
            unseen: ``(B, L)`` bool: positions whose tokens do not count.
            documents: ``(B, L)`` int64: positions see equal values only.
            support: ``(B, M, C - 1)`` ids of further rows, from column 1 on.

        Raises:
            UsageError: if there are further rows and documents, or if this is a model
                of one family, and a canvas has the query of another or a window of it.
        """
        column, row = positions.unbind(-1)
        if self.column_law is not None:
            self._check_query(tokens[(row == 0) & (column > 0)], column)
        count, columns = int(row.max()) + 1, int(column.max()) + 1
        state = self.state_of[tokens.clamp(max=255)].masked_fill(unseen, STATES)
        group = torch.arange(len(tokens), device=tokens.device)[:, None]
        groups = len(tokens)
        if documents is not None:
            key = group * (int(documents.max()) + 1) + documents
            which, group = torch.unique(key, return_inverse=True)
            groups = len(which)
        place = (group * count + row) * columns + column  # (B, L)
        shape = (groups, count, columns, STATES + 1)
        seen = torch.zeros(shape, device=tokens.device)
        seen.view(-1).scatter_(0, (place * (STATES + 1) + state).flatten(), 1.0)
        rows = seen[..., :STATES]
        others = rows if support is None else self._with(rows, support, documents)
        f, n = self._frequencies(rows, others)
        f = f.view(-1, STATES)[place]  # (B, L, S)
        n = n.view(-1)[place].unsqueeze(-1)  # (B, L, 1)
        prior = self._prior(f, column)
        beta = (_FASTER * self.log_beta).exp()
        alpha = (n - 1).clamp(min=0)
        law = (alpha * f + beta * prior) / (alpha + beta)
        return Laws(law.log(), n.squeeze(-1))

    def _check_query(self, found: Tensor, column: Tensor) -> None:
        """Refuse canvases of other queries: their columns would mean other things."""
        if not self.query.any():
            return
        width, canvases = len(self.query), len(column)
        fits = int(column.max()) == width and len(found) == canvases * width
        if not fits or not torch.equal(found, self.query.repeat(canvases)):
            text = decode(self.query.cpu().numpy().astype(np.uint8))
            raise UsageError(
                f"this is a model of one family, that of the query '{text[:40]}' of "
                f"{width} columns, and the query here is another, or a window of it; "
                f"use that query, or a model that was trained without --family"
            )

    def _with(self, rows: Tensor, support: Tensor, documents: Tensor | None) -> Tensor:
        """Return one-hot rows ``(B, R + M, C, S)``: those of canvases, then others."""
        if documents is not None:
            raise UsageError(
                "further rows for the profile do not say which document they belong "
                "to; put each alignment on a canvas of its own"
            )
        columns = rows.shape[2]
        state = self.state_of[support[..., : columns - 1]]
        more = F.one_hot(state, STATES + 1)[..., :STATES].to(rows)
        missing = columns - 1 - more.shape[2]
        return torch.cat([rows, F.pad(more, (0, 0, 1, max(missing, 0)))], 1)

    def _frequencies(self, rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return f ``(B, R, C, S)`` and n ``(B, R, C)`` for one-hot rows.

        Args:
            rows: ``(B, R, C, S)``.
            others: ``(B, R', C, S)`` what they are compared with: first themselves.
        """
        weight = self._weights(rows, others)  # (B, R, R')
        weighted = (weight @ others.flatten(2)).view_as(rows)
        total = weighted.sum(-1)
        squares = weight.square() @ others.sum(-1)
        found = total > 0
        n = torch.where(found, total.square() / squares.clamp(min=1e-30), 0.0)
        return weighted / total.clamp(min=1e-30).unsqueeze(-1), n

    def _weights(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return how much row s counts for row r, ``(B, R, R')``; itself never."""
        background = self.background.log_softmax(-1)
        ratio = self.substitution.log_softmax(-1) - background  # [b, a]
        likeness = rows.flatten(2) @ (others @ ratio).flatten(2).mT  # (B, r, s)
        kappa = (_FASTER * self.log_kappa).exp()
        absent = (others.sum((-1, -2)) == 0)[:, None, :]
        itself = torch.eye(*likeness.shape[1:], dtype=torch.bool, device=rows.device)
        out = absent | itself
        chance = (kappa * likeness).masked_fill(out, -torch.inf).softmax(-1)
        level = (~out).float() / (~out).sum(-1, keepdim=True).clamp(min=1)
        mixed = (1 - _LEVEL) * chance.nan_to_num(0.0) + _LEVEL * level
        return mixed.masked_fill(out, 0.0)

    def _prior(self, f: Tensor, column: Tensor) -> Tensor:
        """Return what stands in for rows that were not seen, ``(B, L, S)``."""
        if self.column_law is not None:
            last = len(self.column_law) - 1
            return self.column_law.softmax(-1)[(column - 1).clamp(0, last)]
        known = f.sum(-1, keepdim=True)
        substituted: Tensor = f @ self.substitution.softmax(-1)
        return substituted + (1 - known) * self.background.softmax(-1)


def start() -> tuple[Tensor, Tensor]:
    """Return the background ``(S,)`` and P ``(S, S)`` of BLOSUM62 with gaps added.

    ``P[b, a]`` is the chance of a where another row has b.
    """
    residues = torch.tensor(substitution.background()).float()
    background = torch.cat([residues * (1 - GAP_RATE), torch.tensor([GAP_RATE])])
    law = torch.zeros(STATES, STATES)
    law[:-1, :-1] = torch.tensor(substitution.conditional()).float() * (1 - GAP_RATE)
    law[:-1, -1] = GAP_RATE
    law[-1, :-1] = residues * (1 - GAP_AFTER_GAP)
    law[-1, -1] = GAP_AFTER_GAP
    return background, law
