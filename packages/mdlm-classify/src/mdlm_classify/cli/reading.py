"""Read texts for a trained model, as it was trained. Heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mdlm_core.errors import DataError

if TYPE_CHECKING:
    from mdlm_classify.data.texts import LabelledTexts

_OPTIONS = (
    ("with data.text", "with --text-column"),
    ("with data.label_map", "in the data, or name another column with --label"),
    ("with data.label", "with --label"),
    (" (texts without labels can be given as data.unlabelled)", ""),
    ("data.label_map names", "the run's data.label_map names"),
)
"""What errors of the data say for training, and for commands on a run."""


def read(
    path: str,
    settings: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    split: str | None = None,
    labelled: bool = True,
) -> LabelledTexts:
    """Read texts from where a user says.

    Args:
        path: a file, a folder, a glob, or a name on the hub.
        settings: the data settings of the run: columns, other names for labels, and
            what is taken out of texts are the same.
        text: another column of texts.
        label: another column of labels.
        split: of a data set of the hub, by default "test".
        labelled: whether labels are needed.

    Raises:
        DataError: if something cannot be read.
    """
    from mdlm_classify.data.texts import read_texts

    with in_options():
        return read_texts(
            path,
            text=text or settings.text,
            label=label or settings.label,
            subset=settings.subset,
            split=split or "test",
            labelled=labelled,
            clean=settings.clean,
            label_map=settings.label_map,
        )


@contextmanager
def in_options() -> Iterator[None]:
    """Let errors of the data name options of a command, not settings of training."""
    try:
        yield
    except DataError as error:
        text = str(error)
        for setting, option in _OPTIONS:
            text = text.replace(setting, option)
        if text == str(error):
            raise
        raise type(error)(text) from None
