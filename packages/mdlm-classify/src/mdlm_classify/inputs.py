"""Texts and labels as scikit-learn's users have them: lists, arrays, series, columns.

Letters: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from .data.labels import name_of

_SHOWN = 40
"""Characters of a value that an error shows."""


def texts_of(X: Any, *, what: str = "X") -> list[str]:
    """Return N texts as a list of str.

    Args:
        X: a list, a tuple, an array, a series, or a column of a data set; with one
            column it may also have two dimensions.
        what: the name of the argument, for errors.

    Raises:
        ValueError: if `X` is one text, has several columns or no text.
        TypeError: if an element is no text.
    """
    if isinstance(X, str | bytes) or (isinstance(X, np.ndarray) and X.ndim == 0):
        raise ValueError(
            f"{what} is one text or number, and a list of texts is needed; put it in "
            f"brackets"
        )
    if isinstance(X, Mapping):
        raise TypeError(
            f"{what} is a mapping ({type(X).__name__}); give the column of texts, such "
            f"as {what}['text']"
        )
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 1:
        if len(shape) > 2 or shape[1] != 1:
            raise ValueError(
                f"{what} has the shape {tuple(shape)}, and one text for each row is "
                f"needed; choose one column"
            )
        X = np.asarray(X)[:, 0]
    if not isinstance(X, Iterable):
        raise TypeError(f"{what} is {type(X).__name__}, and a list of texts is needed")
    texts = list(X)
    if not texts:
        raise ValueError(f"{what} has 0 sample(s), and a minimum of 1 is required")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"{what}[{index}] is {str(text)[:_SHOWN]!r} ({type(text).__name__}), "
                f"and each element must be a text (str)"
            )
    return [str(text) for text in texts]


def labels_of(y: Any, texts: int, *, what: str = "y") -> NDArray[Any]:
    """Return the labels ``(N,)`` of `texts` texts, in their own type.

    Raises:
        ValueError: if there is no `y`, it is of another length, has missing values,
            or holds numbers that are no classes.
    """
    if y is None:
        raise ValueError(
            f"requires {what} to be passed, but the target {what} is None: the class "
            f"of each text"
        )
    if isinstance(y, list | tuple):
        _check_types(y)
    labels = column_or_1d(y, warn=True)
    missing = [
        index for index, label in enumerate(labels.tolist()) if _is_missing(label)
    ]
    if missing:
        raise ValueError(
            f"{what}[{missing[0]}] is missing (None or NaN); leave out texts whose "
            f"class is not known, or give them as `unlabelled`"
        )
    check_classification_targets(labels)
    if len(labels) != texts:
        raise ValueError(
            f"found {texts} texts and {len(labels)} labels (inconsistent numbers of "
            f"samples); each text needs one"
        )
    return np.asarray(labels)


def _check_types(labels: Iterable[object]) -> None:
    """Refuse text among other labels, which an array would make text as well."""
    kinds = sorted({type(label).__name__ for label in labels if not _is_missing(label)})
    if "str" in kinds and len(set(kinds) - {"str_"}) > 1:
        raise ValueError(
            f"labels are of several types ({', '.join(kinds)}); make them all text or "
            f"all numbers"
        )


def _is_missing(label: object) -> bool:
    return label is None or (isinstance(label, float) and label != label)


def classes_of(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the classes ``(C,)`` in order.

    Raises:
        ValueError: if there is one only, or two of them have the same name as text.
    """
    _check_types(labels.tolist())
    classes: NDArray[Any] = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(
            f"there is one class, {classes[0]!r}, and a classifier needs at least two "
            f"(number of classes has to be greater than one)"
        )
    names_of(classes)
    return classes


def sorted_classes(labels: list[Any]) -> NDArray[Any]:
    """Return the different labels ``(C,)``, sorted.

    Raises:
        ValueError: if there is text among other labels.
    """
    _check_types(labels)
    classes: NDArray[Any] = np.unique(np.array(labels))
    return classes


def check_all(labels: NDArray[Any], classes: Any) -> None:
    """Refuse classes that have no text.

    Raises:
        ValueError: which class has none.
    """
    found = set(labels.tolist())
    missing = [
        label
        for label in (() if classes is None else np.asarray(classes).tolist())
        if label not in found
    ]
    if missing:
        raise ValueError(
            f"the class {missing[0]!r} has no text in the first call; leave it out of "
            f"`classes`: a later call may add it"
        )


def names_of(classes: NDArray[Any]) -> tuple[str, ...]:
    """Return the name of each class as text: what a run folder has.

    Raises:
        ValueError: if two classes have the same name.
    """
    names = tuple(map(name_of, classes.tolist()))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two classes are both written '{twice[0]}'; rename one")
    return names


def codes_of(
    labels: NDArray[Any], classes: NDArray[Any], *, what: str = "y"
) -> NDArray[np.int64]:
    """Return the index ``(N,)`` of each label in `classes`.

    Raises:
        ValueError: if a label is none of them.
    """
    index = {value: number for number, value in enumerate(classes.tolist())}
    strange = [label for label in labels.tolist() if label not in index]
    if strange:
        known = ", ".join(repr(value) for value in classes.tolist()[:10])
        raise ValueError(
            f"{what} has the label {strange[0]!r}, which the classifier does not know; "
            f"it knows {known}. partial_fit adds a class"
        )
    return np.array([index[label] for label in labels.tolist()], dtype=np.int64)
