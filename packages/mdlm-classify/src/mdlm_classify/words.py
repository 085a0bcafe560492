"""The words of a text, and the tokens that they are made of.

Tokens are what a model scores; words are what people read. A word here is a run of
tokens without a blank between them that are all of letters, or all of marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdlm_core.protocols import Tokenizer

from .tokenizer import WordTokenizer, split

GAP = "____"
"""How a missing token is shown."""
_MASK = "\ue000"  # of the private use area: no text holds it


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it is."""

    text: str
    """As it stands in the text, or `GAP`."""
    before: str
    """What stands between it and the word before."""
    first: int
    """Its first token."""
    end: int
    """One more than its last token."""
    gap: bool = False
    """Whether it is missing."""


def words_of(tokenizer: Tokenizer, ids: Sequence[int], text: str = "") -> list[Word]:
    """Return the words that `ids` are, in order; together they are all tokens.

    Args:
        tokenizer: what `ids` are of.
        ids: the tokens; the mask is a missing one, and a word of its own.
        text: what they were made from. If the words are found there, they look as they
            do there; otherwise they look as the tokenizer decodes them.
    """
    pieces = _pieces(tokenizer, ids, text)
    words: list[Word] = []
    for first, end in _spans(pieces):
        shown = "".join(piece for _, piece in pieces[first:end])
        if end - first > 1:  # characters of several tokens
            shown = tokenizer.decode(ids[first:end]).strip() or shown
        missing = ids[first] == tokenizer.mask_id
        blank = any(apart or not piece for apart, piece in pieces[first:end][:1])
        words.append(
            Word(
                text=GAP if missing else shown,
                before=" " if blank and words else "",
                first=first,
                end=end,
                gap=missing,
            )
        )
    return _as_written(words, text) if text else words


def tail(words: Sequence[Word], text: str) -> str:
    """Return what `text` has after the last word."""
    written = "".join(word.before + word.text for word in words)
    return text[len(written) :] if text.startswith(written) else ""


def _pieces(
    tokenizer: Tokenizer, ids: Sequence[int], text: str
) -> list[tuple[bool, str]]:
    """Return for each token whether a blank comes before it, and how it looks.

    A token is decoded with the one before it, because decoders treat the start of a
    text in their own way.
    """
    pieces: list[tuple[bool, str]] = []
    earlier = ""
    for i, token in enumerate(ids):
        alone = tokenizer.decode([token], mask=_MASK)
        piece = alone
        if i:
            pair = tokenizer.decode(ids[i - 1 : i + 1], mask=_MASK)
            piece = pair[len(earlier) :] if pair.startswith(earlier) else alone
        blank = piece != piece.lstrip() or earlier != earlier.rstrip()
        if _MASK in piece or _MASK in earlier:
            blank = True
        pieces.append((blank, piece.strip()))
        earlier = alone
    if isinstance(tokenizer, WordTokenizer) and tokenizer.mask_id not in ids:
        written = split(text)  # unknown words too
        if len(written) == len(ids):
            pieces = [
                (blank, piece)
                for (blank, _), piece in zip(pieces, written, strict=True)
            ]
    return pieces


def _spans(pieces: Sequence[tuple[bool, str]]) -> list[tuple[int, int]]:
    """Return first and end of the runs of tokens that are words.

    Tokens of blanks alone belong to the word that follows, or to the last one.
    """
    starts: list[int] = []
    for i, (blank, piece) in enumerate(pieces):
        left = pieces[i - 1][1] if i else ""
        if not i:
            new = True
        elif blank:
            new = bool(left)
        else:
            new = bool(left and piece) and not _alike(left, piece)
        if new:
            starts.append(i)
    if len(starts) > 1 and not any(piece for _, piece in pieces[starts[-1] :]):
        starts.pop()
    return list(zip(starts, [*starts[1:], len(pieces)][: len(starts)], strict=True))


def _alike(left: str, right: str) -> bool:
    """Return whether two pieces without a blank between them are of one word."""
    return _MASK not in (left, right) and _of_word(left[-1]) == _of_word(right[0])


def _of_word(character: str) -> bool:
    """Return whether a character, or a part of one, belongs to words."""
    return character.isalnum() or character in "'\u2019_\ufffd"


def _as_written(words: list[Word], text: str) -> list[Word]:
    """Return the words as they stand in `text`, if all of them do."""
    lower = text.lower()
    if len(lower) != len(text):
        return words
    found: list[Word] = []
    at = 0
    for word in words:
        start = -1 if word.gap else lower.find(word.text.lower(), at)
        if start < 0 or (not word.text):
            return words
        end = start + len(word.text)
        found.append(Word(text[start:end], text[at:start], word.first, word.end))
        at = end
    return found
