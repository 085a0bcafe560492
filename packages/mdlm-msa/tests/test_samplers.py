"""Samplers that mdlm-msa adds, on laws whose result is known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from math import comb

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import Cosine, LogLinear
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import Denoiser, ancestral
from mdlm_msa.samplers import one_shot, remask
from mdlm_msa.samplers.remask import chances

MASK = 2
Law = dict[tuple[int, ...], float]


@dataclass
class TwoModes:
    """The exact posterior of rows that are all 0 or all 1, each with chance 1/2."""

    vocab_size: int = 3
    mask_id: int = MASK
    time_conditioned: bool = False

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        zeros, ones = ((batch.tokens == i).any(1) for i in (0, 1))
        chance = torch.full((len(batch),), 0.5)
        chance[zeros & ~ones] = 0.0
        chance[ones & ~zeros] = 1.0
        return chance[:, None, None].expand(*batch.tokens.shape, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        masked = torch.full_like(hidden, -torch.inf)
        return torch.cat([(1 - hidden).log(), hidden.log(), masked], -1)


def sample(sampler, rows=2000, length=16, steps=256, schedule=None, seed=0, **more):
    return sampler(
        Denoiser(TwoModes()),
        Batch.of(torch.full((rows, length), MASK)),
        schedule=schedule or LogLinear(0.0),
        noise=Noise(seed),
        steps=steps,
        batch_size=rows,
        **more,
    )


def valid(tokens: Tensor) -> float:
    return float((tokens == tokens[:, :1]).all(1).double().mean())


def chance_valid(length: int, steps: int) -> float:
    """Closed form of ancestral sampling: only the first step that reveals can fail."""
    return sum(
        comb(length, k) * (j / steps) ** (length - k) / steps**k * 2.0 ** (1 - k)
        for j in range(steps)
        for k in range(1, length + 1)
    )


def test_ancestral_and_remask_write_one_mode_nearly_always():
    assert chance_valid(16, 256) == pytest.approx(0.984, abs=1e-3)
    found = valid(sample(ancestral).tokens)
    assert found >= 0.98
    assert found == pytest.approx(chance_valid(16, 256), abs=0.011)  # 4 se
    assert valid(sample(remask, rows=200).tokens) >= 0.99


def test_few_steps_are_as_the_closed_form_and_remask_mends():
    coarse = valid(sample(ancestral, steps=16).tokens)
    assert coarse == pytest.approx(chance_valid(16, 16), abs=0.04)
    assert valid(sample(remask, steps=16).tokens) > coarse + 0.06


def test_one_shot_is_a_product_of_marginals():
    found = sample(one_shot, length=2)
    assert valid(found.tokens) == pytest.approx(0.5, abs=0.05)
    assert valid(sample(one_shot).tokens) < 0.01
    assert found.nfe.tolist() == [1] * 2000
    alike = sample(ancestral, length=2, steps=1)
    assert torch.equal(found.tokens, alike.tokens)


def chain(
    length: int, schedule, steps: int, eta: float
) -> dict[tuple[int, ...], float]:
    """The law of `remask` by enumeration of all canvases: the published transition."""
    alpha = [
        float(schedule.alpha(torch.tensor(i / steps).double())) for i in range(1, steps)
    ]
    last = float(schedule.alpha(torch.ones((), dtype=torch.float64)))
    alpha = [1.0, *((a - last) / (1 - last) for a in alpha), 0.0]
    law = {(MASK,) * length: 1.0}
    model = TwoModes()
    for i in range(steps, 0, -1):
        s, t = alpha[i - 1], alpha[i]
        sigma = eta * (1 - s)
        shown = (s - (1 - sigma) * t) / (1 - t)
        following: Law = {}
        for state, p in law.items():
            one = float(model.hidden(Batch.of(torch.tensor([state])))[0, 0, 0])
            options = []
            for token in state:
                if token == MASK:
                    moves = {0: shown * (1 - one), 1: shown * one, MASK: 1 - shown}
                else:
                    moves = {token: 1 - sigma, MASK: sigma}
                options.append(list(moves.items()))
            for way in product(*options):
                q = p * float(np.prod([chance for _, chance in way]))
                new = tuple(token for token, _ in way)
                following[new] = following.get(new, 0.0) + q
        law = following
    return law


@pytest.mark.parametrize(
    "schedule", [LogLinear(0.0), Cosine(0.05)], ids=["line", "cos"]
)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_remask_has_the_law_of_its_transitions(eta, schedule):
    law = chain(3, schedule, 4, eta)
    assert law.get((MASK,) * 3, 0.0) < 1e-12
    states = list(product((0, 1), repeat=3))
    expected = np.array([law[state] for state in states])
    assert expected.sum() == pytest.approx(1)
    found = sample(remask, rows=10_000, length=3, steps=4, schedule=schedule, eta=eta)
    counts = np.bincount(found.tokens @ torch.tensor([4, 2, 1]), minlength=8)
    assert chisquare(counts, expected * 10_000).pvalue > 1e-3


def test_remask_without_hiding_is_ancestral_in_law():
    rows = 10_000
    a = sample(remask, rows=rows, length=3, steps=4, eta=0.0).tokens
    b = sample(ancestral, rows=rows, length=3, steps=4).tokens
    assert valid(a) == pytest.approx(valid(b), abs=0.025)
    assert valid(a) == pytest.approx(chance_valid(3, 4), abs=0.02)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("schedule", [LogLinear(), Cosine(0.2)])
def test_chances_keep_the_share_of_visible_tokens(eta, schedule):
    times = torch.linspace(0, 1, 12, dtype=torch.float64)
    reveal, hide = chances(schedule.mask_rate(times), eta)
    assert bool(((reveal >= 0) & (reveal <= 1) & (hide >= 0) & (hide <= 1)).all())
    assert (float(reveal[0]), float(hide[0])) == (1.0, 0.0)
    masked = schedule.mask_rate(times) / schedule.mask_rate(times)[-1]
    for i in range(1, 11):  # the step from t_{i + 1} to t_i
        before = masked[i + 1]
        after = before * (1 - reveal[i]) + (1 - before) * hide[i]
        assert float(after) == pytest.approx(float(masked[i]), abs=1e-12)


def test_remask_never_touches_what_was_given():
    tokens = torch.full((8, 12), MASK)
    tokens[:, 3], tokens[:, 7] = 1, 1
    frozen = torch.zeros_like(tokens, dtype=torch.bool)
    frozen[:, 3] = True
    frozen[:, 11] = True  # a mask that nobody may fill
    seen: list[Tensor] = []
    found = remask(
        Denoiser(TwoModes()),
        Batch.of(tokens, frozen=frozen),
        schedule=LogLinear(),
        noise=Noise(3),
        steps=9,
        callback=lambda step, canvas: seen.append(canvas),
    ).tokens
    hidden_again = 0
    for before, after in pairwise(seen):
        assert bool((after[:, [3, 7]] == 1).all() and (after[:, 11] == MASK).all())
        hidden_again += int(((before != MASK) & (after == MASK)).sum())
    assert hidden_again > 0
    assert torch.equal(seen[-1], found)
    assert bool((found[:, :11] == 1).all())


def test_remask_refuses_an_eta_that_is_no_share():
    with pytest.raises(ConfigError, match=r"eta is 1\.5"):
        sample(remask, rows=1, eta=1.5)


# ---- loops of the original description ----------------------------------------------
# Written here alone, to keep what they do on record: time runs from 1 to 0 while
# the chance to be masked, 1 - (1 - eps) t, rises. None of this is in the product.

EPS = 1e-3


def proposal(canvas: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """A token at every position, from the model's law, and how sure it is."""
    one = TwoModes().hidden(Batch.of(canvas))[..., 0]
    u = noise.child("what").uniform(torch.arange(len(canvas)), canvas.shape[1])
    drawn = (u < one).long()
    return drawn, torch.where(drawn == 1, one, 1 - one)


