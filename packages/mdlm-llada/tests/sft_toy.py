"""A denoiser and rows so small that every mask can be counted."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.measure import TimeLaw
from mdlm_llada.sft.module import FineTuning

V, MASK, WIDTH = 7, 3, 6
T_MIN = 1e-3
ANSWERS = (5, 3, 2)
"""Tokens of the answers of `rows`."""


class ToyBackbone(nn.Module):
    """Each position sees the mean of all others and itself; float64."""

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, zero=False):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.embed = nn.Embedding(V, WIDTH)
        self.place = nn.Embedding(16, WIDTH)
        self.mix = nn.Linear(2 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, V)
        self.block_size = 0
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)
            if zero:
                self.head.weight.zero_()
                self.head.bias.zero_()

    def hidden(self, batch, t=None):
        x = self.embed(batch.tokens) * ~batch.pad[..., None]
        here = x + self.place.weight[: batch.length]
        around = (here * ~batch.pad[..., None]).sum(1, keepdim=True)
        return torch.tanh(self.mix(torch.cat([here, around.expand_as(here)], -1)))

    def logits(self, hidden):
        return self.head(hidden)


def rows(copies=1):
    """Return three rows, `copies` times: prompts of 1, 3 and 0 tokens."""
    tokens = torch.tensor(
        [[1, 0, 5, 6, 2, 4], [2, 2, 6, 0, 1, 5], [4, 1, 0, 0, 0, 0]], dtype=torch.int64
    )
    pad = torch.zeros(3, 6, dtype=torch.bool)
    pad[2, 2:] = True
    frozen = pad.clone()
    frozen[0, :1] = frozen[1, :3] = True
    return Batch.of(
        tokens.repeat(copies, 1),
        pad=pad.repeat(copies, 1),
        frozen=frozen.repeat(copies, 1),
        sample_id=torch.arange(3 * copies),
    )


def module(backbone=None, times=None, **settings):
    """Return the module that is trained, with the usual schedule."""
    return FineTuning(
        backbone or ToyBackbone(),
        schedule=LogLinear(eps=0.0),
        policy=UniformMasking(),
        times=TimeLaw(times or TimesConfig(), T_MIN),
        t_min=T_MIN,
        noise=Noise(5),
        **settings,
    )


def every_mask(backbone, batch, row):
    """Return (how many are hidden, sum of -log p over them) for each mask of a row."""
    free = batch.free[row].nonzero()[:, 0]
    found = []
    with torch.no_grad():
        for chosen in product([False, True], repeat=len(free)):
            hidden = free[torch.tensor(chosen)]
            if not len(hidden):
                continue
            canvas = batch.tokens[row : row + 1].clone()
            canvas[0, hidden] = MASK
            one = Batch.of(canvas, pad=batch.pad[row : row + 1])
            logits = backbone.logits(backbone.hidden(one)[0, hidden])
            logits[:, MASK] = -torch.inf
            logp = torch.log_softmax(logits, -1)
            right = logp[torch.arange(len(hidden)), batch.tokens[row, hidden]]
            found.append((len(hidden), -float(right.sum())))
    return len(free), found


def loss_at(backbone, batch, row, tau):
    """Return the expected loss of a row at one time, per token of its answer."""
    n, masks = every_mask(backbone, batch, row)
    p = T_MIN + (1 - T_MIN) * tau
    return sum(p ** (k - 1) * (1 - p) ** (n - k) * c for k, c in masks) / n


def expected_losses(backbone, batch):
    """Return each row's expected loss, by quadrature that is exact for polynomials."""
    x, w = np.polynomial.legendre.leggauss(12)
    return [
        sum(
            weight / 2 * loss_at(backbone, batch, row, (node + 1) / 2)
            for node, weight in zip(x, w, strict=True)
        )
        for row in range(3)
    ]
