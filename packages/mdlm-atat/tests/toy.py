"""A denoiser and its processes on rows of three tokens, by enumeration.

Three tokens and the mask, which is 3. The oracles here are written out by hand in
float64: the exact law of a reverse jump process on the 4^3 canvases, and bounds of
processes in discrete time, from nothing but the chances to be hidden. Letters: N rows,
L = 3 positions, V = 4.
"""

from itertools import permutations, product

import numpy as np
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise

L, V, MASK = 3, 4, 3
ROWS = torch.tensor(list(product(range(MASK), repeat=L)))  # (27, L)
MASKS = torch.tensor(list(product((False, True), repeat=L)))  # (8, L)
CANVASES = torch.tensor(list(product(range(V), repeat=L)))  # (64, L)
_POWERS = torch.tensor([V**2, V, 1])


def uniform(name, rows, columns, seed=0):
    return Noise(seed).child("toy", name).uniform(torch.arange(rows), columns)


def gumbel(name, rows, columns, seed=0):
    return -(-uniform(name, rows, columns, seed).log()).log()


def joint(seed=0):
    """Return a law of the rows, ``(27,)``."""
    return torch.softmax(0.8 * gumbel("joint", len(ROWS), 1, seed)[:, 0], 0)


def conditionals(weights):
    """Return ``(64, L, 3)``: the law that weighted rows give a position of a canvas.

    Args:
        weights: ``(64, 27, L)`` or broadcast to it, what each row counts for each
            position of each canvas; rows that do not fit the canvas count nothing.
    """
    fits = ((CANVASES[:, None] == MASK) | (CANVASES[:, None] == ROWS)).all(-1)
    held = torch.nn.functional.one_hot(ROWS, MASK).double()  # (27, L, 3)
    weights = (weights * fits[..., None]).expand(-1, -1, L)
    sums = torch.einsum("zxi,xiv->ziv", weights, held)
    return sums / sums.sum(-1, keepdim=True)


class Table(torch.nn.Module):
    """The conditionals of a law, for every canvas, with errors of size `error`."""

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, seed=0, error=0.3):
        super().__init__()
        true = conditionals(joint(seed)[None, :, None])
        noise = gumbel("error", V**L, L * MASK, seed).view(V**L, L, MASK)
        # What stands at a visible position is never asked for.
        logits = true.clamp(min=1e-9).log() + error * noise
        self.table = torch.nn.Parameter(torch.nn.functional.pad(logits, (0, 1)))

    def hidden(self, batch, t=None):
        return self.table[index(batch.tokens)]

    def logits(self, hidden):
        return hidden.clone()

    @property
    def laws(self):
        """The law of each position of each canvas, ``(64, L, 3)``."""
        return self.table.detach()[..., :MASK].softmax(-1)

    def nll(self, rows, masked):
        """Return ``-log p(x_i | canvas)`` at all positions, ``(N, L)``."""
        laws = self.laws[index(rows.masked_fill(masked, MASK))]
        return -laws.gather(2, rows[..., None])[..., 0].log()


def index(canvas):
    """Return the number of a canvas, 0 to 63."""
    return (canvas * _POWERS).sum(-1)


def masking_law(chances):
    """Return the chance of each canvas for each row, ``(64, 27)``."""
    masked = (CANVASES == MASK)[:, None]
    fits = (masked | (CANVASES[:, None] == ROWS)).all(-1)
    return torch.where(masked, chances, 1 - chances).prod(-1) * fits


# ---- exact laws --------------------------------------------------------------


def jump_law(rates, laws, *, end=36.0, steps=240):
    """Return -log p of each row under a reverse process, by its master equation.

    Time runs as s = -log u from 0, where all is masked; what is left at the end has no
    weight to speak of.

    Args:
        rates: of s, giving ``(64, L)``: the rate per unit of s at which a masked
            position of each canvas is revealed.
        laws: of s, giving ``(64, L, 3)``: what it then holds.
        end: the last s.
        steps: of the classical Runge-Kutta rule.

    Returns:
        ``(27,)``.
    """
    masked = CANVASES == MASK
    after = index(CANVASES)[:, None, None] + (
        (torch.arange(MASK)[None, None] - MASK) * _POWERS[None, :, None]
    )
    after = torch.where(masked[..., None], after, 0)

    def change(s, chance):
        rate = rates(s) * masked
        flow = chance[:, None, None] * rate[..., None] * laws(s)
        gained = torch.zeros(V**L, dtype=torch.float64)
        gained.index_add_(0, after.reshape(-1), flow.reshape(-1))
        return gained - chance * rate.sum(1)

    chance = torch.zeros(V**L, dtype=torch.float64)
    chance[-1] = 1
    h = end / steps
    for step in range(steps):
        s = step * h
        k1 = change(s, chance)
        k2 = change(s + h / 2, chance + h / 2 * k1)
        k3 = change(s + h / 2, chance + h / 2 * k2)
        k4 = change(s + h, chance + h * k3)
        chance = chance + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    filled = chance[index(ROWS)]
    assert abs(float(filled.sum()) - 1) < 1e-6
    return -filled.log()


