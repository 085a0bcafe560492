"""A denoiser with a law of its own for every canvas, and samplers written out by hand.

Laws of results are sums over everything that can happen.
"""

import math
from collections import Counter
from itertools import product

import torch

from mdlm_atat.sampler import uncertainty_guided
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import Denoiser

V, MASK, LENGTH = 4, 1, 4
TOKENS = [token for token in range(V) if token != MASK]


class Table:
    """Laws at random for every canvas of length L, some of them nearly certain."""

    vocab_size, mask_id = V, MASK

    def __init__(self, length, *, seed=0, scale=1.5, time_conditioned=False):
        self.length, self.time_conditioned = length, time_conditioned
        self.times, self.rows = [], 0
        u = Noise(seed).child("table").uniform(torch.arange(V**length), length * V)
        gumbel = -(-u.log()).log()
        self.table = scale * gumbel.view(V**length, length, V)

    def index(self, canvas):
        return (canvas * V ** torch.arange(self.length)).sum(-1)

    def hidden(self, batch, t=None):
        self.times.append(t)
        self.rows += len(batch)
        return self.table[self.index(batch.tokens)]

    def logits(self, hidden):
        return hidden.clone()

    def law(self, canvas, position):
        """Return p(token | canvas) for the tokens that are no mask, in float64."""
        row = self.table[int(self.index(torch.tensor(canvas)))][position].tolist()
        weights = {token: math.exp(row[token]) for token in TOKENS}
        total = sum(weights.values())
        return {token: weight / total for token, weight in weights.items()}


def nats(law):
    """Return the entropy of a law."""
    return -sum(p * math.log(p) for p in law.values() if p > 0)


def doubt(law, score):
    """Return how uncertain a law is."""
    best = sorted(law.values(), reverse=True)
    return {
        "entropy": nats(law),
        "confidence": 1 - best[0],
        "margin": 1 - (best[0] - best[1]),
    }[score]


def largest_prefix(entropies, bound):
    """Return the largest k >= 1 of the EB rule, by trying every k from the longest."""
    for k in range(len(entropies), 1, -1):
        if math.fsum(entropies[:k]) - max(entropies[:k]) <= bound:
            return k
    return 1


def law_of_results(table, canvas, committed, left, rank=None):
    """Return the chance of every filled canvas, by following every possible event.

    Args:
        table: the denoiser.
        canvas: a tuple of ids.
        committed: gives the positions for (canvas, laws by position, steps left, rank).
        left: steps left.
        rank: handed on to `committed`.
    """
    masked = [i for i, token in enumerate(canvas) if token == MASK]
    if not masked:
        return Counter({canvas: 1.0})
    laws = {i: table.law(canvas, i) for i in masked}
    chosen = committed(canvas, laws, max(1, left), rank)
    found = Counter()
    for tokens in product(TOKENS, repeat=len(chosen)):
        after, chance = list(canvas), 1.0
        for position, token in zip(chosen, tokens, strict=True):
            after[position] = token
            chance *= laws[position][token]
        rest = law_of_results(table, tuple(after), committed, left - 1, rank)
        for result, further in rest.items():
            found[result] += chance * further
    return found


class Policy:
    """A policy whose importance depends on the canvas and the time."""

    def __init__(self):
        self.asked = []

    def rates(self, batch, t, schedule):
        raise AssertionError("a sampler does not mask")

    def of(self, canvas, position):
        seen = sum((i + 2) * token for i, token in enumerate(canvas) if token != MASK)
        return 0.5 + 0.5 * math.sin(3.0 * position + seen)

    def importance(self, batch, t):
        self.asked.append((batch.tokens.clone(), t))
        found = [
            [self.of(canvas, i) for i in range(batch.length)]
            for canvas in batch.tokens.tolist()
        ]
        return torch.tensor(found)


def sample(table, canvas, *, seed=0, steps=LENGTH, policy=None, trace=None, **settings):
    options = {
        key: settings.pop(key)
        for key in ("temperature", "top_k", "banned")
        if key in settings
    }
    denoiser = Denoiser(table, policy=policy or Policy(), **options)
    settings = {"schedule": LogLinear(), "batch_size": 100_000} | settings
    return uncertainty_guided(
        denoiser,
        canvas,
        noise=Noise(seed),
        steps=steps,
        callback=None if trace is None else lambda _, now: trace.append(now),
        **settings,
    )


def blank(rows, known=()):
    tokens = torch.full((rows, LENGTH), MASK)
    for position, token in known:
        tokens[:, position] = token
    return Batch.of(tokens)
