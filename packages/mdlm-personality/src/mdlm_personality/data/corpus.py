"""Invented persons whose traits decide their words by a known amount.

The five traits of a person are independent and uniform in [0, 1]. Labels follow linear
structural equations, see `planted`.

A sentence is about one column. It has two places for a word of a pair; the pairs are
drawn without looking at the person, and in each place the high word stands with the
log-odds ``effect * (value - 0.5)``. So the law of words given values is known, and
`judge` inverts it. Letters: N texts, K columns, S sentences of an author.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from scipy.special import expit, ndtri

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import PersonaCorpusConfig
from mdlm_personality.traits import TRAITS

from . import lexicon
from .judge import Judgement, judge
from .lexicon import COLUMNS, LABEL_TIERS
from .planted import (
    NOISE,
    PLANTED_EFFECTS,
    planted_adjacency,
    planted_total_effects,
)
from .texts import PersonaTexts, Places, Values

__all__ = [
    "COLUMNS",
    "LABEL_TIERS",
    "NOISE",
    "PLANTED_EFFECTS",
    "Judgement",
    "draw_persons",
    "judge",
    "persona_corpus",
    "planted_adjacency",
    "planted_total_effects",
    "write_texts",
]


def draw_persons(count: int, noise: Noise) -> Values:
    """Return the values of `count` persons ``(count, K)``."""
    rows = torch.arange(count)
    traits = noise.child("traits").uniform(rows, len(TRAITS)).numpy()
    left = noise.child("labels").uniform(rows, len(LABEL_TIERS)).numpy()
    values = np.concatenate([traits - 0.5, NOISE * ndtri(left)], axis=1)
    adjacency = planted_adjacency()
    for child in range(len(TRAITS), len(COLUMNS)):  # COLUMNS is a topological order
        values[:, child] += values @ adjacency[:, child]
    return values + 0.5


def write_texts(
    values: Values, *, sentences: int, effect: float, labels: bool, noise: Noise
) -> list[str]:
    """Return the text of each person, `sentences` sentences.

    They come in rounds: each of the five traits once, and one label, in a random order;
    the labels take turns.

    Args:
        values: ``(N, K)``, or ``(N, 5)`` without labels.
        sentences: S.
        effect: log-odds of the high word for each unit of the value.
        labels: whether there are sentences about labels.
        noise: decides everything else.
    """
    topics = _topics(len(values), sentences, labels, noise.child("topics"))  # (N, S)
    uniform = noise.child("words").uniform(torch.arange(len(values)), 5 * sentences)
    draws = uniform.view(len(values), sentences, 5).numpy()  # frame, pairs, sides
    chance = expit(effect * (np.take_along_axis(values, topics, 1) - 0.5))
    high = draws[..., 3:] < chance[..., None]  # (N, S, 2)
    return [
        " ".join(
            _sentence(COLUMNS[topic], numbers, sides)
            for topic, numbers, sides in zip(of, drawn, which, strict=True)
        )
        for of, drawn, which in zip(
            topics.tolist(), draws[..., :3].tolist(), high.tolist(), strict=True
        )
    ]


def _topics(count: int, sentences: int, labels: bool, noise: Noise) -> Places:
    """Return the column of each sentence ``(count, sentences)``."""
    size = len(TRAITS) + labels
    rounds = -(-sentences // size)
    rows = torch.arange(count)
    keys = noise.uniform(rows, rounds * size).view(count, rounds, size)
    order = keys.numpy().argsort(axis=-1)  # size - 1 is the label's turn
    if labels:
        told = len(LABEL_TIERS)
        cycles = -(-rounds // told)
        turns = noise.child("labels").uniform(rows, cycles * told)
        turn = turns.view(count, cycles, told).numpy().argsort(axis=-1)
        turn = turn.reshape(count, -1)[:, :rounds, None] + len(TRAITS)
        order = np.where(order == len(TRAITS), turn, order)
    return np.asarray(order.reshape(count, -1)[:, :sentences], dtype=np.int64)


def _sentence(column: str, numbers: Sequence[float], high: Sequence[bool]) -> str:
    """Return a sentence: `numbers` choose frame and pairs, `high` the words."""
    frames = lexicon.LABEL_FRAMES.get(column, lexicon.FRAMES)
    frame, places = _parsed(frames[int(numbers[0] * len(frames))])
    words: list[str] = []
    before: tuple[str, int] | None = None
    for place, number, side in zip(places, numbers[1:], high, strict=True):
        kind = "label" if column in LABEL_TIERS else "ab" if place in "ab" else "gh"
        pairs = _PAIRS[kind][column]
        if before is not None and before[0] == kind:  # another pair
            chosen = int(number * (len(pairs) - 1))
            chosen += chosen >= before[1]
        else:
            chosen = int(number * len(pairs))
        before = (kind, chosen)
        words.append(pairs[chosen][0 if side else 1])
    return frame.format(*words)


_PAIRS = {
    "label": lexicon.LABEL_WORDS,
    "ab": lexicon.QUALITIES,
    "gh": lexicon.PASTIMES,
}


@cache
def _parsed(frame: str) -> tuple[str, str]:
    """Return a frame with plain places, and the letters of its first two places."""
    letters = "".join(re.findall(r"\{(.)\}", frame))
    return re.sub(r"\{.\}", "{}", frame), letters


def persona_corpus(config: PersonaCorpusConfig) -> PersonaTexts:
    """Return the texts of the invented persons, one for each."""
    noise = Noise(config.seed).child("personality", "corpus")
    values = draw_persons(config.authors, noise.child("persons"))
    texts = write_texts(
        values,
        sentences=config.sentences,
        effect=config.effect,
        labels=config.labels,
        noise=noise.child("texts"),
    )
    columns = COLUMNS if config.labels else TRAITS
    values = values[:, : len(columns)]
    if config.missing:
        rows = torch.arange(config.authors)
        hidden = noise.child("missing").uniform(rows, len(columns)).numpy()
        values = np.where(hidden < config.missing, np.nan, values)
    return PersonaTexts(
        tuple(texts),
        tuple(f"person-{i}" for i in range(config.authors)),
        values,
        columns,
        dict(LABEL_TIERS) if config.labels else {},
    )
