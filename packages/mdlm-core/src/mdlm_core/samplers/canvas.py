"""Canvases from texts: prompts, blanks to fill in, fixed positions.

A blank is a run of three or more underscores. ``____{12}`` is a blank of 12 tokens;
blanks without a number share what the canvas has left, evenly, the first ones getting
one more if it does not divide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Tokenizer

_BLANK = re.compile(r"_{3,}(?:\{(\d+)\})?")


def canvas(
    tokenizer: Tokenizer,
    *,
    length: int | None,
    num: int,
    prompt: str = "",
    first: int = 0,
    fixed: Mapping[int, int] | None = None,
    blanks: bool = True,
    condition: Mapping[str, Tensor] | None = None,
    positions: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Return `num` equal rows: the text of `prompt`, and masks where to write.

    A prompt without blanks stands at the start, and the rest of the canvas is masked.
    A prompt in which at least one blank has no number fills the canvas exactly. If
    all its blanks have numbers, masks follow it up to `length`; with `length` None
    the canvas ends where the prompt does. What the prompt says is frozen.

    Args:
        tokenizer: turns the text between blanks into ids, piece by piece.
        length: L, or None for as long as a prompt whose blanks all have numbers.
        num: B.
        prompt: the text.
        first: the `sample_id` of the first row; the rows count up from it.
        fixed: ids at further positions, frozen too.
        blanks: whether underscores mean blanks; otherwise they are text.
        condition: named tensors for a model that takes them, ``(B, ...)``, or
            ``(1, ...)`` for all rows.
        positions: ``(B, L, P)`` or ``(1, L, P)`` int64; see `Batch.positions`.
        device: where the tensors live.

    Raises:
        UsageError: if the prompt does not fit, a fixed position is out of range or
            already taken by the prompt, or a tensor does not go with the canvas.
    """
    if num < 1:
        raise UsageError(f"{num} rows were asked for; ask for at least 1")
    row = layout(tokenizer, prompt, length, blanks=blanks)
    for position, token in (fixed or {}).items():
        _fix(row, position, token, tokenizer)
    ids = [tokenizer.mask_id if token is None else token for token in row]
    known = [token is not None for token in row]
    tokens = torch.tensor([ids], dtype=torch.int64, device=device)
    frozen = torch.tensor([known], dtype=torch.bool, device=device)
    if positions is not None and positions.shape[1:-1] != (len(row),):
        raise UsageError(
            f"positions has the shape {tuple(positions.shape)}; a canvas of {num} rows "
            f"and {len(row)} positions needs ({num}, {len(row)}, P)"
        )
    return Batch.of(
        tokens.repeat(num, 1),
        frozen=frozen.repeat(num, 1),
        sample_id=torch.arange(first, first + num, device=device),
        positions=None
        if positions is None
        else _for_rows("positions", positions, num).to(device),
        condition={
            name: _for_rows(f"condition '{name}'", value, num).to(device)
            for name, value in (condition or {}).items()
        },
    )


def _for_rows(name: str, value: Tensor, num: int) -> Tensor:
    """Return `value` with one entry for each row, a single one being repeated."""
    if value.dim() == 0 or len(value) not in (1, num):
        raise UsageError(
            f"{name} has the shape {tuple(value.shape)}; its first dimension must be "
            f"the number of rows, {num}, or 1 for all of them"
        )
    return value.expand(num, *value.shape[1:])


def layout(
    tokenizer: Tokenizer, prompt: str, length: int | None, *, blanks: bool = True
) -> list[int | None]:
    """Return the ids of one row, None where to write; see `canvas`."""
    pieces = _pieces(tokenizer, prompt) if blanks else [tokenizer.encode(prompt)]
    open_blanks = sum(piece is None for piece in pieces)
    used = sum(
        piece if isinstance(piece, int) else len(piece or ()) for piece in pieces
    )
    if length is None:
        if open_blanks or not used:
            raise UsageError(
                "without a length every blank needs its own, such as '____{12}'"
            )
        length = used
    if length < 1:
        raise UsageError(f"a canvas of {length} positions was asked for; at least 1")
    room = length - used
    if room < open_blanks:
        raise UsageError(
            f"the prompt takes {used} positions"
            + (f" and has {open_blanks} blanks to fill" if open_blanks else "")
            + f", but the canvas has {length}; use a shorter prompt or a length of "
            f"at least {used + open_blanks}"
        )
    row: list[int | None] = []
    seen = 0
    for piece in pieces:
        if piece is None:
            row += [None] * (room // open_blanks + (seen < room % open_blanks))
            seen += 1
        elif isinstance(piece, int):
            row += [None] * piece
        else:
            row += piece
    return row + [None] * (length - len(row))


def has_open_end(prompt: str) -> bool:
    """Return whether the prompt needs a length: it has no blank, or one without."""
    numbers = [match.group(1) for match in _BLANK.finditer(prompt)]
    return not numbers or not all(numbers)


def _pieces(tokenizer: Tokenizer, prompt: str) -> list[list[int] | int | None]:
    """Return what the prompt consists of: ids, blanks of a size, blanks without."""
    pieces: list[list[int] | int | None] = []
    end = 0
    for match in _BLANK.finditer(prompt):
        pieces.append(tokenizer.encode(prompt[end : match.start()]))
        size = match.group(1)
        if size is not None and int(size) == 0:
            raise UsageError(f"the blank '{match.group()}' is empty; give it 1 or more")
        pieces.append(None if size is None else int(size))
        end = match.end()
    pieces.append(tokenizer.encode(prompt[end:]))
    return pieces


def _fix(
    row: list[int | None], position: int, token: int, tokenizer: Tokenizer
) -> None:
    """Put a fixed token into the row, if it may stand there."""
    if not 0 <= position < len(row):
        raise UsageError(
            f"fixed position {position} is outside the canvas, 0 to {len(row) - 1}"
        )
    if row[position] is not None and row[position] != token:
        raise UsageError(
            f"fixed position {position} is already taken by the prompt; fix another"
        )
    if not 0 <= token < tokenizer.vocab_size or token == tokenizer.mask_id:
        raise UsageError(
            f"fixed token {token} at position {position} is no id of a text; ids are "
            f"0 to {tokenizer.vocab_size - 1}, without the mask {tokenizer.mask_id}"
        )
    row[position] = token
