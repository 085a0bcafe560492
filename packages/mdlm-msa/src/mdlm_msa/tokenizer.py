"""Alignments as text, ``QUERY<M>ROW<M>ROW``, to ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

import numpy as np

from mdlm_core.data.tokenizers import check_ids, save_definition
from mdlm_core.errors import DataError, UnknownNameError

from .alphabet import (
    BYTE_OF_ID,
    EOD,
    GAP,
    ID_OF_BYTE,
    MASK,
    PAD,
    SEPARATOR,
    TOKENS,
    VOCAB_SIZE,
    Ids,
    X,
)

KIND = "mdlm_msa.tokenizer:load"
"""What reads a saved tokenizer again."""

DELIMITER = "<M>"
"""What stands between two rows."""

_BLANKS = b" \t\r\n\v\f"
_NOTHING = 255
_IDS = ID_OF_BYTE.tobytes()  # a table for bytes.translate

_COMMANDS = {token: i for i, token in enumerate(TOKENS) if len(token) > 1} | {
    "pad": PAD,
    "[gMASK]": TOKENS.index("gMASK"),
    "[MASK]": TOKENS.index("MASK"),
    "tMASK": TOKENS.index("MASK"),
    "[sMASK]": TOKENS.index("sMASK"),
    "[eod]": EOD,
    "eos": TOKENS.index("</s>"),
    "<eos>": TOKENS.index("</s>"),
    "[<M>]": SEPARATOR,
    "DIFFUSION_MASK": MASK,
}
"""Ids of special tokens by the names that are in use for them, MSAGPT's first."""


class AlignmentTokenizer:
    """The alphabet of alignments: one id per letter, one for ``<M>``; V = 37.

    Blanks and line ends between letters are dropped. Lower case, `J`, `*` and all else
    that is no letter of the alphabet is refused; the readers of files turn it into what
    it stands for.
    """

    name = "msa"
    vocab_size = VOCAB_SIZE
    mask_id = MASK
    eod_id = EOD
    pad_id = PAD
    unknown_id = X
    delimiter_id = SEPARATOR

    def encode_array(self, text: str) -> Ids:
        """Return the ids ``(L,)`` uint8 of `text`, with separators but no other token.

        Raises:
            DataError: if a letter has no id; it says which, in which row and where.
        """
        rows = text.split(DELIMITER)
        parts = [row.encode().translate(None, _BLANKS).translate(_IDS) for row in rows]
        ids = np.frombuffer(bytes([SEPARATOR]).join(parts), np.uint8)
        if ids.size and ids.max() == _NOTHING:
            raise DataError(_refusal(rows))
        return ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, with separators but no other special token.

        Raises:
            DataError: if a letter has no id; it says which, in which row and where.
        """
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text; separators show as ``<M>``, other special tokens vanish."""
        check_ids(ids, self)
        array = np.asarray(ids, np.int64)
        shown = (array >= 1) & (array <= GAP) | (array == SEPARATOR) | (array == MASK)
        letters = BYTE_OF_ID[array[shown]].copy()
        letters[array[shown] == SEPARATOR] = ord("\n")
        letters[array[shown] == MASK] = ord("#")
        text: str = letters.tobytes().decode()
        return text.replace("\n", DELIMITER).replace("#", mask)

    def get_command(self, name: str) -> int:
        """Return the id of a special token by its name, such as ``[gMASK]`` or ``<M>``.

        Raises:
            UnknownNameError: if no special token is called so.
        """
        if name in _COMMANDS:
            return _COMMANDS[name]
        near = get_close_matches(name, _COMMANDS, cutoff=0.5)
        raise UnknownNameError(
            f"there is no special token '{name}'; "
            + (f"did you mean {' or '.join(near)}?" if near else "there are ")
            + ("" if near else ", ".join(_COMMANDS))
        )

    def save(self, folder: Path) -> None:
        """Write what `mdlm_core.data.tokenizers.load_tokenizer` needs."""
        save_definition(folder, kind=KIND, name=self.name)

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return sha256("\n".join(("msa", *TOKENS)).encode()).hexdigest()


def load(folder: Path) -> AlignmentTokenizer:
    """Return the tokenizer that was saved in `folder`; there is only one."""
    return AlignmentTokenizer()


def _refusal(rows: Sequence[str]) -> str:
    """Say which letter of which row has no id, and what to do."""
    for number, row in enumerate(rows, start=1):
        for place, letter in enumerate(row, start=1):
            data = letter.encode()
            if letter.isspace() and len(data) == 1:
                continue
            if len(data) == 1 and ID_OF_BYTE[data[0]] != _NOTHING:
                continue
            if letter.islower() and letter.isascii():
                way = "insertions have no place in a row; write letters in upper case"
            elif letter in "J*":
                way = "write X for an unknown residue"
            elif letter in "[<":
                way = "only <M> is a token in text; add special tokens by their ids"
            else:
                way = "letters are the 20 residues, X, B, U, Z, O, '.' and '-'"
            where = "the query" if number == 1 else f"row {number}"
            return f"{letter!r} at place {place} of {where} has no id: {way}"
    raise AssertionError("a letter without an id was not found")  # pragma: no cover
