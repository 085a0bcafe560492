"""The classes of a set of texts: which there are, in which order.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from mdlm_core.errors import DataError

_SHOWN = 12
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def name_of(value: object) -> str:
    """Return what a class is called in files: true and false as in JSON."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(value)


def label_of(value: object, where: str) -> str:
    """Return the label in a cell, as text; see `name_of`.

    Raises:
        DataError: if the cell is empty, or is no text, number or truth value.
    """
    if isinstance(value, str):
        label = value.strip()
    elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        label = name_of(value)
    elif value is None or isinstance(value, float):
        label = ""
    else:
        raise DataError(
            f"{where}: the label is a {type(value).__name__}; it must be a text, a "
            "number, true or false"
        )
    if not label:
        raise DataError(
            f"{where} has no label; give it one, or leave the text out (texts without "
            "labels can be given as data.unlabelled)"
        )
    return label


def renamed(labels: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return `labels` under other names; those not in `names` keep theirs.

    Raises:
        DataError: if no label is in `names`, by its old name or its new one, which
            cannot be meant.
    """
    known = {*names.keys(), *names.values()}
    if names and labels and not known & set(labels):
        raise DataError(
            f"data.label_map names {listed(sorted(names))}, but the labels are "
            f"{listed(in_order(labels))}; none of them is renamed"
        )
    return tuple(names.get(label, label) for label in labels)


def in_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the different labels: whole numbers by size, anything else by alphabet."""
    found = set(labels)
    if all(_WHOLE.fullmatch(label) for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def listed(names: Sequence[str]) -> str:
    """Return `names` as part of a sentence, the first dozen of them."""
    more = len(names) - _SHOWN
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return (f"{shown} and {more} more" if more > 0 else shown) or "none"


def near(name: str, names: Sequence[str]) -> str:
    """Return what in `names` is almost like `name`, as part of a sentence."""
    by_case = {other.casefold(): other for other in names}
    found = get_close_matches(name.casefold(), list(by_case), n=3)
    if not found:
        return ""
    return f" (did you mean {' or '.join(repr(by_case[key]) for key in found)}?)"


def classes_of(labels: Sequence[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the classes in order: `given`, or those of the training texts.

    Raises:
        DataError: if there are fewer than two, or a given one has no text.
    """
    classes = tuple(given) or in_order(labels)
    if len(classes) < 2:
        only = f"only the class '{classes[0]}'" if classes else "no class"
        raise DataError(
            f"the {len(labels)} training texts have {only}; a classifier needs texts "
            "of at least two classes: check data.label, and whether data.path names "
            "all files"
        )
    counts = Counter(labels)
    absent = [name for name in classes if not counts[name]]
    if absent:
        raise DataError(
            f"there is no training text of the class '{absent[0]}', which is in "
            f"data.labels{near(absent[0], in_order(labels))}; the texts have the "
            f"labels {listed(in_order(labels))}"
        )
    return classes


def codes_of(
    labels: Sequence[str], classes: Sequence[str], origin: Sequence[str]
) -> NDArray[np.int64]:
    """Return ``(N,)``: the index of each label in `classes`.

    Raises:
        DataError: if a label is not among them; the message says where it stands.
    """
    index = {name: i for i, name in enumerate(classes)}
    try:
        return np.array([index[label] for label in labels], dtype=np.int64)
    except KeyError:
        place = next(i for i, label in enumerate(labels) if label not in index)
        unknown = labels[place]
    many = sum(label not in index for label in labels)
    raise DataError(
        f"{origin[place]}: the label '{unknown}' is not among the classes, which are "
        f"{listed(classes)}{near(unknown, classes)}; {many} of {len(labels)} texts "
        "have such labels; rename them with data.label_map, or leave these texts out"
    )
