"""The keys of the original's two configurations, and what they are here.

Light: imports nothing. The original's description names its command lines, the
arguments of its classes and the constants of its training; its YAML files are not part
of it, so that these are the names of those arguments, in the sections that its command
lines show. What is not written is decided by the preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the original."""

    paths: tuple[str, ...] = ()
    """Our settings that take its value."""
    values: Mapping[object, tuple[str, ...]] = field(default_factory=dict)
    """The values it can have, and our assignments for each, if these are few."""
    reason: str = ""
    """Why it has no other values."""


def _to(*paths: str) -> Key:
    return Key(paths)


_BACKBONE = Key(
    values={"mdlm": ()},
    reason="autoregressive rows (gpt) are later work; 'mdlm' is all there is",
)
_SAMPLERS: dict[object, tuple[str, ...]] = {
    name: (f"sampler.name={name}",)
    for name in ("ddpm", "ddpm_cache", "confidence", "remask", "one-shot")
}

KEYS: Mapping[str, Key] = {
    # ---- model
    "backbone": _BACKBONE,
    "model.backbone": _BACKBONE,
    "model.vocab_size": Key(
        values={37: (), 128: ()},
        reason="the alphabet has 37 ids, which the original pads to 128",
    ),
    "model.hidden_size": _to("model.width"),
    "model.num_heads": _to("model.heads"),
    "model.num_layers": _to("model.blocks"),
    "model.cond_dim": _to("model.cond_width"),
    "model.mlp_ratio": _to("model.mlp_ratio"),
    "model.dropout": _to("model.dropout"),
    "model.mask_token_id": Key(
        values={36: ()}, reason="36 is the mask of diffusion of the alphabet"
    ),
    "model.parameterization": Key(
        values={"subs": ()}, reason="subs is the parameterisation of MDLM"
    ),
    # ---- noise
    "noise_schedule.name": Key(
        values={"loglinear": ("schedule.name=loglinear-reversed",)},
        reason="the original has one schedule, whose time is turned round on reading",
    ),
    "noise_schedule.eps": _to("schedule.eps"),
    # ---- data
    "data.path": _to("data.path"),
    "data.max_length": _to("data.length"),
    "data.max_rows": _to("data.rows"),
    "data.min_score_difference": _to("data.min_difference"),
    # ---- optimisation
    "training.batch_size": _to("train.batch_size"),
    "training.learning_rate": _to("train.lr"),
    "training.max_steps": _to("train.steps"),
    "training.warmup_steps": _to("train.warmup"),
    "training.weight_decay": _to("train.weight_decay"),
    "training.gradient_clip": _to("train.clip"),
    "training.seed": _to("seed"),
    # ---- preferences
    "dpo.beta": _to("task.beta"),
    "dpo.label_smoothing": _to("task.smoothing"),
    "dpo.sft_weight": _to("task.sft"),
    # ---- sampling
    "sampling.num_diffusion_steps": _to("sampler.steps"),
    "sampling.diffusion_sampler": Key(
        values=_SAMPLERS, reason="these are the samplers by their names here"
    ),
}
"""The keys, by their dotted paths."""

CHECKPOINT = "model.checkpoint_path"
"""A run to begin with; that of preferences needs one."""
OUT = "output_dir"
"""The folder of the new run."""
ONLY = {
    "train_mdlm_dpo": ("data.min_score_difference", "dpo."),
    "train_mdlm": ("data.max_rows",),
}
"""Keys that only one of the two has."""
DEFAULTS = ("data.length=2048", "data.rows=8")
"""What the original trains on where our preset has other values."""
