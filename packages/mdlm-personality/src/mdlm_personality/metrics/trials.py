"""Texts that are written to be judged: of random personas, and of ones that are set.

A trial of interventions writes one text of each of N random personas, a second one, and
for every trait the first one again with that trait set, under the same noise. Every
trait of a persona is low (up to 0.25) or high (from 0.75) by chance, and is set to the
value that mirrors it, 1 - v.

Letters: N personas, B rows at once, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.generation.personas import Do
from mdlm_personality.generation.writing import Manner, generate
from mdlm_personality.saved import Trained
from mdlm_personality.traits import TRAITS

from .alignment import Alignment, Readings, alignment
from .flips import Flips, edit_rate, flips
from .judges import Judge

AT_ONCE = 48
"""Texts that are written together."""
EXTREME = 0.25
"""How far from 0 or 1 a trait is at most that will be set to the other side."""
Progress = Callable[[int], None]
"""Told how many texts were written."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """N texts."""

    texts: list[str]
    tokens: Tensor
    """``(N, L)`` on the CPU."""
    nfe: float
    """Forward passes of a text, the mean."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """Texts of random personas, and how they fit."""

    alignment: tuple[Alignment, ...]
    drawn: Drawn


@dataclass(frozen=True, slots=True)
class Flipped:
    """What interventions on each trait did."""

    flips: tuple[Flips, ...]
    before: Readings
    """Of the factual texts."""
    target: Tensor
    """``(N, 5)``: the side that each trait was set to."""
    nfe: float
    """Forward passes of a pair, the mean."""


def uniform_personas(count: int, noise: Noise) -> Tensor:
    """Return ``(count, 5)`` traits, uniform in [0, 1]."""
    return noise.child("uniform").uniform(torch.arange(count), len(TRAITS))


def extreme_personas(count: int, noise: Noise) -> Tensor:
    """Return ``(count, 5)`` traits, each low or high with equal chance."""
    rows = torch.arange(count)
    side = noise.child("side").uniform(rows, len(TRAITS)) > 0.5
    low = EXTREME * noise.child("value").uniform(rows, len(TRAITS))
    return torch.where(side, 1 - low, low)


def aligned(
    trained: Trained,
    judge: Judge,
    *,
    samples: int,
    guidance: GuidanceConfig,
    manner: Manner,
    noise: Noise,
    progress: Progress = lambda count: None,
) -> Aligned:
    """Write texts of random personas and read their traits.

    Args:
        trained: the model.
        judge: reads the texts.
        samples: N.
        guidance: how strongly texts are drawn to their persona.
        manner: the sampler.
        noise: decides personas and texts; the same personas for every guidance.
        progress: told of every text.
    """
    values = uniform_personas(samples, noise)
    seeds = noise.child("texts")
    drawn = _write(trained, values, None, guidance, manner, seeds, progress)
    readings = judge.read(drawn.texts)
    return Aligned(alignment(values.numpy(), readings, noise=noise), drawn)


def flipped(
    trained: Trained,
    judge: Judge,
    *,
    personas: int,
    guidance: GuidanceConfig,
    manner: Manner,
    noise: Noise,
    progress: Progress = lambda count: None,
) -> Flipped:
    """Write texts of personas, again, and with every trait set; see the module.

    Args:
        trained: the model.
        judge: reads the texts.
        personas: N; each gives one pair for each trait.
        guidance: of all texts.
        manner: the sampler; it draws tokens so that pairs are coupled.
        noise: decides personas and texts.
        progress: told of every text.
    """
    values = extreme_personas(personas, noise)
    pairs, anew = noise.child("pairs"), noise.child("again")

    def written(do: Sequence[Do] | None, seeds: Noise) -> Drawn:
        return _write(trained, values, do, guidance, manner, seeds, progress)

    factual, second = written(None, pairs), written(None, anew)
    before, again = judge.read(factual.texts), judge.read(second.texts)
    target = (values < 0.5).double()
    found, cost = [], []
    for k, name in enumerate(TRAITS):
        do = [{name: float(1 - value)} for value in values[:, k]]
        other = written(do, pairs)
        cost.append(factual.nfe + other.nfe)
        found.append(
            flips(
                before.sides,
                judge.read(other.texts).sides,
                again.sides,
                trait=k,
                target=target[:, k].numpy(),
                edits=edit_rate(factual.tokens, other.tokens),
                noise=noise,
            )
        )
    return Flipped(tuple(found), before, target, sum(cost) / len(cost))


def _write(
    trained: Trained,
    values: Tensor,
    do: Sequence[Do] | None,
    guidance: GuidanceConfig,
    manner: Manner,
    seeds: Noise,
    progress: Progress,
) -> Drawn:
    """Write a text for each row of `values`; equal `seeds` give coupled texts."""
    texts: list[str] = []
    tokens, passes = [], 0
    for piece, start in enumerate(range(0, len(values), AT_ONCE)):
        rows = slice(start, start + AT_ONCE)
        found = generate(
            trained,
            values[rows],
            do=None if do is None else do[rows],
            seed=seeds.child(piece).integer(),
            guidance=guidance,
            manner=manner,
        )
        texts += found.texts
        tokens.append(found.tokens.cpu())
        passes += int(found.nfe.sum())
        progress(len(found.texts))
    return Drawn(texts, torch.cat(tokens), passes / len(texts))
