"""Pairs and prompts so small that every mask can be counted."""

from __future__ import annotations

import math

import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.kernels.noise import Noise
from mdlm_llada.config import GRPOConfig
from mdlm_llada.preference.groups import Groups
from mdlm_llada.preference.pairwise import Preference
from mdlm_llada.preference.reference import Reference
from mdlm_llada.preference.rollouts import Rollouts
from mdlm_llada.preference.scores import Draws

from .sft_toy import MASK, ToyBackbone, V, every_mask, rows

REJECTED = [[1, 6, 6, 0, 4, 0, 0], [2, 2, 6, 5, 5, 1, 0], [5, 5, 1, 0, 0, 0, 0]]
LENGTHS = [5, 7, 3]
"""Answers of 4, 4 and 3 tokens, to the prompts of `sft_toy.rows`."""
END = 0


def pairs(copies=1):
    """Return three pairs, `copies` times."""
    chosen = rows(copies)
    condition = {
        "rejected": torch.tensor(REJECTED).repeat(copies, 1),
        "rejected_length": torch.tensor(LENGTHS).repeat(copies),
    }
    return Batch.of(
        chosen.tokens,
        frozen=chosen.frozen,
        pad=chosen.pad,
        sample_id=chosen.sample_id,
        condition=condition,
    )


def rejected_rows():
    """Return the prompts with their rejected answers, as rows of their own."""
    place = torch.arange(7)
    return Batch.of(
        torch.tensor(REJECTED),
        frozen=place < torch.tensor([1, 3, 0])[:, None],
        pad=place >= torch.tensor(LENGTHS)[:, None],
    )


def moved(backbone, size=0.3, seed=2):
    """Move the weights, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in backbone.parameters():
            value.add_(size * torch.randn(value.shape, generator=generator))
    return backbone


def preference(backbone=None, *, beta=0.3, shared=True, apart=True, **draws):
    """Return the module; `apart` says that the model has left its reference."""
    backbone = ToyBackbone() if backbone is None else backbone
    reference = Reference(backbone)
    if apart:
        moved(backbone)
    return Preference(
        backbone,
        reference,
        schedule=None,
        beta=beta,
        draws=Draws(**{"count": 4, **draws}),
        shared=shared,
    )


def draw(batch, noise=None, step=0):
    """Return where the noise of a whole batch comes from."""
    return Draw(noise or Noise(4), torch.arange(len(batch)), len(batch), step)


def exact_bound(backbone, batch, row):
    """Return the bound on log p of a row, by all orders of its tokens at once."""
    n, masks = every_mask(backbone, batch, row)
    return -sum(
        math.factorial(k - 1) * math.factorial(n - k) / math.factorial(n) * nats
        for k, nats in masks
    )


class Placed(nn.Module):
    """A law that depends on the position alone, so that sums are known in closed form.

    With n tokens of -log p = c_i and k of them hidden with k uniform in 1 to n, the
    variance of ``n / k * sum of hidden c`` is ``n (H_n - 1) S^2(c)``: sampling without
    replacement, with the harmonic number H_n and the sample variance S^2.
    """

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(8, V, generator=generator))

    def hidden(self, batch, t=None):
        return self.table[: batch.length].expand(len(batch), -1, -1)

    def logits(self, hidden):
        return hidden

    def costs(self, tokens, first):
        """Return -log p of `tokens`, the first of which stands at `first`."""
        table = self.table.detach().double().clone()
        table[:, MASK] = -torch.inf
        laws = table.log_softmax(-1)
        return torch.stack([-laws[first + i, t] for i, t in enumerate(tokens)])


def sampling_variance(costs):
    """Return ``n (H_n - 1) S^2``; see `Placed`."""
    n = len(costs)
    return n * (sum(1 / k for k in range(1, n + 1)) - 1) * float(costs.var())


# ---- learning from rewards ---------------------------------------------------

SIZE = 4
"""Tokens of an answer."""
PROMPTS = ([1], [2, 5, 6], [4, 1])
"""Those of `prompts`."""


def prompts():
    """Return three prompts of 1, 3 and 2 tokens, each with one end."""
    tokens = torch.tensor([[1, 0, 0, 0], [2, 5, 6, 0], [4, 1, 0, 0]])
    lengths = torch.tensor([1, 3, 2])[:, None]
    place = torch.arange(4)
    return Batch.of(
        tokens,
        frozen=place < lengths,
        pad=place > lengths,
        sample_id=torch.tensor([11, 4, 7]),
    )


def fives(row, ids):
    """Return the share of 5s among four tokens, and a little for the prompt's row."""
    return sum(i == 5 for i in ids) / SIZE + row / 100


def weighed(row, ids):
    """Return a number that nearly all answers differ in."""
    return sum((k + 1) * i for k, i in enumerate(ids)) / 30 + row / 100


def groups(backbone=None, *, reward=weighed, room=3, moves=False, **settings):
    """Return the module for `prompts`, with answers of four tokens."""
    backbone = ToyBackbone() if backbone is None else backbone
    values = {
        "group": 3,
        "inner_steps": 2,
        "answer_length": SIZE,
        "block": 2,
        "steps": 4,
        "temperature": 1.0,
        "beta": 0.1,
        **settings,
    }
    config = GRPOConfig(**values)
    reference = Reference(backbone, moves=moves) if config.beta else None
    return Groups(
        backbone,
        reference,
        Rollouts(
            room,
            inner_steps=config.inner_steps,
            group=config.group,
            length=SIZE,
            reference=reference is not None,
        ),
        settings=config,
        schedule=None,
        tokens=V,
        ends=(END,),
        reward=reward,
    )


def plain_log_probs(backbone, row, answer, hidden=None, holes=()):
    """Return log p of each token of an answer, by one canvas of one row."""
    prompt = PROMPTS[row]
    canvas = [MASK if i in holes else token for i, token in enumerate(prompt)]
    hidden = range(SIZE) if hidden is None else hidden
    canvas += [MASK if i in hidden else token for i, token in enumerate(answer)]
    logits = backbone.logits(backbone.hidden(Batch.of(torch.tensor([canvas])))[0])
    law = logits.index_fill(-1, torch.tensor([MASK]), -torch.inf).log_softmax(-1)
    return [law[len(prompt) + i, token] for i, token in enumerate(answer)]


def length(answer):
    """Return the tokens up to the first end."""
    return answer.index(END) + 1 if END in answer else len(answer)
