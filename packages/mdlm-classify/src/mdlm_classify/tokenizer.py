"""Words in lower case and single punctuation marks, as ids and back."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from mdlm_core.data.tokenizers import DEFINITION, check_ids, save_definition, utf8
from mdlm_core.errors import DataError

KIND = "mdlm_classify.tokenizer:load"
"""What reads a saved tokenizer again."""

UNKNOWN = "\ufffd"
"""How a token shows that is not among the known words."""

_MARKS = "".join(
    re.escape(character)
    for character in map(chr, range(0x10000))
    if unicodedata.category(character) in ("Mn", "Mc")
)  # accents and vowel signs that belong to the letter before
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTER = f"[^\\W_{_ALONE}]"
_TOKEN = re.compile(
    f"{_LETTER}(?:{_LETTER}|[{_MARKS}]|'(?={_LETTER}))*"  # a word
    f"|[{_ALONE}]"  # a character of a script that does not divide words
    "|[^\\w\\s]|_"  # one mark
)

_CLOSING = frozenset(".,!?;:)]}%\u2026\u201d\u3002\uff0c\uff01\uff1f")
_OPENING = frozenset("([{$#@'\u201c")
_JOINING = frozenset("-/_\u2013")
_TURNING = frozenset('"`')


def split(text: str) -> list[str]:
    """Return the tokens of `text`: words in lower case, and single marks.

    A word is made of letters and digits, with apostrophes inside ("don't"); characters
    of Chinese and Japanese stand alone. Blanks and line ends are lost.
    """
    lower = text.lower()
    if not lower.isascii():
        lower = unicodedata.normalize("NFC", lower).replace("\u2019", "'")
    return _TOKEN.findall(lower)


class WordTokenizer:
    """Known words first, then the unknown word, the end of a text, the mask.

    V = n + 3 for n words. What is no known word becomes the unknown one, which counts
    as text: it is hidden and scored as any other.
    """

    def __init__(self, words: Sequence[str], name: str = "words") -> None:
        """Take over `words`; word i has id i.

        Raises:
            DataError: if a word stands twice.
        """
        self.name = name
        self.words = tuple(words)
        self._id_of = {word: i for i, word in enumerate(self.words)}
        if len(self._id_of) != len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise DataError(f"the word '{twice}' stands twice among the known words")
        self.unknown_id = len(self.words)
        self.eod_id = self.pad_id = self.unknown_id + 1
        self.mask_id = self.unknown_id + 2
        self.vocab_size = self.unknown_id + 3

    def encode(self, text: str) -> list[int]:
        """Return one id for each token of `text`.

        Raises:
            DataError: if it holds half of a surrogate pair.
        """
        known, unknown = self._id_of.get, self.unknown_id
        utf8(text)
        return [known(token, unknown) for token in split(text)]

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return readable text: blanks between words, none before a full stop."""
        check_ids(ids, self)
        shown = {self.unknown_id: UNKNOWN, self.mask_id: mask}
        return join(
            self.words[i] if i < self.unknown_id else shown[i]
            for i in map(int, ids)
            if i != self.eod_id
        )

    def save(self, folder: Path) -> None:
        """Write what `mdlm_core.data.tokenizers.load_tokenizer` needs."""
        save_definition(folder, kind=KIND, name=self.name, words=self.words)

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return sha256(b"words:" + "\n".join(self.words).encode()).hexdigest()


def join(tokens: Iterable[str]) -> str:
    """Return `tokens` as text that `split` divides into the same tokens again."""
    pieces: list[str] = []
    glue = True  # whether the next token follows without a blank
    open_quotes: set[str] = set()
    for token in tokens:
        closes = token in _CLOSING or token in _JOINING
        opens = token in _OPENING or token in _JOINING
        if token in _TURNING:
            closes = token in open_quotes
            opens = not closes
            open_quotes ^= {token}
        if not glue and not closes:
            pieces.append(" ")
        pieces.append(token)
        glue = opens
    return "".join(pieces)


def train_words(texts: Iterable[str], size: int, min_count: int = 1) -> WordTokenizer:
    """Return a tokenizer of the most frequent words of `texts`.

    Args:
        texts: what is counted.
        size: words at most.
        min_count: how often a word must occur.

    Raises:
        DataError: if no word is left.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    del counts[UNKNOWN]
    known = [word for word, count in counts.items() if count >= min_count]
    known.sort(key=lambda word: (-counts[word], word))
    if not known:
        raise DataError(
            f"no word occurs {min_count} times in the texts, which hold "
            f"{len(counts)} different ones; give more text or lower data.min_count"
        )
    return WordTokenizer(known[:size], f"words:{size}")


def load(folder: Path | str) -> WordTokenizer:
    """Return the tokenizer that `WordTokenizer.save` wrote to `folder`.

    Raises:
        DataError: if it is damaged.
    """
    definition = json.loads((Path(folder) / DEFINITION).read_bytes())
    words = definition["words"]
    if not all(isinstance(word, str) for word in words):
        raise DataError(f"'{Path(folder) / DEFINITION}' holds words that are no text")
    return WordTokenizer(words, definition["name"])
