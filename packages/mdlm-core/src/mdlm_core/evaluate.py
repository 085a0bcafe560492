"""The evaluation card: a held-out bound, and all that is needed to measure it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, Schedule, Task
from mdlm_core.tasks.bound import measure

if TYPE_CHECKING:
    from torch import nn


class Trained(Protocol):
    """What is read of a `train.LoadedRun`."""

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def backbone(self) -> Backbone: ...  # noqa: D102
    @property
    def source(self) -> DataSource: ...  # noqa: D102
    @property
    def schedule(self) -> Schedule: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def weights(self) -> str: ...  # noqa: D102
    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def checkpoint(self) -> Path: ...  # noqa: D102
    @property
    def data(self) -> Mapping[str, Any]: ...  # noqa: D102


def evaluate(
    run: Trained,
    *,
    draws: int = 8,
    rows: int = 0,
    estimator: str = "exact-counts",
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a trained model on its held-out data, in float32.

    The numbers depend on the checkpoint, the data and these arguments alone: not on
    the device, the batch size or the number of processes, up to rounding.

    Args:
        run: a loaded run.
        draws: draws for each row.
        rows: how many held-out rows, spread evenly over the split (the first ones
            of a stream); 0 means all.
        estimator: "exact-counts", "continuous-time" or "any-order".
        seed: decides the masks.

    Returns:
        The card: plain values, ready for JSON. A value that is not known is None.

    Raises:
        UsageError: if `draws` is less than 1 or `rows` is negative.
        ConfigError: if the estimator is unknown.
        DataError: if there is nothing to score.
    """
    if draws < 1 or rows < 0:
        raise UsageError(
            f"draws is {draws} and rows is {rows}; draws must be at least 1 and rows "
            f"at least 0"
        )
    own = getattr(run.task, "bound", None)  # of a task that needs a way of its own
    subject = run.backbone if own is None else run.module
    bound = (own or measure)(
        cast("nn.Module", subject),
        run.source,
        draws=draws,
        rows=rows,
        estimator=estimator,
        noise=Noise(seed).child("evaluate"),
        schedule=run.schedule,
    )
    return {
        "bound": {
            "nats_per_token": _entry(bound.nats, bound.nats_se),
            "bits_per_byte": _entry(bound.bits_per_byte, bound.bits_per_byte_se),
            "perplexity": _entry(bound.perplexity, bound.perplexity_se),
        },
        "estimator": bound.estimator,
        "draws": bound.draws,
        "seed": seed,
        "rows": bound.rows,
        "tokens": bound.tokens,
        "evaluations": bound.evaluations,
        "precision": "float32",
        "data": _data(run, bound.bytes_per_token),
        "tokenizer": _tokenizer(run),
        "run": str(run.folder),
        "checkpoint": run.checkpoint.name,
        "step": run.step,
        "weights": run.weights,
        "versions": {name: metadata.version(name) for name in ("mdlm-core", "torch")},
    }


def _entry(value: float, error: float) -> dict[str, float | None] | None:
    if not math.isfinite(value):
        return None
    return {"value": value, "se": error if math.isfinite(error) else None}


def _data(run: Trained, bytes_per_token: float | None) -> dict[str, Any]:
    card = run.source.card()
    facts = _held_out(card)
    before = _held_out(run.data)
    return {
        "name": card.get("name"),
        "split": "validation",
        "split_sha256": facts.get("sha256"),
        "bytes_per_token": bytes_per_token,
        "eod": card.get("eod"),
        "isolate": card.get("isolate"),
        "length": run.source.length,
        "as_trained": not before or _hashes(before) == _hashes(facts),
    }


def _hashes(facts: Mapping[str, Any]) -> tuple[object, object]:
    """Return what identifies a split: its hash, or that of a stream's beginning."""
    return facts.get("sha256"), facts.get("probe_sha256")


def _held_out(card: Mapping[str, Any]) -> Mapping[str, Any]:
    splits = card.get("splits", {})
    return splits.get("validation", {}) if isinstance(splits, Mapping) else {}


def _tokenizer(run: Trained) -> dict[str, Any]:
    tokenizer = run.source.tokenizer
    return {
        "name": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint(),
    }
