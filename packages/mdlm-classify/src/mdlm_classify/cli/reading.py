"""Read texts for a trained model, as it was trained. Heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdlm_classify.data.texts import LabelledTexts


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
