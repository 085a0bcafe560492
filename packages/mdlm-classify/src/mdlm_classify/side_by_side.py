"""Compare classifiers on one split: the same texts to learn from, and to be tested on.

`compare` takes any classifiers of scikit-learn that take texts. `candidates` makes
those of this package by name. Letters: N texts, C classes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from mdlm_core.cache import write_atomic
from mdlm_core.errors import DataError, UsageError

from .comparison import Comparison, Result, build
from .data.labels import in_order, name_of

if TYPE_CHECKING:
    from .data.texts import LabelledTexts

_ASIDE = frozenset({"out", "device", "verbose"})
"""Parameters that do not decide what a model learns."""
_PACKAGES = ("mdlm-core", "mdlm-classify", "scikit-learn", "torch")


def compare(
    models: Mapping[str, Any],
    train: LabelledTexts,
    test: LabelledTexts,
    *,
    validation: LabelledTexts | None = None,
    unlabelled: Sequence[str] = (),
    reference: str | None = None,
    summaries: Mapping[str, str] | None = None,
    folder: Path | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Fit each model to the same texts, and measure it on the same test texts.

    A model whose `fit` takes `validation` or `unlabelled` gets them, unless its
    attribute `takes_unlabelled` is false; without
    validation it may hold out some of the training texts, so that all models have seen
    the same texts when they are tested.

    Args:
        models: classifiers by name; each is cloned, and the clone is fitted.
        train: texts with labels.
        test: texts with labels that also occur in `train`.
        validation: texts with labels to choose a checkpoint by and to calibrate on.
        unlabelled: texts without labels.
        reference: the model that all others are tested against; None for the first.
        summaries: what each model is, in a few words.
        folder: where the predictions of each model are kept, so that the same call
            goes on where it stopped; None keeps nothing.
        seed: decides the draws of the bootstrap.
        tell: told what is done.

    Raises:
        UsageError: if there is no model, or one has no probabilities.
        UnknownNameError: if the reference is none of the models.
        DataError: if texts have no labels or one class alone, a test label is not
            among the training labels, or a model cannot learn from the texts.
    """
    if not models:
        raise UsageError("there is no model to compare")
    labels, codes = _classes(train, test)
    data = describe(train, test, validation, unlabelled)
    results = []
    for name, model in models.items():
        key = _key(model, data["sha256"])
        place = None if folder is None else folder / f"{name}.json"
        found = None if place is None else _read(place, key)
        if found is None:
            tell(f"{name}: learning from {len(train.texts)} texts")
            more = _more(model, validation, unlabelled)
            found = _run(name, clone(model), train, test, labels, more)
            if place is not None:
                _write(place, key, found)
        hits = float((np.asarray(found["log_posterior"]).argmax(1) == codes).mean())
        tell(f"{name}: accuracy {hits:.2%}")
        results.append(
            Result(
                name=name,
                summary=(summaries or {}).get(name, ""),
                log_posterior=np.asarray(found["log_posterior"], dtype=np.float64),
                fit_seconds=found["fit_seconds"],
                predict_seconds=found["predict_seconds"],
                unlabelled=bool(unlabelled) and takes_unlabelled(model),
            )
        )
    return build(
        results,
        codes,
        labels,
        reference=reference or next(iter(models)),
        data=data,
        seed=seed,
    )


def describe(
    train: LabelledTexts,
    test: LabelledTexts,
    validation: LabelledTexts | None = None,
    unlabelled: Sequence[str] = (),
) -> dict[str, Any]:
    """Return how many texts there are, and the SHA-256 of all with their labels."""
    parts = {"train": train, "test": test}
    if validation is not None:
        parts["validation"] = validation
    digest = hashlib.sha256()
    for name, part in parts.items():
        digest.update(json.dumps([name, part.texts, part.labels]).encode())
    digest.update(json.dumps(["unlabelled", list(unlabelled)]).encode())
    return {
        **{name: len(part.texts) for name, part in parts.items()},
        "unlabelled": len(unlabelled),
        "sha256": digest.hexdigest(),
    }


