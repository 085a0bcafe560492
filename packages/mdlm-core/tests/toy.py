"""A denoiser small enough to enumerate everything it can say.

V = 3: two tokens and the mask, which is 2. Any canvas has its own distribution at each
position, so that nothing is assumed about how the context is used.
"""

import math
from itertools import permutations, product

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch

V, MASK = 3, 2


class Toy(torch.nn.Module):
    """Random logits for every canvas of length L, and for each position of it."""

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, length: int, seed: int = 0, scale: float = 1.5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        table = scale * torch.randn(V**length, length, V, generator=generator)
        self.table = torch.nn.Parameter(table)
        self.length = length
        self.times: list[Tensor] = []
        self.calls = 0

    def index(self, canvas: Tensor) -> Tensor:
        powers = V ** torch.arange(self.length)
        return (canvas * powers).sum(-1)

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        self.calls += 1
        self.times.append(t)
        return self.table[self.index(batch.tokens)]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.clone()

    def log_prob(self, canvas: list[int], position: int, token: int) -> float:
        """Return log p(token at position | canvas), by hand in float64."""
        row = self.table.detach()[int(self.index(torch.tensor(canvas)))][position]
        weights = [math.exp(float(row[v])) for v in range(V) if v != MASK]
        return float(row[token]) - math.log(sum(weights))


def chain(toy: Toy, tokens: list[int], order: tuple[int, ...]) -> float:
    """Return -log p of restoring `tokens` in this order, the rest being visible."""
    canvas = [MASK if i in order else token for i, token in enumerate(tokens)]
    total = 0.0
    for position in order:
        total -= toy.log_prob(canvas, position, tokens[position])
        canvas[position] = tokens[position]
    return total


def any_order_bound(toy: Toy, tokens: list[int], free: list[int]) -> float:
    """Return the mean of the chain over all orders: what every estimator estimates."""
    orders = list(permutations(free))
    return sum(chain(toy, tokens, order) for order in orders) / len(orders)


def any_order_law(toy: Toy, tokens: list[int], free: list[int]) -> float:
    """Return p(tokens), the mean over all orders of the product."""
    orders = list(permutations(free))
    return sum(math.exp(-chain(toy, tokens, order)) for order in orders) / len(orders)


def masked_cost(toy: Toy, tokens: list[int], free: list[int]) -> list[float]:
    """Return, for j = 0 to n, the sum over masks of j tokens of their -log p."""
    cost = [0.0] * (len(free) + 1)
    for hidden in product([False, True], repeat=len(free)):
        positions = [i for i, hide in zip(free, hidden, strict=True) if hide]
        canvas = [MASK if i in positions else token for i, token in enumerate(tokens)]
        cost[len(positions)] -= sum(
            toy.log_prob(canvas, i, tokens[i]) for i in positions
        )
    return cost


def cost_at(toy: Toy, tokens: list[int], free: list[int], rate: Tensor) -> Tensor:
    """Return the expected sum of -log p of the hidden tokens at each mask rate."""
    n = len(free)
    return sum(
        cost * rate**j * (1 - rate) ** (n - j)
        for j, cost in enumerate(masked_cost(toy, tokens, free))
    )
