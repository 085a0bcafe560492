"""Texts with labels, from whatever they are kept in.

Letters: N texts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdlm_classify.config.data import Format
from mdlm_core.data.tokenizers import utf8
from mdlm_core.errors import ConfigError, DataError

from . import formats
from .columns import Columns, Record
from .labels import label_of, renamed

_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """N texts, the label of each, and where each stands."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    """None for texts without labels."""
    origin: tuple[str, ...]
    """Such as "'reviews.csv', line 7"; for errors."""

    def __post_init__(self) -> None:
        sizes = {len(self.texts), len(self.origin)}
        if len(sizes) > 1 or (self.labels and len(self.labels) != len(self.texts)):
            raise ValueError("texts, labels and origin differ in number")

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        labels: Iterable[str] | None = None,
        *,
        name: str = "text",
    ) -> LabelledTexts:
        """Return texts from memory; text i stands at "`name` i"."""
        texts = tuple(texts)
        return cls(
            texts,
            None if labels is None else tuple(labels),
            tuple(f"{name} {i}" for i in range(len(texts))),
        )

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> LabelledTexts:
        """Return the texts `rows`, in that order."""
        chosen = [int(row) for row in rows]
        return LabelledTexts(
            tuple(self.texts[row] for row in chosen),
            None if self.labels is None else tuple(self.labels[r] for r in chosen),
            tuple(self.origin[row] for row in chosen),
        )


def without_html(text: str) -> str:
    """Return `text` with a blank for each tag, and with characters for entities."""
    return html.unescape(_TAG.sub(" ", text))


def read_texts(
    path: str | Path,
    *,
    format: Format = "auto",
    text: str = "text",
    label: str = "label",
    subset: str = "",
    split: str = "train",
    labelled: bool = True,
    clean: str = "none",
    label_map: Mapping[str, str] | None = None,
) -> LabelledTexts:
    """Read texts, in the order in which they stand.

    Args:
        path: a file, a folder, a glob, or a name on the hub.
        format: what it is; see `LabelledTextConfig.format`.
        text: the column of the text, or several joined with +.
        label: the column of the label.
        subset: the configuration of a data set of the hub.
        split: the split of a data set of the hub, and which of a folder's
            ``train_class_0.json`` and ``test_class_0.json``, or of its folders
            ``train`` and ``test``, are read.
        labelled: whether labels are needed. Without them a .txt file is read too, one
            text in each line.
        clean: "html" takes out tags and turns entities into characters.
        label_map: other names for labels.

    Raises:
        ConfigError: if the path is empty or `clean` unknown.
        DataError: if something cannot be read; the message says where and why.
        MissingExtraError: if the hub is needed, without the extra ``hf``.
    """
    if clean not in ("none", "html"):
        raise ConfigError(f"clean is '{clean}'; it must be none or html")
    if not str(path):
        raise ConfigError("the path of the texts is empty; name a file or a folder")
    read = formats.reader(str(path), format, split=split, labelled=labelled)
    columns = Columns(text, label if labelled else None, subset=subset, split=split)
    cleaned = without_html if clean == "html" else None
    texts, labels, origin = _collect(read(columns), labelled, cleaned)
    if not texts:
        raise DataError(f"'{path}' holds no text: it has a head, but no row")
    return LabelledTexts(
        texts, renamed(labels, label_map or {}) if labelled else None, origin
    )


def _collect(
    records: Iterable[Record], labelled: bool, clean: Callable[[str], str] | None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    texts: list[str] = []
    labels: list[str] = []
    origin: list[str] = []
    for text, label, where in records:
        if not isinstance(text, str):
            raise DataError(
                f"{where}: the text is a {type(text).__name__}, not a string; name "
                "another column with data.text"
            )
        try:
            utf8(text)  # an escape may name half of a surrogate pair
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        texts.append(clean(text) if clean else text)
        origin.append(where)
        if labelled:
            labels.append(label_of(label, where))
    return tuple(texts), tuple(labels), tuple(origin)
