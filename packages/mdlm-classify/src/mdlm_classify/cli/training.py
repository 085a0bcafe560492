"""What the options of ``mdlm classify train`` mean as settings. Light."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mdlm_classify.pretrained import FINE_TUNING
from mdlm_core.errors import UsageError

Model = Literal["mdlm", "simple", "causal", "discriminative"]

PRESETS = {
    "mdlm": "classify/default",
    "simple": "classify/simple",
    "causal": "classify/causal",
    "discriminative": "classify/discriminative",
}
"""Where each model starts from."""
MIXED = "data.unlabelled_share=0.1"
"""Once text of no class is learned, a little of it keeps it from being forgotten."""
BACKGROUND = (
    "data.unlabelled_share=1",
    "task.warm_start=''",
    "task.null_share=1",
    "task.discriminative=0",
    "task.select=bound",
)
"""What a run on text of no class is, on top of the run that it is for."""


def quoted(path: str, value: str) -> str:
    """Return a setting whose value is text, whatever it looks like in YAML."""
    return f"{path}={json.dumps(value, ensure_ascii=False)}"


def given(sets: Sequence[str], path: str) -> bool:
    """Return whether `sets` say something about the setting `path`."""
    return any(text.partition("=")[0].strip() == path for text in sets)


def settings_of_model(
    model: Model, *, pretrained: str | None, per_class: bool
) -> list[str]:
    """Return the settings of a kind of model, on top of its preset.

    Args:
        model: which one.
        pretrained: the weights of transformers to begin with, and their tokenizer.
        per_class: whether each class has a model of its own.

    Raises:
        UsageError: if two options contradict each other.
    """
    found = []
    if pretrained is not None:
        if model == "mdlm":
            raise UsageError(
                f"--pretrained {pretrained} is for models of transformers; add "
                f"--model simple, causal or discriminative"
            )
        found = [
            quoted("model.path", pretrained),
            "model.random=false",
            quoted("data.tokenizer", pretrained),
            f"train.lr={FINE_TUNING[model]}",
        ]
    if per_class:
        if model == "discriminative":
            raise UsageError(
                "--per-class is for models with a likelihood; leave it out, or choose "
                "another --model"
            )
        if model != "causal":  # which is always so
            found.append("model.per_class=true")
    return found


def settings_of_data(
    *,
    data: str | None,
    text: str | None,
    label: str | None,
    validation: str | None,
    unlabelled: str | None,
    length: int | None,
    rows: int | None,
    epochs: float | None,
) -> list[str]:
    """Return the settings that the options about data mean."""
    named = {
        "data.path": data,
        "data.text": text,
        "data.label": label,
        "data.validation": validation,
        "data.unlabelled": unlabelled,
    }
    found = [quoted(path, value) for path, value in named.items() if value is not None]
    numbers = {"data.length": length, "data.rows": rows, "train.epochs": epochs}
    return found + [f"{path}={n}" for path, n in numbers.items() if n is not None]


def check_unlabelled(model: Model, per_class: bool) -> None:
    """Refuse text of no class for a model that has no place for it.

    Raises:
        UsageError: which option to leave out.
    """
    if model in ("causal", "discriminative"):
        raise UsageError(
            f"--unlabelled: a {model} model has no null class, which learns from text "
            f"without labels; choose --model mdlm or simple"
        )
    if per_class:
        raise UsageError(
            "--unlabelled: with --per-class there is no null class, which learns from "
            "text without labels; leave out one of the two"
        )


def background_of(out: Path) -> Path:
    """Return the folder of the run on text of no class; it stands beside `out`."""
    return out.with_name(f"{out.name}-background")