def over_orders(table, speeds):
    """Return the bound and -log p where position i is revealed at a rate of its own.

    The next position is i with chance w_i over the sum of those left.

    Args:
        table: the denoiser.
        speeds: ``(L,)`` w.

    Returns:
        Two ``(27,)``: the mean of -log of the product, and -log of the mean product.
    """
    chains, chances = [], []
    for order in permutations(range(L)):
        masked = torch.ones(len(ROWS), L, dtype=torch.bool)
        chain, chance = torch.zeros(len(ROWS), dtype=torch.float64), 1.0
        for place, i in enumerate(order):
            chance *= speeds[i] / sum(speeds[j] for j in order[place:])
            chain = chain + table.nll(ROWS, masked)[:, i]
            masked[:, i] = False
        chains.append(chain)
        chances.append(chance)
    chains = torch.stack(chains, 1)
    chances = torch.tensor(chances, dtype=torch.float64)
    return chains @ chances, -((-chains).exp() @ chances).log()


# ---- bounds ------------------------------------------------------------------


def everything(u):
    """Return all (time, row, mask): ``(K * 27 * 8,)`` times, rows and masks."""
    k, n, m = len(u), len(ROWS), len(MASKS)
    time = u[:, None, None].expand(k, n, m).reshape(-1)
    rows = ROWS[None, :, None].expand(k, n, m, L).reshape(-1, L)
    masked = MASKS[None, None].expand(k, n, m, L).reshape(-1, L)
    return time, rows, masked


def chance_of(masked, chances):
    """Return the chance ``(N,)`` of a mask."""
    return torch.where(masked, chances, 1 - chances).prod(-1)


def quadrature(chances, costs, *, stretch=1.0, nodes=40):
    """Return the integral over u in (0, 1) of the expected cost, ``(27,)``.

    Args:
        chances: of (batch, u), giving ``(N, L)``.
        costs: of (batch, masked, u), giving ``(N,)``.
        stretch: u = v^stretch, and v is at the nodes of Gauss and Legendre.
        nodes: how many.
    """
    x, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(nodes))
    v = (x + 1) / 2
    u, rows, masked = everything(v**stretch)
    batch = Batch.of(rows)
    with torch.no_grad():
        value = chance_of(masked, chances(batch, u)) * costs(batch, masked, u).double()
    measure = weight / 2 * stretch * v ** (stretch - 1)
    return (value.view(nodes, len(ROWS), -1).sum(2) * measure[:, None]).sum(0)


def in_steps(chances, model, *, end=14.0, steps=50):
    """Return the bound of a process in continuous time, ``(27,)``, from discrete ones.

    The error of a grid is a power series in its step; three grids take away two terms.
    """
    one, two, four = (_on_grid(chances, model, end, n * steps) for n in (1, 2, 4))
    return (8 * four - 6 * two + one) / 3


def _on_grid(chances, model, end, steps):
    """Return the bound of a process in discrete time, ``(27,)``.

    On a grid of s = -log u, a masked position is revealed in the step from u to u' with
    chance xi = 1 - m(u') / m(u), against what the model says.

    Args:
        chances: of (rows, u), giving ``(N, L)``.
        model: of (rows, masked, u, u', xi), giving ``(N, L)``: the relative entropy of
            one position's step to the model's.
        end: the last s; the last step goes to u = 0.
        steps: of the grid.
    """
    s = torch.linspace(0, end, steps + 1, dtype=torch.float64)
    grid = torch.cat(((-s).exp(), torch.zeros(1, dtype=torch.float64)))
    n = len(ROWS)
    m = chances(ROWS.repeat(len(grid), 1), grid.repeat_interleave(n)).view(-1, n, L)
    u, rows, masked = everything(grid[:-1])
    later, _, _ = everything(grid[1:])
    now, then = (
        x.repeat_interleave(len(MASKS), 1).flatten(0, 1) for x in (m[:-1], m[1:])
    )
    xi = 1 - then / now
    cost = torch.where(masked, model(rows, masked, u, later, xi), 0.0).sum(1)
    return (chance_of(masked, now) * cost).view(steps + 1, len(ROWS), -1).sum((0, 2))


def binary_entropy_to(xi, rho):
    """Return the relative entropy of one coin to another."""
    return torch.special.xlogy(xi, xi / rho) + torch.special.xlogy(
        1 - xi, (1 - xi) / (1 - rho)
    )


def shifted(offsets, u):
    """Return sigmoid(lambda + offsets) with the mean u, by bisection, ``(N, L)``."""
    u = u[:, None]
    low, high = torch.full_like(u, -60.0), torch.full_like(u, 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.sigmoid(middle + offsets).mean(1, keepdim=True) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(u > 0, torch.sigmoid(low + offsets), 0.0)
