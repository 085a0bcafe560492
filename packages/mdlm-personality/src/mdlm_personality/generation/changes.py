"""Which words differ between two texts, and how to show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from mdlm_core.samplers.live import printable

_WORD = re.compile(r"\n|\w+(?:['’-]\w+)*|[^\w\s]")
_RED, _GREEN, _PLAIN = "\x1b[31;9m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of words that is the same in both texts, or what one becomes."""

    before: str
    after: str

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference of two texts, word by word."""

    pieces: tuple[Piece, ...]
    """Together they are both texts, blanks apart."""
    share: float
    """Words without a counterpart, as a share of the words of both texts, in [0, 1]."""

    @property
    def changed(self) -> tuple[Piece, ...]:
        """The pieces that differ."""
        return tuple(piece for piece in self.pieces if not piece.same)


def changes(before: str, after: str) -> Changes:
    """Compare two texts word by word; punctuation marks are words of their own."""
    old, new = _words(before), _words(after)
    match = SequenceMatcher(
        None, [word for _, word in old], [word for _, word in new], autojunk=False
    )
    pieces, common = [], 0
    for kind, a, b, c, d in match.get_opcodes():
        if kind == "equal":
            common += b - a
            text = _joined(new[c:d])  # blanks may differ; the words do not
            pieces.append(Piece(text, text))
        else:
            pieces.append(Piece(_joined(old[a:b]), _joined(new[c:d])))
    total = len(old) + len(new)
    return Changes(tuple(pieces), 1 - 2 * common / total if total else 0.0)


def marked(found: Changes, *, colour: bool = False) -> str:
    """Return one text with what changed marked: ``[-old-]{+new+}``.

    Control characters are replaced, so that it is safe to show in a terminal.

    Args:
        found: of `changes`.
        colour: for a terminal: the old words red and struck out, the new ones green.
    """
    return "".join(_marked(piece, colour) for piece in found.pieces)


def _marked(piece: Piece, colour: bool) -> str:
    before, after = printable(piece.before), printable(piece.after)
    if piece.same:
        return after
    old, new = before.strip(" "), after.strip(" ")
    text = after or before
    blank = text[: len(text) - len(text.lstrip(" "))]
    if colour:
        gone = f"{_RED}{old}{_PLAIN}" if old else ""
        come = f"{_GREEN}{new}{_PLAIN}" if new else ""
        between = " " if old and new else ""
        return f"{blank}{gone}{between}{come}"
    return blank + (f"[-{old}-]" if old else "") + (f"{{+{new}+}}" if new else "")


def _words(text: str) -> list[tuple[str, str]]:
    """Return each word with the blanks before it."""
    found, end = [], 0
    for match in _WORD.finditer(text):
        found.append((text[end : match.start()], match.group()))
        end = match.end()
    return found


def _joined(words: Sequence[tuple[str, str]]) -> str:
    return "".join(blank + word for blank, word in words)
