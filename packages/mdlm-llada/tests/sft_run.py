"""A run of fine-tuning that takes a second: a tiny model, sums of one digit."""

from __future__ import annotations

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.train import train
from mdlm_core.train.metrics import read_metrics

SETTINGS = {
    "model.blocks": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.mlp_width": 32,
    "data.eos_pad": "none",
    "data.answer_length": 0,
    "data.rows": 40,
    "data.held_out": 12,
    "task.eval_rows": 10,
    "task.eval_draws": 2,
    "task.eval_generate": 4,
    "task.sample_count": 1,
    "task.times.samples_x0": 4,
    "task.times.samples_t": 5,
    "task.times.samples_xt": 3,
    "task.times.starts": 2,
    "sampler.steps": 4,
    "sampler.block": 8,
    "train.steps": 6,
    "train.batch_size": 8,
    "train.optimizer": "adamw",
    "train.lr": 3e-3,
    "train.lr_schedule": "constant",
    "train.warmup": 2,
    "train.ema": 0.9,
    "train.precision": "fp32",
    "train.eval_every": 3,
    "train.save_every": 3,
    "train.log_every": 1,
}
"""More settings than the preset's; a learning rate at which rounding stays small."""

MIRROR = {
    "task.train_mode": "MIRROR",
    "task.loss_norm": "sequence",
    "task.times.ppots": True,
    "task.times.model": "AP",
    "task.times.refresh_every": 4,
}
"""The mirrored pair with fitted times, which are measured before steps 0 and 4.

AP is a smooth function of what was measured; the optimiser that fits EPR makes more of
a rounding error than can be told from a mistake.
"""
TOKEN = {"task.train_mode": "Normal", "task.loss_norm": "token"}
ADAPTERS = TOKEN | {
    "model.dtype": "bfloat16",
    "model.lora.rank": 2,
    "task.eval_generate": 0,
}
"""Adapters in float32 on weights in bfloat16."""


def config(**changes):
    """Return the settings; keys have underscores twice where settings have a dot."""
    values = SETTINGS | {name.replace("__", "."): v for name, v in changes.items()}
    sets = [
        f"{name}={str(v).lower() if isinstance(v, bool) else v}"
        for name, v in values.items()
    ]
    return resolve(load_catalog(), preset="llada/addition", sets=sets).config


def run(out, kind=None, *, resume=False, source=None, **changes):
    """Train in the folder `out` and return the outcome."""
    changes = {name.replace(".", "__"): v for name, v in (kind or {}).items()} | changes
    return train(config(**changes), out=out, resume=resume, device="cpu", source=source)


def trace(folder, kind=None):
    """Return the lines of metrics.jsonl without what a clock decides."""
    timed = {"seconds", "tokens_per_second"}
    return [
        {key: value for key, value in line.items() if key not in timed}
        for line in read_metrics(folder / "metrics.jsonl")
        if kind is None or line["kind"] == kind
    ]