def original_redraw(rows: int, length: int, steps: int) -> Tensor:
    """Draw every position anew at each step, and hide each with a rising chance."""
    canvas = torch.full((rows, length), MASK)
    for step in range(steps):
        noise = Noise(0).child("step", step)
        canvas, _ = proposal(canvas, noise)
        if step < steps - 1:
            chance = 1 - (1 - EPS) * (1 - (step + 1) / steps)
            u = noise.child("when").uniform(torch.arange(rows), length)
            canvas = canvas.masked_fill(u < chance, MASK)
    return canvas


def original_cache(rows: int, length: int, steps: int) -> Tensor:
    """Keep the surest tokens up to the share 1 - sigma, which is nearly all at once."""
    canvas = torch.full((rows, length), MASK)
    for step in range(steps):
        chance = 1 - (1 - EPS) * (1 - (step + 1) / steps)
        goal = length if step == steps - 1 else int((1 - chance) * length)
        masked = canvas == MASK
        drawn, sure = proposal(canvas, Noise(0).child("step", step))
        order = sure.masked_fill(~masked, -1.0).argsort(1, descending=True)
        quota = (goal - (~masked).sum(1)).clamp(min=0)
        commit = torch.zeros_like(masked).scatter(
            1, order, torch.arange(length) < quota[:, None]
        )
        canvas = torch.where(commit, drawn, canvas)
    return canvas


def test_original_loops_fail_where_ancestral_and_remask_do_not():
    assert valid(original_redraw(400, 16, 256)) == pytest.approx(0.06, abs=0.05)
    assert valid(original_redraw(400, 2, 256)) == pytest.approx(0.51, abs=0.1)
    assert valid(original_cache(400, 16, 256)) == pytest.approx(0.0, abs=0.01)
