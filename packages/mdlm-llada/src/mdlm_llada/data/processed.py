"""Files of token ids: one row of a prompt and an answer in each line of JSON.

A line is ``{"input_ids": [...], "prompt_length": n}``. Beside the file stands
``FILE.meta.json``, which says what tokenizer made the ids; see `sidecar`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdlm_core.data.split import SPLITS, is_held_out
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.config import ProcessedConfig
from mdlm_llada.json_lines import read_rows
from mdlm_llada.tokenizer import load_tokenizer

from .rows import Gathered, Row
from .sidecar import Sidecar, sidecar_path
from .sources import RowSource

IDS = ("input_ids", "ids")
"""What a line may call its tokens."""
PROMPT_LENGTHS = ("prompt_length", "prompt_len", "prompt_ids_len")
"""What it may call the number of them that are the prompt; without one it is 0."""

_LOG = logging.getLogger(__name__)


def read_processed(path: Path, tokenizer: Tokenizer) -> Iterator[Row]:
    """Yield the rows of a file, each checked.

    Args:
        path: JSON lines; blank ones are passed over.
        tokenizer: whose ids they are.

    Raises:
        DataError: with the file, the line, the key and the rule that is broken.
    """
    for where, record in read_rows(path):
        ids = _ids(record, where, tokenizer)
        yield Row(ids, _prompt_length(record, where, len(ids)), where)


def _ids(record: Mapping[str, Any], where: str, tokenizer: Tokenizer) -> list[int]:
    key = _key(record, where, IDS)
    if key is None:
        keys = ", ".join(sorted(map(repr, record))) or "none"
        raise DataError(
            f"{where} has no 'input_ids'; its keys are {keys}; a line is like "
            '{"input_ids": [5, 6, 7], "prompt_length": 2}'
        )
    ids = record[key]
    if not isinstance(ids, list) or set(map(type, ids)) != {int}:
        raise DataError(
            f"{where}, '{key}': must be a list of whole numbers that is not empty"
        )
    if min(ids) < 0 or max(ids) >= tokenizer.vocab_size:
        bad, place = next(
            (id_, i) for i, id_ in enumerate(ids) if not 0 <= id_ < tokenizer.vocab_size
        )
        raise DataError(
            f"{where}, '{key}': id {bad} at place {place} is not in the vocabulary of "
            f"the tokenizer '{tokenizer.name}', which holds 0 to "
            f"{tokenizer.vocab_size - 1}; set data.tokenizer to the one that made it"
        )
    if tokenizer.mask_id in ids:
        raise DataError(
            f"{where}, '{key}': place {ids.index(tokenizer.mask_id)} holds "
            f"{tokenizer.mask_id}, the mask of the tokenizer '{tokenizer.name}'; a row "
            "to learn from has no mask"
        )
    return ids


def _prompt_length(record: Mapping[str, Any], where: str, size: int) -> int:
    key = _key(record, where, PROMPT_LENGTHS)
    if key is None:
        return 0
    value = record[key]
    if type(value) is not int or value < 0:
        raise DataError(f"{where}, '{key}': {value!r} is no whole number from 0")
    if value >= size:
        raise DataError(
            f"{where}, '{key}': is {value}, and the row has {size} tokens; it must be "
            "less, so that an answer is left to learn"
        )
    return value


def _key(record: Mapping[str, Any], where: str, names: tuple[str, ...]) -> str | None:
    """Return the name that is there, None without.

    Raises:
        DataError: if two are, and disagree.
    """
    there = [name for name in names if name in record]
    for other in there[1:]:
        if record[other] != record[there[0]]:
            raise DataError(
                f"{where} has '{there[0]}' and '{other}', which mean the same, with "
                "different values; leave one of them"
            )
    return there[0] if there else None


def read_source(config: ProcessedConfig) -> RowSource:
    """Return the data source of files of token ids.

    A share of the rows is held out, see `RowsConfig.train_ratio`, unless there is a
    file of rows to measure on.

    Raises:
        ConfigError: if no file is named.
        DataError: if a file is broken, was made with another tokenizer, or leaves a
            split without rows.
    """
    if not config.path:
        raise ConfigError(
            "data.path is empty; set it to a file that 'mdlm llada preprocess' wrote"
        )
    tokenizer = load_tokenizer(config.tokenizer, config.mask_token_id)
    path = Path(config.path).expanduser()
    held_out = 0.0 if config.validation_path else 1 - config.train_ratio
    gathered = {split: Gathered(config) for split in SPLITS}
    sidecar = _checked_sidecar(path, tokenizer)
    for row in read_processed(path, tokenizer):
        gathered[SPLITS[is_held_out(row.digest(), held_out)]].add(row)
    if sidecar is not None:
        sidecar.check_file(path)
    gathered["train"].fit.check(f"'{path}', as what to learn from,")
    if held_out:
        gathered["validation"].fit.check(
            f"'{path}', as what to measure on with data.train_ratio="
            f"{config.train_ratio},"
        )
    if config.validation_path:
        path = Path(config.validation_path).expanduser()
        beside = _checked_sidecar(path, tokenizer)
        for row in read_processed(path, tokenizer):
            gathered["validation"].add(row)
        if beside is not None:
            beside.check_file(path)
        gathered["validation"].fit.check(f"'{path}'")
    for split, found in gathered.items():
        found.fit.tell(f"the {split} split")
    return RowSource(
        tokenizer,
        {split: found.rows() for split, found in gathered.items()},
        config,
        template="unknown" if sidecar is None else sidecar.template,
        card={
            "name": "llada-processed",
            "task": "" if sidecar is None else sidecar.task,
            "path": config.path,
            "validation_path": config.validation_path,
            "too_long": {split: found.fit.card() for split, found in gathered.items()},
        },
    )


def _checked_sidecar(path: Path, tokenizer: Tokenizer) -> Sidecar | None:
    """Return the sidecar of a file, None if it has none, which is said.

    Raises:
        DataError: if it is damaged or names another tokenizer than the run's.
    """
    sidecar = Sidecar.read(path)
    if sidecar is not None:
        sidecar.check(path, tokenizer)
    elif path.is_file():
        _LOG.warning(
            "'%s' has no '%s', so that nothing says what tokenizer made it; its ids "
            "are taken for those of data.tokenizer=%s",
            path,
            sidecar_path(path).name,
            tokenizer.name,
        )
    return sidecar
