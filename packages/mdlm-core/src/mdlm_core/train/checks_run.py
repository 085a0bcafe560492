"""What `mdlm doctor RUN` looks at: files, model and data, and whether they fit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig, read_run
from mdlm_core.errors import MdlmError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.protocols import DataSource, Task
from mdlm_core.tasks.bound import measure

from . import checkpoint
from .checks import Finding
from .folder import RunFolder, check_data
from .lock import is_held
from .metrics import read_metrics
from .runs import LoadedRun, load_run


def run_folder(
    path: Path,
    catalog: Catalog,
    *,
    task: Task | None = None,
    source: DataSource | None = None,
) -> Iterator[Finding]:
    """Look at a run, from its settings to the first loss of a new model like it.

    Args:
        path: the run folder.
        catalog: where components come from.
        task: the task, instead of the one in the settings.
        source: the data, instead of the one in the settings.
    """
    folder = RunFolder(path)
    try:
        config = read_run(path, catalog)
    except MdlmError as error:
        yield Finding("settings", "problem", str(error), "mdlm config show RUN")
        return
    yield Finding("settings", "ok", f"{config.model.name} on {config.data.name}")
    if is_held(path):
        yield Finding("lock", "note", "a process trains here now")
    yield from _checkpoints(folder)
    yield from _metrics(folder, config)
    try:
        run = load_run(path, catalog=catalog, task=task, source=source)
    except MdlmError as error:
        yield Finding("model", "problem", str(error), "see the checkpoints above")
        return
    yield from _model(run)
    try:
        yield from _data(folder, run)
    except MdlmError as error:
        yield Finding("data", "problem", str(error), "bring the run's data back")
        return
    yield _first_loss(run)


def _checkpoints(folder: RunFolder) -> Iterator[Finding]:
    found = checkpoint.checkpoints(folder.checkpoints)
    problems = {path: checkpoint.damage(path) for path in found}
    sound = [path for path in found if not problems[path]]
    for path in found:
        if problems[path]:
            yield Finding(
                "checkpoints",
                "problem",
                f"'{path.name}' is damaged: {problems[path]}",
                f"remove '{path}'; --resume goes on from the newest whole one",
            )
    if sound:
        steps = ", ".join(str(checkpoint.step_of(path)) for path in sound)
        yield Finding("checkpoints", "ok", f"whole: those of steps {steps}")
    else:
        yield Finding(
            "checkpoints",
            "problem",
            "there is none that is whole",
            f"mdlm train --out {folder.path} --resume",
        )


def _metrics(folder: RunFolder, config: RunConfig) -> Iterator[Finding]:
    lines = read_metrics(folder.metrics)
    train = [line for line in lines if line["kind"] == "train"]
    if not train:
        yield Finding("progress", "note", "no step is logged yet")
        return
    step, steps = train[-1]["step"], config.train.steps
    rest = "" if step >= steps else f"mdlm train --out {folder.path} --resume"
    yield Finding(
        "progress", "note" if rest else "ok", f"step {step} of {steps} done", rest
    )
    held_out = [line for line in lines if line["kind"] == "validation"]
    if held_out:
        best = min(held_out, key=lambda line: line["loss"])
        # With a log-loss, or a unit said apart, the loss is what the task chooses by.
        units = {name for name in best if name.startswith("nats_per_")}
        own = "log_loss" in best or bool(units - {"nats_per_token"})
        unit = "loss" if own else "nats/token"
        text = f"best {best['loss']:.4f} {unit} at step {best['step']}"
        last = held_out[-1]
        margin = 2 * (last.get("loss_se") or 0.0)
        if last["loss"] > best["loss"] + margin and not own:
            yield Finding(
                "held out",
                "note",
                f"{text}, {last['loss']:.4f} at step {last['step']}",
                "it learns the data by heart: train less, or on more data",
            )
        else:
            yield Finding("held out", "ok", text)


def _model(run: LoadedRun) -> Iterator[Finding]:
    backbone, tokenizer = run.backbone, run.tokenizer
    mask = tokenizer.mask_id
    wrong = [
        text
        for text, bad in (
            (f"the model's mask is {backbone.mask_id}", backbone.mask_id != mask),
            (
                f"the model has {backbone.vocab_size} ids and the tokenizer "
                f"{tokenizer.vocab_size}",
                backbone.vocab_size < tokenizer.vocab_size,
            ),
            ("it is not an id of the model", not 0 <= mask < backbone.vocab_size),
            ("text is encoded with it", mask in tokenizer.encode("The [MASK] ▒")),
        )
        if bad
    ]
    yield Finding(
        "mask id",
        "problem" if wrong else "ok",
        "; ".join([f"{mask} of {tokenizer.vocab_size}", *wrong]),
        "use the tokenizer that the model was trained with" if wrong else "",
    )
    sick = [
        name
        for name, value in run.module.state_dict().items()
        if isinstance(value, torch.Tensor) and not value.isfinite().all()
    ]
    yield Finding(
        "weights",
        "problem" if sick else "ok",
        f"'{sick[0]}' holds numbers that are not finite"
        if sick
        else f"finite, {run.weights} of step {run.step}",
        "use an earlier checkpoint" if sick else "",
    )
    expected = run.config.train.ema > 0
    if expected != (run.weights == "ema"):
        yield Finding(
            "ema",
            "problem",
            f"train.ema is {run.config.train.ema}, but '{run.checkpoint.name}' "
            f"{'lacks' if expected else 'has'} averaged weights",
            "use another checkpoint, or --weights raw",
        )
    else:
        yield Finding("ema", "ok", "there and used" if expected else "none, as set")


def _data(folder: RunFolder, run: LoadedRun) -> Iterator[Finding]:
    sizes = {split: run.source.size(split) for split in ("train", "validation")}
    empty = [split for split, rows in sizes.items() if rows == 0]
    known = ", ".join(
        f"{split} {'streamed' if rows is None else f'{rows:,} rows'}"
        for split, rows in sizes.items()
    )
    yield Finding(
        "data",
        "problem" if empty else "ok",
        f"{known} of {run.source.length} tokens",
        "give more text, or change data.holdout" if empty else "",
    )
    check_data(folder, run.source)
    if folder.data.is_file():
        card = json.loads(folder.data.read_text(encoding="utf-8"))
        split = card.get("splits", {}).get("validation", {}).get("sha256", "unknown")
        yield Finding("split", "ok", f"as in training, sha256 {str(split)[:16]}")


def _first_loss(run: LoadedRun) -> Finding:
    """Measure a new model: it knows nothing, so that its bound should be ln(V - 1)."""
    with global_seed(Noise(run.config.seed).child("init")):
        module = run.task.build(run.source)
    backbone = cast("nn.Module", module.backbone)
    try:
        bound = measure(backbone, run.source, draws=2, rows=4, noise=Noise(0))
    except MdlmError as error:
        return Finding("first loss", "note", f"not measured: {error}")
    expected = math.log(run.backbone.vocab_size - 1)
    text = f"{bound.nats:.4f} nats/token; ln(V - 1) is {expected:.4f}"
    if abs(bound.nats - expected) < 1e-3:
        return Finding("first loss", "ok", text)
    return Finding(
        "first loss",
        "note",
        text,
        "right for a model that starts from learned weights; otherwise its head "
        "should start at zero",
    )
