"""Invented persons whose traits decide their words by a known amount.

The five traits of a person are independent and uniform in [0, 1]. Labels follow linear
structural equations (`PLANTED_EFFECTS`), centred at 0.5:

    label - 0.5 = sum over parents of effect * (parent - 0.5) + NOISE * normal

A sentence is about one column. It has two places for a word of a pair; the pairs are
drawn without looking at the person, and in each place the high word stands with the
log-odds ``effect * (value - 0.5)``. So the law of words given values is known, and
`judge` inverts it exactly. Letters: N texts, K columns, S sentences of an author.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_expit, ndtri

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import PersonaCorpusConfig
from mdlm_personality.traits import TRAITS

from . import lexicon
from .lexicon import COLUMNS, LABEL_TIERS
from .texts import PersonaTexts, Places, Values

PLANTED_EFFECTS: dict[tuple[str, str], float] = {
    ("extraversion", "optimism"): 0.4,
    ("neuroticism", "optimism"): -0.6,
    ("agreeableness", "trust"): 0.7,
    ("neuroticism", "trust"): -0.3,
    ("openness", "outings"): 0.3,
    ("extraversion", "outings"): 0.5,
    ("optimism", "outings"): 0.4,
    ("conscientiousness", "exercise"): 0.6,
    ("outings", "exercise"): 0.5,
    ("agreeableness", "helping"): 0.4,
    ("trust", "helping"): 0.5,
}
"""(parent, child): the direct effect on the child of a unit change of the parent."""

NOISE = 0.1
"""The standard deviation of what the parents of a label leave open."""


def planted_adjacency() -> Values:
    """Return ``(K, K)``: entry [i, j] is the direct effect of column i on column j."""
    found = np.zeros((len(COLUMNS), len(COLUMNS)))
    for (parent, child), effect in PLANTED_EFFECTS.items():
        found[COLUMNS.index(parent), COLUMNS.index(child)] = effect
    return found


def planted_total_effects() -> Values:
    """Return ``(K, K)``: the total effects (I - A)^-1, rows causes."""
    identity = np.eye(len(COLUMNS))
    return np.asarray(np.linalg.solve(identity - planted_adjacency(), identity))


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


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the words of N texts tell about K columns; see `judge`."""

    columns: tuple[str, ...]
    high: Places
    """``(N, K)``: words of a high value."""
    low: Places
    """``(N, K)``: words of a low value."""
    mean: Values
    """``(N, K)``: the posterior mean; NaN where no word tells anything."""
    log_odds: Values
    """``(N, K)``: log p(value > 0.5 | words) / p(value < 0.5 | words); NaN likewise."""


_WORD = re.compile(r"[a-z]+")


def count_words(texts: Sequence[str]) -> tuple[Places, Places]:
    """Return how many high and low words of each column a text has, each ``(N, K)``."""
    place = {
        word: 2 * COLUMNS.index(column) + side
        for word, (column, side) in lexicon.MEANING.items()
    }
    found = np.zeros((len(texts), 2 * len(COLUMNS)), dtype=np.int64)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            if word in place:
                found[row, place[word]] += 1
    return found[:, 1::2], found[:, 0::2]


def judge(texts: Sequence[str], *, effect: float = 8.0) -> Judgement:
    """Return what the planted law says about who wrote each of `texts`.

    By Bayes' rule from the words of each column alone: the prior is the law by which
    persons are drawn, uniform for a trait, and each word is independent given the
    value. Nothing is fitted.

    Args:
        texts: N texts, whole or cut anywhere; unknown words tell nothing.
        effect: ``data.effect`` of the corpus.
    """
    high, low = count_words(texts)
    mean = np.full(high.shape, np.nan)
    log_odds = np.full(high.shape, np.nan)
    for column in range(len(COLUMNS)):
        grid, log_prior = _prior(column)
        counts = np.stack([high[:, column], low[:, column]], axis=1)
        kinds, back = np.unique(counts, axis=0, return_inverse=True)
        score = effect * (grid - 0.5)
        joint = kinds @ np.stack([log_expit(score), log_expit(-score)]) + log_prior
        weights = np.exp(joint - joint.max(axis=1, keepdims=True))
        total = weights.sum(axis=1)
        above, below = weights[:, grid > 0.5].sum(1), weights[:, grid < 0.5].sum(1)
        told = kinds.sum(axis=1) > 0
        means = np.where(told, weights @ grid / total, np.nan)
        odds = np.where(told, np.log(above) - np.log(below), np.nan)
        mean[:, column] = means[back.reshape(-1)]
        log_odds[:, column] = odds[back.reshape(-1)]
    return Judgement(COLUMNS, high, low, mean, log_odds)


@cache
def _prior(column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of quadrature on a column's values, and their log weights.

    A trait is uniform: Gauss-Legendre on both halves of [0, 1]. A label is a weighted
    sum of independent uniform and normal numbers; its density is the inverse Fourier
    transform of the product of their characteristic functions.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    if column < len(TRAITS):
        grid = np.concatenate([(nodes + 1) / 4, (nodes + 3) / 4])
        return grid, np.log(np.concatenate([weights, weights]) / 4)
    effects = planted_total_effects()[:, column]
    traits, own = effects[: len(TRAITS)], effects[len(TRAITS) :]
    deviation = NOISE * float(np.sqrt((own**2).sum()))
    reach = 0.5 * float(np.abs(traits).sum()) + 8 * deviation
    half = reach * (nodes + 1) / 2
    grid = np.concatenate([-half[::-1], half])
    weights = np.concatenate([weights[::-1], weights]) * reach / 2
    frequency = np.linspace(0, 9 / deviation, 4001)
    transform = np.exp(-0.5 * (deviation * frequency) ** 2)
    for effect in traits:
        transform = transform * np.sinc(effect * frequency / (2 * np.pi))
    density = np.trapezoid(
        transform * np.cos(np.outer(grid, frequency)), frequency, axis=1
    )
    mass = np.maximum(density / np.pi, 1e-300) * weights
    return grid + 0.5, np.log(mass)
