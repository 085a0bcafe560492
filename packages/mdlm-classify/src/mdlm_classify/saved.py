"""What makes a run folder a classifier: ``classifier.json``, and reading it again.

::

    {
        "format": 1,
        "kind": "mdlm",
        "classes": [0, 1],
        "labels": ["0", "1"],
        "sizes": [500, 500],
        "prior": [0.5, 0.5],
        "temperature": {"a": 0.2, "b": 0.7},
        "scoring": {"max_draws": 64},
    }

`classes` are what `predict` returns, sorted; `labels` their names in the order of the
model, and so are `sizes` and `prior`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import RunConfig
from mdlm_core.errors import CheckpointError, UsageError
from mdlm_core.refs import Ref
from mdlm_core.train.checkpoint import MODEL, write_checkpoint
from mdlm_core.train.folder import RunFolder, write_config
from mdlm_core.train.runs import LoadedRun, load_run
from mdlm_core.train.state import collect, named_tensors

from .data.labels import name_of

if TYPE_CHECKING:
    from .training import Trained, TrainedByRun

CARD = "classifier.json"
FORMAT = 1
KINDS = {
    "mdlm": Ref("mdlm_classify.mdlm:MDLMClassifier"),
    "simple": Ref("mdlm_classify.simple:SimpleMaskedDiffusion"),
    "causal": Ref("mdlm_classify.causal:CausalLMClassifier"),
    "discriminative": Ref("mdlm_classify.discriminative:DiscriminativeClassifier"),
}
"""The class of each kind."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What ``classifier.json`` holds."""

    kind: str
    classes: tuple[Any, ...]
    """What `predict` returns, sorted."""
    labels: tuple[str, ...]
    """Their names, in the order of the model."""
    sizes: tuple[int, ...]
    """Training texts of each class, in the order of the model."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the class of this kind needs besides."""

    def save(self, folder: Path) -> Path:
        """Write it into a run folder, wholly or not at all."""
        found = {
            "format": FORMAT,
            "kind": self.kind,
            "classes": list(self.classes),
            "labels": list(self.labels),
            "sizes": list(self.sizes),
            **self.facts,
        }
        path, temporary = folder / CARD, folder / f"{CARD}.tmp"
        text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path


def read_card(folder: Path | str) -> Card | None:
    """Return the card of a run folder; None if it has none.

    Raises:
        CheckpointError: if it is damaged, or of a newer version.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        form = found.pop("format")
        card = Card(
            kind=str(found.pop("kind")),
            classes=tuple(found.pop("classes")),
            labels=tuple(map(str, found.pop("labels"))),
            sizes=tuple(map(int, found.pop("sizes"))),
            facts=found,
        )
        names = sorted(map(name_of, card.classes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{path}' cannot be read: {error!r}") from error
    if form != FORMAT:
        raise CheckpointError(
            f"'{path}' has the format {form}, and this version reads {FORMAT}; "
            f"update mdlm-classify"
        )
    if sorted(card.labels) != names or len(card.sizes) != len(names):
        raise CheckpointError(
            f"'{path}' is damaged: classes {list(card.classes)}, labels "
            f"{list(card.labels)} and sizes {list(card.sizes)} do not go together"
        )
    return card


def load_classifier(
    run: Path | str,
    *,
    device: str = "auto",
    checkpoint: str | int = "best",
    weights: str = "ema",
    catalog: Catalog | None = None,
) -> Any:
    """Return the classifier of a run folder, ready to predict.

    A run without ``classifier.json``, as `mdlm train` leaves it, has the empirical
    prior and no calibration; its classes are texts.

    Args:
        run: the folder.
        device: "auto" takes a GPU if there is one.
        checkpoint: "best", "last" or the number of a step.
        weights: "ema" or "raw".
        catalog: where components come from; by default the installed plugins.

    Raises:
        ConfigError: if there is no run.
        CheckpointError: if it is damaged, or no classifier.
    """
    card = read_card(run)
    loaded = load_run(
        run, device=device, checkpoint=checkpoint, weights=weights, catalog=catalog
    )
    card = card or _card_of(loaded)
    if card.kind not in KINDS:
        raise CheckpointError(
            f"'{run}' is a classifier of the kind '{card.kind}', which this version "
            f"does not know; it knows {', '.join(KINDS)}"
        )
    kind = cast("type[TrainedByRun]", KINDS[card.kind].load())
    return kind.of_run(loaded, card)


def _card_of(run: LoadedRun) -> Card:
    """Return what is known of a run without a card."""
    task, model = run.config.task.name, run.config.model.name
    kinds = {
        "classify": "simple" if model == "class-hugging-face" else "mdlm",
        "classify-causal": "causal",
        "classify-discriminative": "discriminative",
    }
    labels = tuple(getattr(run.config.data.config, "labels", ()))
    if task not in kinds or not labels:
        raise CheckpointError(
            f"'{run.folder}' is no classifier: its task is {task}, and it has "
            f"{len(labels)} classes; train one with mdlm classify train"
        )
    if len(labels) == 1:
        raise CheckpointError(
            f"'{run.folder}' is a model of one class; use "
            f"SimpleDiscreteDiffusion.load, or train with classes"
        )
    try:
        counted = run.data["splits"]["train"]["texts_per_class"]
        sizes = tuple(int(counted[name]) for name in labels)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{RunFolder(run.folder).data}' does not say how many texts each class "
            f"has, which the prior is made of; train again"
        ) from error
    return Card(
        kind=kinds[task], classes=tuple(sorted(labels)), labels=labels, sizes=sizes
    )


# ---- a folder for what is in memory -----------------------------------------


def write_run(folder: Path, trained: Trained, labels: tuple[str, ...]) -> None:
    """Write a run folder for a model that is in memory.

    It holds one checkpoint, from which a run cannot be resumed.

    Raises:
        UsageError: if there is something in `folder`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not empty; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    place = RunFolder(folder)
    trained.tokenizer.save(place.tokenizer)
    place.data.write_text(
        json.dumps(trained.data, indent=2, default=str) + "\n", encoding="utf-8"
    )
    tensors = collect(named_tensors(trained.module))
    state = {"score": None, "length": trained.length}
    write_checkpoint(place.checkpoints, trained.step, {MODEL: tensors}, state)
    write_config(place, with_labels(trained.config, labels), load_catalog())


def with_labels(config: RunConfig, labels: tuple[str, ...]) -> RunConfig:
    """Return the settings with the classes `labels`."""
    data = replace(config.data.config, labels=labels)
    return replace(config, data=replace(config.data, config=data))


def json_classes(classes: Any) -> tuple[Any, ...]:
    """Return classes as JSON has them: text, integers, numbers, truth values.

    Raises:
        UsageError: if they are of another type.
    """
    values = tuple(np.asarray(classes).tolist())
    for value in values:
        if not isinstance(value, str | int | float | bool):
            raise UsageError(
                f"a class is {value!r} ({type(value).__name__}), which cannot be "
                f"written to a file; use text or integers"
            )
    return values


__all__ = [
    "CARD",
    "KINDS",
    "Card",
    "json_classes",
    "load_classifier",
    "read_card",
    "with_labels",
    "write_run",
]
