"""Train one run, score it, and say all that a row holds."""

from __future__ import annotations

import math
import platform
import signal
import statistics
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdlm_atat import __version__
from mdlm_atat.datasets import DatasetConfig
from mdlm_atat.datasets.prepare import validation_source
from mdlm_atat.own_bound import own_bound
from mdlm_atat.quality import quality_against_nfe
from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import RunConfig
from mdlm_core.errors import MdlmError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource
from mdlm_core.train import load_run, train
from mdlm_core.train.folder import RunFolder, versions
from mdlm_core.train.metrics import read_metrics
from mdlm_core.train.runs import LoadedRun

from .diagnostics import diagnose
from .rows import DONE, FAILED
from .score import Scoring, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is measured besides the uniform bound."""

    quality: bool = False
    """Samples in every order at several numbers of steps."""
    samples: int = 64
    """How many of each."""
    steps: tuple[int, ...] = (8, 32, 128)
    """Numbers of steps; at most one for each token."""
    entropy_bounds: tuple[float, ...] = (0.1, 1.0)
    """In nats; for each order, in addition."""


class Stopped(Exception):
    """A signal came; the run was saved and can go on."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.received = received


def attempt(
    config: RunConfig,
    folder: Path,
    scoring: Scoring,
    *,
    extras: Extras | None = None,
    held_out: DatasetConfig | None = None,
    device: str | None = None,
    catalog: Catalog | None = None,
) -> dict[str, Any]:
    """Train and score a run; a failure is an answer too.

    Args:
        config: the settings.
        folder: the run folder; a run that is there already goes on.
        scoring: how it is scored.
        extras: what is measured besides.
        held_out: prepared text to score on; None means what core holds out.
        device: see `mdlm_core.train.train`.
        catalog: where components come from.

    Returns:
        What `measure` returns and ``status: done``; or ``status: failed`` and the
        error in words.

    Raises:
        Stopped: if a signal came; the run can go on.
    """
    try:
        found = measure(
            config,
            folder,
            scoring,
            extras=extras or Extras(),
            held_out=held_out,
            device=device,
            catalog=catalog,
        )
    except (Stopped, KeyboardInterrupt):
        raise
    except MdlmError as error:
        return {"status": FAILED, "error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
    if (place := _not_finite(found)) is not None:
        return {"status": FAILED, "error": f"{place} is not a finite number"}
    return {"status": DONE, "error": None, **found}


def _not_finite(values: Any, place: str = "") -> str | None:
    """Return where the first number stands that no row can hold; None if none does."""
    if isinstance(values, float):
        return None if math.isfinite(values) else place
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(values, Mapping):
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    for name, value in items:
        inner = _not_finite(value, f"{place}.{name}" if place else str(name))
        if inner is not None:
            return inner
    return None


def measure(
    config: RunConfig,
    folder: Path,
    scoring: Scoring,
    *,
    extras: Extras,
    held_out: DatasetConfig | None = None,
    device: str | None = None,
    catalog: Catalog | None = None,
) -> dict[str, Any]:
    """Train a run, from where it stopped if it did, and score its last weights.

    The last checkpoint is scored, not the best: the best is chosen on held-out text.
    """
    catalog = catalog or load_catalog()
    run_folder = RunFolder(folder)
    outcome = train(
        config,
        out=folder,
        resume=run_folder.config.is_file(),
        device=device,
        catalog=catalog,
    )
    if outcome.signal is not None:
        raise Stopped(outcome.signal)
    run = load_run(folder, device=device or "auto", checkpoint="last", catalog=catalog)
    backbone = run.module.backbone
    assert isinstance(backbone, nn.Module)
    measured: DataSource = run.source
    if held_out is not None:
        length = run.source.length
        measured = validation_source(held_out, run.tokenizer, length=length)
    scored = score(backbone, run.source, run.schedule, scoring, measured=measured)
    return {
        **scored,
        **_training_facts(run_folder, config),
        "parameters": _parameters(run.module),
        "data": _data_facts(measured),
        "versions": {"mdlm-atat": __version__, **versions(config, catalog)},
        "machine": {
            "device": next(backbone.parameters()).device.type,
            "threads": torch.get_num_threads(),
            "system": platform.platform(terse=True),
        },
        "diagnostics": diagnose(run, scoring, measured=measured),
        **_own_bound(run, scoring, measured),
        "quality": _quality(run, scoring, measured, extras),
    }


def _training_facts(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """Return what the metrics say about time, tokens and the way there."""
    lines = read_metrics(folder.metrics)
    training = [line for line in lines if line["kind"] == "train"]
    last = training[-1]
    return {
        "steps": config.train.steps,
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "steps_per_second": _speed(training),
        "curve": [
            {
                "step": line["step"],
                "seconds": _seconds_at(line["step"], training),
                "nats": line["loss"],
                "nats_se": line.get("loss_se"),
            }
            for line in lines
            if line["kind"] == "validation" and line.get("loss") is not None
        ],
    }


def _speed(training: Sequence[dict[str, Any]]) -> float:
    """Return steps per second: the median over the lines.

    So neither a slow first step (compilation, caches) nor a pause counts.
    """
    speeds, step, seconds = [], 0, 0.0
    for line in training:
        if line["seconds"] > seconds:
            speeds.append((line["step"] - step) / (line["seconds"] - seconds))
        step, seconds = line["step"], line["seconds"]
    return float(statistics.median(speeds))


def _seconds_at(step: int, training: Sequence[dict[str, Any]]) -> float:
    """Return the training time at a step, between two lines in proportion."""
    before, seconds = 0, 0.0
    for line in training:
        if line["step"] >= step:
            share = (step - before) / (line["step"] - before)
            return float(seconds + share * (line["seconds"] - seconds))
        before, seconds = line["step"], line["seconds"]
    return float(seconds)


def _parameters(module: nn.Module) -> dict[str, int]:
    backbone = module.backbone
    assert isinstance(backbone, nn.Module)
    model = sum(p.numel() for p in backbone.parameters())
    everything = sum(p.numel() for p in module.parameters())
    return {"model": model, "policy": everything - model}


def _data_facts(source: DataSource) -> dict[str, Any]:
    """Return what must agree between rows that are compared."""
    card = source.card()
    splits = card.get("splits")
    facts = splits.get("validation", {}) if isinstance(splits, dict) else {}
    return {
        "name": card.get("name"),
        "length": source.length,
        "tokenizer": source.tokenizer.name,
        "tokenizer_fingerprint": source.tokenizer.fingerprint(),
        "held_out_sha256": facts.get("sha256") or facts.get("probe_sha256"),
    }


def _own_bound(
    run: LoadedRun, scoring: Scoring, measured: DataSource
) -> dict[str, Any]:
    """Return the bound of the run's own process, or why it has none."""
    try:
        found = own_bound(
            run,
            measured,
            draws=scoring.draws,
            noise=Noise(scoring.seed).child("own"),
            rows=scoring.rows,
        )
    except UsageError as error:
        return {"own_bound": None, "no_own_bound": str(error)}
    return {"own_bound": asdict(found), "no_own_bound": None}


def _quality(
    run: LoadedRun, scoring: Scoring, measured: DataSource, extras: Extras
) -> list[dict[str, Any]] | None:
    """Return samples' quality against their cost; None if it was not asked for."""
    if not extras.quality:
        return None
    return quality_against_nfe(
        run.backbone,
        run.source,
        schedule=run.schedule,
        policy=getattr(run.module, "policy", None),
        measured=measured,
        steps=sorted({min(count, run.source.length) for count in extras.steps}),
        entropy_bounds=extras.entropy_bounds,
        num=extras.samples,
        seed=scoring.seed,
    )
