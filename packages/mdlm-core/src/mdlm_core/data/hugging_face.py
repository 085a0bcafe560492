"""Hugging Face data sets: hub names, and local arrow, parquet or other folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdlm_core.config.components import HuggingFaceConfig
from mdlm_core.errors import ConfigError, DataError

from .hub import quiet, require
from .source import PackedSource
from .streaming import StreamedSource

_SAVED_TO_DISK = ("state.json", "dataset_dict.json")


class ColumnDocuments:
    """The texts of one column, read from the first row each time it is iterated.

    Rows without text (null or empty) give an empty document.
    """

    def __init__(self, rows: Any, field: str, name: str) -> None:
        """Wrap `rows`, a `datasets.Dataset` or `IterableDataset`.

        Raises:
            DataError: if there is no column `field`.
        """
        self._field = field
        self._name = name
        columns = rows.column_names
        if columns is None:  # a stream may tell only by its first row
            columns = list(next(iter(rows), {}))
        if field not in columns:
            raise DataError(
                f"data set '{name}' has no column '{field}'; its columns are "
                f"{', '.join(sorted(columns)) or 'none'}; name one with data.field"
            )
        self._rows = rows.select_columns([field])

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self._texts()):
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"data set '{self._name}', row {number}: the column "
                    f"'{self._field}' holds a {type(text).__name__}, not a string; "
                    "name another with data.field"
                )
            yield text or ""

    def _texts(self) -> Iterator[object]:
        for chunk in self._rows.iter(batch_size=1000):
            yield from chunk[self._field]


def load_rows(config: HuggingFaceConfig) -> Any:
    """Return the `datasets.Dataset`, or `IterableDataset` if streaming.

    A folder that `save_to_disk` wrote is opened as it is; any other folder, or name
    on the hub, goes through `datasets.load_dataset`.

    Raises:
        ConfigError: if no path is given.
        DataError: if it cannot be loaded.
        MissingExtraError: without the extra ``hf``.
    """
    if not config.path:
        raise ConfigError(
            "data.path is empty; set it to a name on the Hugging Face hub or a folder"
        )
    datasets = require("datasets", "data.name=hf")
    folder = Path(config.path).expanduser()
    local = folder.is_dir()
    try:
        if local and any((folder / f).is_file() for f in _SAVED_TO_DISK):
            return _from_disk(datasets.load_from_disk(str(folder)), config)
        return datasets.load_dataset(
            str(folder) if local else config.path,
            name=config.subset or None,
            split=config.split,
            streaming=config.streaming,
        )
    except DataError:
        raise
    except Exception as error:
        # Readers of many formats raise errors of many kinds; none is passed over.
        raise DataError(_explain(config.path, local, error)) from error


def _from_disk(loaded: Any, config: HuggingFaceConfig) -> Any:
    if isinstance(loaded, dict):  # a DatasetDict: several splits
        if config.split not in loaded:
            raise DataError(
                f"data set '{config.path}' has no split '{config.split}'; its splits "
                f"are {', '.join(loaded)}; name one with data.split"
            )
        loaded = loaded[config.split]
    elif config.split != str(loaded.split or "train"):
        raise DataError(
            f"data set '{config.path}' is one split, '{loaded.split or 'train'}', and "
            f"data.split is '{config.split}'; set data.split to it"
        )
    return loaded.to_iterable_dataset() if config.streaming else loaded


def _explain(path: str, local: bool, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if local:
        return f"the folder '{path}' cannot be loaded as a data set: {reason}"
    way_out = (
        "the hub could not be reached, and the data set is not in the local cache; "
        "check the network, or give a local folder"
        if isinstance(error, ConnectionError)
        else "check the name, data.subset and data.split"
    )
    return f"data set '{path}' cannot be loaded: {reason}; {way_out}"


def build(config: HuggingFaceConfig) -> PackedSource | StreamedSource:
    """Return the data source of a Hugging Face data set."""
    with quiet():
        rows = load_rows(config)
    documents = ColumnDocuments(rows, config.field, config.path)
    card = {
        "name": "hf",
        "path": config.path,
        "subset": config.subset,
        "split": config.split,
    }
    if config.streaming:
        return StreamedSource(documents, config, card=card)
    return PackedSource.from_documents(documents, config, card=card)