def _classes(
    train: LabelledTexts, test: LabelledTexts
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes in order, and the classes of the test texts."""
    for what, part in (("training", train), ("test", test)):
        if part.labels is None:
            raise DataError(f"the {what} texts have no labels; a comparison needs them")
        if not part.texts:
            raise DataError(f"there are no {what} texts to compare on")
    assert train.labels is not None
    assert test.labels is not None
    labels = in_order(train.labels)
    if len(labels) < 2:
        raise DataError(
            f"all {len(train.labels)} training texts are of the class '{labels[0]}'; "
            f"a classifier needs at least two"
        )
    index = {label: code for code, label in enumerate(labels)}
    for label, origin in zip(test.labels, test.origin, strict=True):
        if label not in index:
            raise DataError(
                f"{origin}: the label '{label}' of a test text is not among the "
                f"training labels ({', '.join(labels[:10])})"
            )
    return labels, np.array([index[label] for label in test.labels], dtype=np.int64)


def takes_unlabelled(model: Any) -> bool:
    """Return whether a model learns from texts without labels."""
    takes = "unlabelled" in inspect.signature(model.fit).parameters
    return takes and bool(getattr(model, "takes_unlabelled", True))


def _more(
    model: Any, validation: LabelledTexts | None, unlabelled: Sequence[str]
) -> dict[str, Any]:
    """Return what else the model's `fit` takes of what there is."""
    takes = inspect.signature(model.fit).parameters
    more: dict[str, Any] = {}
    if validation is not None and "validation" in takes:
        if validation.labels is None:
            raise DataError("the validation texts have no labels")
        more["validation"] = (list(validation.texts), np.array(validation.labels))
    if unlabelled and takes_unlabelled(model):
        more["unlabelled"] = list(unlabelled)
    return more


def _run(
    name: str,
    model: Any,
    train: LabelledTexts,
    test: LabelledTexts,
    labels: tuple[str, ...],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Fit one model and return its log-posterior of the test texts, and seconds."""
    start = time.perf_counter()
    try:
        model.fit(list(train.texts), np.array(train.labels), **more)
    except ValueError as error:
        raise DataError(f"{name} cannot learn from these texts: {error}") from error
    between = time.perf_counter()
    if hasattr(model, "predict_log_proba"):
        with np.errstate(divide="ignore"):  # a probability of 0 is infinitely wrong
            logs = np.asarray(model.predict_log_proba(list(test.texts)))
    elif hasattr(model, "predict_proba"):
        with np.errstate(divide="ignore"):
            logs = np.log(model.predict_proba(list(test.texts)))
    else:
        raise UsageError(
            f"{name} has no probabilities; put it into CalibratedClassifierCV"
        )
    end = time.perf_counter()
    column = {name_of(label): place for place, label in enumerate(model.classes_)}
    ordered = logs[:, [column[label] for label in labels]]
    return {
        "log_posterior": ordered.tolist(),
        "fit_seconds": between - start,
        "predict_seconds": end - between,
    }


def _key(model: Any, sha256: str) -> str:
    """Return what changes with the texts, with what the model is, and its code."""
    given = {
        name: repr(value)
        for name, value in sorted(model.get_params(deep=True).items())
        if name not in _ASIDE
    }
    plain = json.dumps([type(model).__qualname__, given, sha256, _versions()])
    return hashlib.sha256(plain.encode()).hexdigest()


def _versions() -> dict[str, str]:
    """Return the versions of the packages whose code decides what is learned."""
    return {name: version(name) for name in _PACKAGES}


def _read(place: Path, key: str) -> dict[str, Any] | None:
    """Return what is kept of a model; None if there is nothing, or of another one."""
    if not place.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{place} is damaged ({error}); remove it") from error
    return found if found.get("key") == key else None


def _write(place: Path, key: str, found: Mapping[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps({"key": key, **found}).encode())
