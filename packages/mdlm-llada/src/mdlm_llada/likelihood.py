"""How probable answers are: lower bounds of log p(answer | prompt), with their errors.

The bound is the any-order one,

    log p(y | x) >= G E_k E_{|S| = k} (1 / k) sum over S of log p(y_i | x, y outside S),

with k uniform in 1 to G (LLaDA, arXiv 2502.09992, eq. 6). A model of block diffusion
is asked block after block, each with the answer before it, and the bounds are added.

Letters: B batch, L length, G answer length, N selected positions, S hidden positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule

from .guided import Guided
from .meter import ENUMERABLE, Meter, Piece


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelihoodSettings:
    """How the bound is measured."""

    draws: int = 128
    """Evaluations of an answer. If all its 2^G - 1 sets of hidden tokens are no more
    than that, they are all evaluated, and the bound has no error."""
    target_se: float = 0.0
    """Standard error in nats to reach; 0 keeps to `draws`. How many more draws that
    takes is decided from the first `draws`, which are part of the estimate: where they
    happen to agree it ends early, so that the mean and its error are slightly biased.
    With 0 they are not."""
    max_draws: int = 1024
    """Draws in all, at most, for `target_se`."""
    cfg_scale: float = 0.0
    """Guidance w, as in decoding."""
    batch_size: int = 32
    """Rows evaluated at once."""
    greedy: bool = False
    """Whether it is also found out if greedy decoding gives the answer."""

    def __post_init__(self) -> None:
        for name in ("draws", "max_draws", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        for name in ("target_se", "cfg_scale"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value}; it must be 0 or more")
        if self.target_se and not 2 <= self.draws <= self.max_draws:
            raise ConfigError(
                f"target_se needs 2 draws or more to see an error, and max_draws "
                f"({self.max_draws}) that are not fewer; draws is {self.draws}"
            )


@dataclass(frozen=True, slots=True)
class Score:
    """What is known about an answer's probability."""

    log_likelihood: float
    """The lower bound of log p(answer | prompt), in nats."""
    se: float
    """Its standard error from the draws; 0 if it is exact, nan after one draw."""
    draws: int
    """Evaluations of the model, each of one row."""
    tokens: int
    """G."""
    greedy: bool | None
    """Whether greedy decoding gives the answer; None if that was not asked."""


def score(
    backbone: Backbone,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    settings: LikelihoodSettings | None = None,
    seed: int = 0,
    schedule: Schedule | None = None,
) -> list[Score]:
    """Measure the bounds of answers, each given its prompt.

    Masks depend on the seed and on the prompt's tokens. So the score of a pair is the
    same whatever the other pairs are, and answers to one prompt get common masks as
    far as their lengths allow, which makes their differences exacter.

    Args:
        backbone: the model; dropout is off while it is measured.
        pairs: ids of prompts and answers. An empty prompt asks for the probability of
            a text; an empty answer is certain.
        settings: draws, guidance, batches.
        seed: decides every mask.
        schedule: of a model that sees the time; ``alpha(t) = 1 - t`` if not given.

    Raises:
        UsageError: if an id is none of the model, or the mask.
    """
    settings = settings or LikelihoodSettings()
    _check(backbone, pairs)
    pieces = [
        piece
        for number, (prompt, answer) in enumerate(pairs)
        for piece in _pieces(backbone, number, tuple(prompt), tuple(answer))
    ]
    asked: Backbone = backbone
    if settings.cfg_scale:
        asked = Guided(backbone, settings.cfg_scale)
    meter = Meter(
        backbone=asked,
        draws=settings.draws,
        target_se=settings.target_se,
        max_draws=settings.max_draws,
        batch_size=settings.batch_size,
        noise=Noise(seed).child("likelihood"),
        schedule=schedule,
    )
    found = meter.measure(pieces)
    matched = meter.greedy(pieces) if settings.greedy else None
    parts: list[list[int]] = [[] for _ in pairs]
    for i, piece in enumerate(pieces):
        parts[piece.pair].append(i)
    scores = []
    for own, (_, answer) in zip(parts, pairs, strict=True):
        scores.append(
            Score(
                log_likelihood=-sum(found[i].nats for i in own) + 0.0,
                se=math.sqrt(sum(found[i].se ** 2 for i in own)),
                draws=sum(found[i].draws for i in own),
                tokens=len(answer),
                greedy=None if matched is None else all(matched[i] for i in own),
            )
        )
    return scores


def enumerated(
    backbone: Backbone,
    prompt: Sequence[int],
    answer: Sequence[int],
    *,
    schedule: Schedule | None = None,
    batch_size: int = 32,
) -> float:
    """Return the exact bound on log p(answer | prompt), by all sets of hidden tokens.

    ``sum over S of ((|S| - 1)! (G - |S|)! / G!) sum over i in S of log p(y_i | x,
    y outside S)``, 2^G - 1 evaluations.

    Raises:
        UsageError: if the answer has more than 12 tokens, or an id is wrong.
    """
    if len(answer) > ENUMERABLE:
        raise UsageError(
            f"the answer has {len(answer)} tokens, which are {2 ** len(answer) - 1} "
            f"sets of hidden ones; all are evaluated up to {ENUMERABLE} tokens"
        )
    settings = LikelihoodSettings(draws=2**ENUMERABLE, batch_size=batch_size)
    pair = (prompt, answer)
    found = score(backbone, [pair], settings=settings, schedule=schedule)
    return found[0].log_likelihood


def _check(
    backbone: Backbone, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> None:
    for number, (prompt, answer) in enumerate(pairs):
        for id_ in (*prompt, *answer):
            if not 0 <= id_ < backbone.vocab_size:
                raise UsageError(
                    f"pair {number} holds the id {id_}; the model has 0 to "
                    f"{backbone.vocab_size - 1}"
                )
        if backbone.mask_id in answer:
            raise UsageError(
                f"the answer of pair {number} holds the mask, {backbone.mask_id}, "
                f"which has no probability"
            )


def _pieces(
    backbone: Backbone, number: int, prompt: tuple[int, ...], answer: tuple[int, ...]
) -> Iterator[Piece]:
    """Yield the parts of an answer: its blocks in block diffusion, otherwise it all."""
    if not answer:
        return
    size = int(getattr(backbone, "block_size", 0))
    whole, start = prompt + answer, len(prompt)
    while start < len(whole):
        end = len(whole) if not size else min(len(whole), (start // size + 1) * size)
        yield Piece(number, len(prompt), whole[:start], whole[start:end])
        start = end
