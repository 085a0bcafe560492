"""The keys of the original's `llada_plus` configuration, and what they are here.

Light: imports nothing. A row is a key of the section ``train`` with the original's
default and either dotted paths of ours, which take the value as it is, or what each
value becomes. `original` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REQUIRED = object()
"""Stands for a default where there is none."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the original."""

    default: object
    """What it is if it is not written; None means that it decides nothing."""
    paths: tuple[str, ...] = ()
    """Our settings that take its value."""
    values: Mapping[object, tuple[str, ...]] = field(default_factory=dict)
    """Its values, and our assignments for each."""
    note: str = ""
    """What it does, where that is more than to set something."""


def _to(default: object, *paths: str) -> Key:
    return Key(default, paths)


KEYS: Mapping[str, Key] = {
    # ---- what is trained
    "task": Key(REQUIRED, note="names the data and the output folder"),
    "model": Key(
        "llada",
        values={
            "llada": ("model.name=llada",),
            "llada_moe": ("model.name=llada",),
            "llada2": ("model.name=llada",),
            "dream": ("model.name=llada",),
            "hf": ("model.name=hugging-face",),
        },
        note="the checkpoint's config.json says which one of the family it is",
    ),
    "model_path": _to("GSAI-ML/LLaDA-8B-Instruct", "model.path"),
    "tokenizer_path": Key(None, ("data.tokenizer",), note="default: model_path"),
    "mask_token_id": _to(None, "model.mask_token_id", "data.mask_token_id"),
    "pad_token_id": Key(
        None, note="nothing: what stands at padded positions is never seen"
    ),
    "dtype": Key(
        "auto",
        values={
            "auto": ("train.precision=auto",),
            "float32": ("train.precision=fp32",),
            "bfloat16": ("train.precision=bf16",),
            "float16": ("train.precision=fp16",),
        },
    ),
    # ---- data
    "train_data_path": Key(
        None, ("data.path",), note="default: ./data/train/{task}.jsonl"
    ),
    "max_len": _to(4096, "data.max_length"),
    "too_long": _to("drop", "data.too_long"),
    "train_ratio": _to(0.9, "data.train_ratio"),
    "eos_pad": _to("none", "data.eos_pad"),
    "eos_count": _to(8, "data.eos_count"),
    # ---- optimisation
    "epochs": _to(1, "train.epochs"),
    "lr": _to(5e-5, "train.lr"),
    "warmup_steps": _to(0, "train.warmup"),
    "lr_scheduler_type": Key(
        "linear",
        values={
            # after warmup_steps, which it does not have
            "constant": ("train.lr_schedule=constant", "train.warmup=0"),
            "constant_with_warmup": ("train.lr_schedule=constant",),
            "linear": ("train.lr_schedule=linear",),
            "cosine": ("train.lr_schedule=cosine",),
            "cosine_with_restarts": ("train.lr_schedule=cosine-restarts",),
            "polynomial": ("train.lr_schedule=polynomial",),
        },
    ),
    "weight_decay": _to(0.1, "train.weight_decay"),
    "max_grad_norm": _to(1.0, "train.clip"),
    "batch_size_per_gpu": _to(1, "train.micro_batch"),
    "grad_accum": Key(
        1, note="train.batch_size is batch_size_per_gpu * grad_accum * processes"
    ),
    "gradient_checkpointing": _to(False, "train.checkpoint_activations"),
    # ---- measuring, saving, telling
    "eval_strategy": Key(
        "epoch",
        values={
            "epoch": ("train.eval_every=epoch",),
            "steps": ("train.eval_every={eval_steps}",),
            "no": ("train.eval_every=0",),
        },
        note="'no' still measures once, at the end",
    ),
    "eval_steps": Key(100, note="the steps of eval_strategy=steps"),
    "save_strategy": Key(
        "last",
        values={
            "last": ("train.save_every=0",),
            "epoch": ("train.save_every=epoch",),
            "steps": ("train.save_every={save_steps}",),
        },
    ),
    "save_steps": Key(100, note="the steps of save_strategy=steps"),
    "output_dir": Key(None, note="--out; default: ./logs/{task}"),
    "logging_steps": _to(5, "train.log_every"),
    "report_to": Key(
        "none",
        values={
            "none": ("train.report_to=[]",),
            "wandb": ("train.report_to=[wandb]",),
            "tensorboard": ("train.report_to=[tensorboard]",),
        },
    ),
    # ---- noise
    "train_mode": _to("Normal", "task.train_mode"),
    "loss_norm": _to("sequence", "task.loss_norm"),
    "eps": _to(1e-3, "task.t_min"),
    "t_sampler": Key(
        "iid",
        values={
            "iid": ("task.times.stratified=false",),
            "stratified": ("task.times.stratified=true",),
        },
    ),
    "PPOTS": _to(False, "task.times.ppots"),
    "p_model": _to("EPR", "task.times.model"),
    "num_samples_x0": _to(15, "task.times.samples_x0"),
    "num_samples_t": _to(70, "task.times.samples_t"),
    "num_samples_xt": _to(15, "task.times.samples_xt"),
    "n_starts": _to(20, "task.times.starts"),
    "mix_uniform": _to(0.0, "task.times.mix_uniform"),
    "max_is_weight": _to(1e6, "task.times.max_weight"),
    "loss_max": _to(10.0, "task.times.loss_max"),
    "max_tokens_per_forward": _to(60_000, "task.times.max_tokens_per_forward"),
    "refresh_every": _to(0, "task.times.refresh_every"),
    # ---- adapters
    "lora.r": _to(0, "model.lora.rank"),
    "lora.rank": _to(None, "model.lora.rank"),
    "lora.alpha": _to(16.0, "model.lora.alpha"),
    "lora.lora_alpha": _to(None, "model.lora.alpha"),
    "lora.dropout": _to(0.0, "model.lora.dropout"),
    "lora.lora_dropout": _to(None, "model.lora.dropout"),
    "lora.targets": _to(None, "model.lora.targets"),
    "lora.target_modules": _to(None, "model.lora.targets"),
    # ---- elsewhere
    "seed": _to(42, "seed"),
    "china": Key(False, note="sets HF_ENDPOINT to a mirror of the hub for this run"),
}
"""The keys of ``train``."""

TOP = ("engine", "seed", "task")
"""Keys that may stand at the top as well."""
ENGINE = "llada_plus"
OURS_TOO = ("epochs", "lr", "weight_decay")
"""Keys of ``train`` that are spelled the same here: alone they decide nothing."""
MIRROR = "https://hf-mirror.com"
