"""Held-out families whose query resembles one that is learned from.

Files tell families apart by their names, and two of them may hold one family. Queries
are compared by their words of five residues: two sequences of identity p share about
p^5 of them, so that a tenth stands for 63 %, while among 20^5 words unrelated ones
share next to none. What is less alike than that is not noticed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from .family import Family

WORD = 5
"""Residues of a word."""
SHARE = 0.1
"""Of the words of the shorter query, from which two queries are related."""
_LEAST = 5
"""Words that they share, at least, so that short queries are not so by chance."""


def words(query: str) -> set[str]:
    """Return the words of a query, without its gaps; words with X are none."""
    text = query.replace("-", "")
    found = {text[i : i + WORD] for i in range(len(text) - WORD + 1)}
    return {word for word in found if "X" not in word}


def related_queries(
    families: Mapping[str, Family],
) -> dict[str, tuple[str, float]]:
    """Return the families held out whole that are related to one that is learned from.

    Returns:
        For each of them the family with the most words in common, and their share of
        the words of the shorter query.
    """
    held = {n: words(f.alignment.query) for n, f in families.items() if f.whole}
    where: dict[str, list[str]] = defaultdict(list)
    for name, own in held.items():
        for word in own:
            where[word].append(name)
    best: dict[str, tuple[str, float]] = {}
    for name, family in families.items():
        if family.whole:
            continue
        own = words(family.alignment.query)
        common = Counter(h for word in own for h in where.get(word, ()))
        for other, count in common.items():
            share = count / min(len(own), len(held[other]))
            if count >= _LEAST and share >= max(SHARE, best.get(other, ("", 0.0))[1]):
                best[other] = name, share
    return {name: best[name] for name in held if name in best}
