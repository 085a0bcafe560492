"""Pairs and a backbone so small that every mask can be counted."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import nn

from mdlm_core.diffusion.schedule import LogLinear
from mdlm_msa.alphabet import MASK, VOCAB_SIZE, encode
from mdlm_msa.config import AlignConfig, PairsConfig
from mdlm_msa.preference.objective import Preference
from mdlm_msa.preference.pairs import Pair
from mdlm_msa.preference.reference import Reference
from mdlm_msa.preference.source import PairSource


def ids(*rows):
    """Return rows of letters as ids ``(N, L)``."""
    return np.stack([encode(row) for row in rows])


def pair(query, winner, loser, prompt=(), **more):
    """Return a pair of rows of letters."""
    return Pair(
        query=encode(query),
        winner=ids(*winner),
        loser=ids(*loser),
        prompt=ids(*prompt) if prompt else np.zeros((0, len(query)), np.uint8),
        **more,
    )


PAIRS = (
    pair("LAG", ["LVG"], ["AAS", "L-G"], id="a"),
    pair("VSET", ["VS-T", "LSET"], ["VVVV"], prompt=["ISET"], id="b"),
    pair("WC", ["W-"], ["CX"], id="c"),
)


def source(pairs=PAIRS, **settings):
    """Return the source of pairs."""
    return PairSource(pairs, PairsConfig(**{"length": 64, **settings}))


def batch():
    """Return the three pairs as one batch."""
    return source()._batch(np.arange(3), 0, 0, 1)


class Toy(nn.Module):
    """The law of a token depends on how often each id is visible, and on the column.

    It sees what is frozen, too, but no padding: row ``visible counts + column`` of a
    canvas times a matrix.
    """

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(VOCAB_SIZE, VOCAB_SIZE + 8, generator=generator)
        self.weight = nn.Parameter(0.3 * weights)
        self.calls = 0

    def hidden(self, canvas, t=None):
        self.calls += 1
        seen = nn.functional.one_hot(canvas.tokens, VOCAB_SIZE).float()
        seen = seen * (~canvas.pad & (canvas.tokens != MASK))[..., None]
        total = seen.sum(1, keepdim=True).expand(-1, canvas.length, -1)
        column = nn.functional.one_hot(canvas.positions[..., 0] % 8, 8).float()
        return torch.cat([total, column], -1)

    def logits(self, hidden):
        return hidden @ self.weight.T


def preference(policy, reference, **settings):
    """Return a module of two toys; without the winner's bound in the loss."""
    return Preference(
        policy,
        Reference(lambda: reference, "a toy"),
        config=AlignConfig(**{"sft": 0.0, **settings}),
        schedule=LogLinear(eps=0.0),
    )


def log_law(backbone, canvas, place):
    """Return ``(V,)`` log p at a place of a canvas of one row, computed in float64."""
    with torch.no_grad():
        logits = backbone.logits(backbone.hidden(canvas)[0, place][None])[0].double()
    logits[MASK] = -torch.inf
    return torch.log_softmax(logits, 0)


def masks(free):
    """Yield every non-empty subset of the free places, as lists."""
    places = free.nonzero()[:, 0].tolist()
    for k in range(1, len(places) + 1):
        for chosen in combinations(places, k):
            yield list(chosen)
