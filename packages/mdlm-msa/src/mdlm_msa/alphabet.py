"""The letters of an alignment as ids, the special ids, and what may stand where.

The ids are those of MSAGPT (36 of them), with the mask of diffusion after them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint8]
"""Ids of any shape."""

RESIDUES = "LAGVSERTIDPKQNFYMHWC"
"""The twenty amino acids; letter i has the id i + 1."""
ODD = "XBUZO"
"""Letters that are no amino acid of the twenty: ids 21 to 25."""
TOKENS = (
    "[pad]",
    *RESIDUES,
    *ODD,
    ".",
    "-",
    "MASK",
    "gMASK",
    "sMASK",
    "eod",
    "sop",
    "eop",
    "</s>",
    "<M>",
    "dMASK",
)
"""All tokens, by id."""

PAD, X, DOT, GAP = 0, 21, 26, 27
GMASK, EOD, SOP, SEPARATOR = 29, 31, 32, 35
MASK = 36
"""The mask of diffusion. The 36 ids before it are MSAGPT's."""
VOCAB_SIZE = len(TOKENS)

WRITTEN: tuple[int, ...] = (*range(1, 21), GAP)
"""What a new row may consist of: the residues and the gap."""
BANNED: tuple[int, ...] = tuple(i for i in range(VOCAB_SIZE) if i not in WRITTEN)
"""All other ids; none of them is ever drawn."""

STATES = 21
"""The symbols of statistics: residue with the id i is state i - 1, the gap is 20."""
GAP_STATE = STATES - 1
"""State of a gap; the residues are below it."""
_STATE = np.full(256, 255, np.uint8)
_STATE[1:21] = np.arange(GAP_STATE)
_STATE[GAP] = GAP_STATE
STATE_OF: Ids = _STATE
"""State of an id, 255 for what has none, such as X."""
ID_OF_STATE: Ids = np.array(WRITTEN, np.uint8)
"""Id of a state."""

_FROM_BYTE = np.full(256, 255, np.uint8)
for _index, _letter in enumerate(RESIDUES + ODD + ".-", start=1):
    _FROM_BYTE[ord(_letter)] = _index
ID_OF_BYTE: Ids = _FROM_BYTE
"""Id of an upper-case letter, `.` or `-`, as a byte; 255 for any other byte."""
_TO_BYTE = np.full(256, ord("*"), np.uint8)
_TO_BYTE[1:28] = np.frombuffer((RESIDUES + ODD + ".-").encode(), np.uint8)
BYTE_OF_ID: Ids = _TO_BYTE
"""Letter of an id, as a byte; `*` for special tokens."""


def encode(text: str | bytes) -> Ids:
    """Return the ids of upper-case letters, `.` and `-`; 255 for anything else."""
    data = text.encode() if isinstance(text, str) else text
    return ID_OF_BYTE[np.frombuffer(data, np.uint8)]


def decode(ids: Ids) -> str:
    """Return the letters of a row ``(L,)`` of ids; `*` for special tokens."""
    return bytes(BYTE_OF_ID[np.asarray(ids, np.uint8)]).decode()
