"""How varied texts are: distinct-n and self-BLEU of N texts of W words.

Both depend on how many texts there are and how long they are, so that they are taken of
a fixed N x W, lower case and split at white space, and mean something only beside the
same numbers of texts by people.

Letters: N texts, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams

from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise

Words = list[list[str]]
"""Each text as its words."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """Of N texts of W words."""

    texts: int
    words: int
    self_bleu: float
    """BLEU-4 of each text against all others, the mean: 1 if all are the same."""
    distinct: tuple[float, float, float]
    """Different n-grams over all, for n = 1, 2, 3 (Li et al., 2016)."""


def cut(texts: Sequence[str], *, count: int, words: int, noise: Noise) -> Words:
    """Return `count` texts, drawn from those with `words` words, cut there.

    Raises:
        DataError: if there are not so many.
    """
    found = [each[:words] for each in map(_words, texts) if len(each) >= words]
    if len(found) < count or count < 2:
        raise DataError(
            f"{len(found)} of {len(texts)} texts have {words} words; diversity of "
            f"{count} x {words} needs {max(count, 2)}. Ask for fewer texts or words"
        )
    generator = np.random.default_rng(noise.child("texts").integer())
    return [found[i] for i in sorted(generator.permutation(len(found))[:count])]


def size_that_fits(*groups: Sequence[str], count: int) -> tuple[int, int]:
    """Return N and W at which every group has enough texts.

    N is `count` or the size of the smallest group, and W the greatest number of words
    that nine tenths of N texts or more of each group have, so that N is reduced to
    that; short outliers are left out.

    Raises:
        DataError: if a group has fewer than two texts with any word.
    """
    lengths = [np.sort([len(_words(text)) for text in group])[::-1] for group in groups]
    lengths = [each[each > 0] for each in lengths]
    least = min(len(each) for each in lengths)
    if least < 2:
        raise DataError("diversity needs at least two texts with words in each group")
    number = max(2, int(0.9 * min(count, least)))
    shares = [max(number, int(0.9 * len(each))) for each in lengths]
    words = min(
        int(each[share - 1]) for each, share in zip(lengths, shares, strict=True)
    )
    return number, words


def diversity(words: Words) -> Diversity:
    """Return self-BLEU and distinct-n of texts that were `cut`."""
    return Diversity(
        len(words),
        len(words[0]),
        self_bleu(words),
        (distinct(words, 1), distinct(words, 2), distinct(words, 3)),
    )


def distinct(words: Words, n: int) -> float:
    """Return different n-grams over all n-grams, pooled; NaN if there is none."""
    found = [gram for text in words for gram in ngrams(text, n)]
    return len(set(found)) / len(found) if found else float("nan")


def self_bleu(words: Words) -> float:
    """Return the mean BLEU-4 of each text against the others (Zhu et al., 2018).

    By nltk, a count of 0 replaced by 0.1 (its smoothing method 1).

    Raises:
        DataError: if there are fewer than two texts.
    """
    if len(words) < 2:
        raise DataError(f"self-BLEU needs two texts; there are {len(words)}")
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(words[:i] + words[i + 1 :], text, smoothing_function=smooth)
        for i, text in enumerate(words)
    ]
    return float(np.mean(scores))


def _words(text: str) -> list[str]:
    return text.lower().split()
