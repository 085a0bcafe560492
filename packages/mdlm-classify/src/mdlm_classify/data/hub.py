"""Labelled texts of Hugging Face data sets: hub names and `save_to_disk` folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mdlm_core.config.components import HuggingFaceConfig
from mdlm_core.data.hub import quiet
from mdlm_core.data.hugging_face import load_rows
from mdlm_core.errors import DataError

from .columns import Columns, Record


def read_hub(path: str, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a data set; a label with names is given as its name.

    A row without text (null) gives an empty text.

    Raises:
        DataError: if it cannot be loaded, or a column is missing.
        MissingExtraError: without the extra ``hf``.
    """
    with quiet():
        rows = load_rows(
            HuggingFaceConfig(path=path, subset=columns.subset, split=columns.split)
        )
    parts, label = columns.found_in(rows.column_names, f"data set '{path}'")
    name = _names(rows.features.get(label))
    number = 0
    for chunk in rows.select_columns([*parts, *([label] if label else [])]).iter(1000):
        for i in range(len(chunk[parts[0]])):
            where = f"data set '{path}', row {number}"
            texts = ["" if chunk[p][i] is None else chunk[p][i] for p in parts]
            strange = next((text for text in texts if not isinstance(text, str)), None)
            text = "\n".join(texts) if strange is None else strange
            yield text, name(chunk[label][i], where) if label else None, where
            number += 1


def _names(feature: Any) -> Callable[[Any, str], object]:
    """Return what turns a value of the label's column into its name."""
    names = getattr(feature, "names", None)
    if names is None:
        return lambda value, where: value

    def name(value: Any, where: str) -> object:
        if value is None or value == -1:  # how the hub marks a hidden label
            return None
        if not 0 <= value < len(names):
            raise DataError(f"{where}: the label {value} has no name in the data set")
        return str(names[value])

    return name
