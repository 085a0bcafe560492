"""The settings of the original MDLM-ATAT scripts, and what they are called here.

Light: imports nothing. A row of `KEYS` is the spellings of a setting and either the
dotted path of ours, which takes the value as it is, or what each value becomes.
"""

from __future__ import annotations

from collections.abc import Mapping

Values = Mapping[str, tuple[str, ...]]
"""A value in lower case -> our assignments; "*" takes any other as ``{}``."""

_LEARNED, _FREQUENCY = "masking.importance.learned", "masking.importance.frequency"
NO_IMPORTANCE = (f"{_LEARNED}=0", f"{_FREQUENCY}=0")


def _only(value: str) -> Values:
    """Return a rule for what is always so: that value does nothing."""
    return {value: ()}


def _switch(*off: str) -> Values:
    """Return a rule for a part of the method: on is as the variant says."""
    return {"true": (), "false": off}


_ROWS: tuple[tuple[tuple[str, ...], str | Values], ...] = (
    # ---- the denoiser
    (
        ("model.name", "backbone", "model.type"),
        {"atat_dit": ("model.name=atat-dit",), "dit": ()},
    ),
    (("model.dim", "model.hidden_size"), "model.width"),
    (("model.n_layers", "model.n_blocks"), "model.blocks"),
    (("model.n_heads",), "model.heads"),
    (("model.cond_dim",), "model.cond_width"),
    (("model.dropout",), "model.dropout"),
    (("model.length",), "data.length"),
    (("time_conditioning",), "model.time_conditioned"),
    (("model.tie_word_embeddings",), _only("false")),
    # ---- importance
    (("use_importance", "model.use_importance"), _switch(*NO_IMPORTANCE)),
    (
        ("model.importance_mode", "importance_mode"),
        {
            "full": (f"{_LEARNED}=0.7", f"{_FREQUENCY}=0.3"),
            "learned_only": (f"{_LEARNED}=1", f"{_FREQUENCY}=0"),
            "frequency_only": (f"{_LEARNED}=0", f"{_FREQUENCY}=1"),
            "none": NO_IMPORTANCE,
        },
    ),
    (
        ("model.importance_hidden_dim", "importance_estimator.hidden_dim"),
        "masking.importance.width",
    ),
    (
        ("model.importance_num_layers", "importance_estimator.num_layers"),
        "masking.importance.blocks",
    ),
    (
        ("model.importance_num_heads", "importance_estimator.num_heads"),
        "masking.importance.heads",
    ),
    (("importance_estimator.time_conditioning",), _only("true")),
    (
        ("training.importance_loss_weight", "importance_loss_weight"),
        "masking.importance.loss_weight",
    ),
    # ---- masking
    (
        ("use_adaptive_masking", "model.use_adaptive_masking"),
        _switch("masking.strategy=time_only"),
    ),
    (
        ("model.masking_strategy", "adaptive_masking.masking_strategy"),
        {
            "importance": ("masking.strategy=proportional",),
            "uniform": ("masking.strategy=time_only",),
            **{
                name: (f"masking.strategy={name}",)
                for name in ("proportional", "inverse", "balanced", "time_only")
            },
        },
    ),
    (
        ("model.masking_temperature", "adaptive_masking.temperature"),
        "masking.temperature",
    ),
    (
        ("model.position_bias", "adaptive_masking.position_bias"),
        {
            "false": ("masking.position_bias=0",),
            "true": ("masking.position_bias=0.1",),  # chances times 0.9 to 1.1
            "*": ("masking.position_bias={}",),
        },
    ),
    # ---- curriculum
    (
        ("use_curriculum", "model.use_curriculum"),
        _switch("masking.curriculum.preset=none"),
    ),
    (("curriculum.warmup_steps",), "masking.curriculum.warmup"),
    (("curriculum.dynamic_adjustment",), "masking.curriculum.dynamic"),
    (("curriculum.curriculum_type",), _only("linear")),
    (("curriculum.num_stages",), _only("3")),
    (
        ("curriculum_schedule.type", "training.curriculum_schedule.type"),
        {
            "no_curriculum": ("masking.curriculum.preset=none",),
            **{
                name: (f"masking.curriculum.preset={name}",)
                for name in ("default", "early", "late", "none")
            },
        },
    ),
    # ---- training
    (("trainer.max_steps", "training.max_steps", "max_steps"), "train.steps"),
    (
        ("loader.global_batch_size", "batch_size", "training.batch_size"),
        "train.batch_size",
    ),
    (("loader.batch_size",), "train.micro_batch"),
    (("optim.lr", "learning_rate", "training.learning_rate"), "train.lr"),
    (("optim.beta1",), "train.beta1"),
    (("optim.beta2",), "train.beta2"),
    (("optim.eps",), "train.adam_eps"),
    (("optim.weight_decay",), "train.weight_decay"),
    (("trainer.gradient_clip_val",), "train.clip"),
    (("trainer.accumulate_grad_batches",), _only("1")),
    (
        ("trainer.precision",),
        {
            "bf16": ("train.precision=bf16",),
            "bf16-mixed": ("train.precision=bf16",),
            "16-mixed": ("train.precision=fp16",),
            "32": ("train.precision=fp32",),
            "32-true": ("train.precision=fp32",),
        },
    ),
    (("trainer.val_check_interval",), "train.eval_every"),
    (("trainer.log_every_n_steps",), "train.log_every"),
    (
        ("lr_scheduler",),
        {
            "constant_warmup": ("train.lr_schedule=constant",),
            "cosine_decay_warmup": ("train.lr_schedule=cosine",),
        },
    ),
    (("training.ema",), "train.ema"),
    # ---- diffusion
    (
        ("training.antithetic_sampling",),
        {
            "true": ("task.t_sampling=stratified",),
            "false": ("task.t_sampling=uniform",),
        },
    ),
    (
        ("training.importance_sampling",),
        {"true": ("task.t_sampling=importance",), "false": ()},
    ),
    (("training.sampling_eps",), "task.t_min"),
    (("training.change_of_variables",), _only("false")),
    (
        ("noise", "noise.type"),
        {
            "loglinear": ("schedule.name=loglinear",),
            "cosine": ("schedule.name=cosine",),
            "cosinesqr": ("schedule.name=cosine-squared",),
            "linear": ("schedule.name=linear-sigma",),
            "geometric": ("schedule.name=geometric",),
        },
    ),
    (("mode",), _only("train")),
    (("diffusion",), _only("absorbing_state")),
    (("parameterization",), _only("subs")),
    (("subs_masking",), _only("false")),
    (("T",), _only("0")),
    # ---- data and sampling
    (("data.tokenizer_name_or_path",), "data.tokenizer"),
    (("data.wrap",), _only("true")),
    (
        ("sampling.predictor",),
        {
            "ddpm": ("sampler.name=ddpm",),
            "ddpm_cache": ("sampler.name=ddpm-cache",),
            "analytic": ("sampler.name=analytic",),
        },
    ),
    (("sampling.steps", "uncertainty_sampling.max_steps"), "sampler.steps"),
    (("sampling.num_sample_log",), "task.sample_count"),
    (
        ("uncertainty_sampling.uncertainty_metric",),
        {
            name: ("sampler.name=uncertainty", f"sampler.score={name}")
            for name in ("entropy", "confidence")
        },
    ),
    (("uncertainty_sampling.temperature",), "sampler.temperature"),
    (("seed",), "seed"),
)

KEYS: dict[str, str | Values] = {name: rule for names, rule in _ROWS for name in names}
"""Original setting -> what it becomes."""

DECLINED: dict[str, str] = {
    "adaptive_masking.sharpness": "nothing read it; set masking_temperature",
    "curriculum.medium_fraction": "it is what the other two leave",
    "curriculum.importance_quantile_easy": "quantiles run with the importance; set "
    "masking.curriculum.focus",
    "curriculum.importance_quantile_hard": "quantiles run with the importance; set "
    "masking.curriculum.focus",
    "importance_estimator.dropout": "the estimator has none",
    "model.scale_by_sigma": "the loss of a hidden token has one scale only",
    "data.train": "the phase names the data; mdlm atat datasets ls lists them",
    "data.valid": "the phase names the data; mdlm atat datasets ls lists them",
    "data.cache_dir": "set the environment variable MDLM_CACHE",
    "loader.": "data are read in the order of the seed, without workers",
    "trainer.": "processes and devices are the launcher's: accelerate launch -m "
    "mdlm_core train ..., CUDA_VISIBLE_DEVICES=0,1",
    "strategy": "it is the launcher's: accelerate launch -m mdlm_core train ...",
    "callbacks.": "see train.save_every, train.keep_last and train.keep_best",
    "checkpointing.": "give --out RUN, and --resume to go on",
    "hydra.": "give --out RUN",
    "wandb.": "set train.report_to=[wandb]",
    "eval.": "measure a run with mdlm atat evaluate RUN",
    "evaluation.": "measure a run with mdlm atat evaluate RUN",
    "sampling.": "sample a run with mdlm sample RUN",
    "uncertainty_sampling.": "set sampler.name=uncertainty, and sampler.entropy_bound "
    "for a free number of steps",
}
"""Original setting, or how it begins -> why it is not taken, and what to do."""

BOUNDARIES = {
    (0.3, 0.3): "default",
    (0.2, 0.4): "early",
    (0.35, 0.2): "late",
}
"""Easy and hard fraction of the original -> the curriculum with these stages."""

NEEDS = {
    "use_importance": "importance",
    "use_adaptive_masking": "adaptive masking",
    "use_curriculum": "curriculum",
}
"""Switch -> the part of the method that a variant must have if it is on."""
