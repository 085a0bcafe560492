"""Core's own components, declared through the same hooks that plugins use."""

from __future__ import annotations

from collections.abc import Iterable

from .hooks import hookimpl
from .refs import Ref
from .specs import (
    BackboneSpec,
    DatasetSpec,
    MaskingPolicySpec,
    PresetSpec,
    SamplerSpec,
    ScheduleSpec,
    TaskSpec,
)

_CONFIG = "mdlm_core.config.components"
_TINY_DIT = {"blocks": 2, "width": 64, "heads": 2, "cond_width": 32, "conv_kernel": 7}
_TINY_DATA = {"length": 64}


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="dit",
        summary="Diffusion transformer with adaptive layer norm and rotary positions.",
        factory=Ref("mdlm_core.nn.dit:build"),
        config=Ref(f"{_CONFIG}:DiTConfig"),
        tiny=_TINY_DIT,
    )


@hookimpl
def mdlm_schedules() -> Iterable[ScheduleSpec]:
    for name, factory, config, summary in (
        ("loglinear", "loglinear", "EpsConfig", "Mask rate (1 - eps) t: the default."),
        ("cosine", "cosine", "EpsConfig", "alpha falls as cos(pi t / 2)."),
        ("cosine-squared", "cosine_squared", "EpsConfig", "alpha as cos^2(pi t / 2)."),
        ("linear-sigma", "linear_sigma", "SigmaConfig", "-log alpha grows linearly."),
        ("geometric", "geometric", "SigmaConfig", "-log alpha grows geometrically."),
    ):
        yield ScheduleSpec(
            name=name,
            summary=summary,
            factory=Ref(f"mdlm_core.diffusion.schedule:{factory}"),
            config=Ref(f"{_CONFIG}:{config}"),
        )


@hookimpl
def mdlm_masking_policies() -> Iterable[MaskingPolicySpec]:
    yield MaskingPolicySpec(
        name="uniform",
        summary="Hide every free token with the schedule's mask rate.",
        factory=Ref("mdlm_core.masking:build_uniform"),
        config=Ref(f"{_CONFIG}:UniformMaskingConfig"),
    )


@hookimpl
def mdlm_samplers() -> Iterable[SamplerSpec]:
    for name, module, config, summary in (
        (
            "ancestral",
            "ancestral",
            "SamplerConfig",
            "The exact reverse process on T steps.",
        ),
        ("ddpm", "ancestral", "SamplerConfig", "The same as ancestral."),
        ("ddpm-cache", "ancestral", "SamplerConfig", "The same as ancestral."),
        (
            "first-hitting",
            "first_hitting",
            "SamplerConfig",
            "One token at a time, exact.",
        ),
        ("confidence", "confidence", "ConfidenceConfig", "Surest positions first."),
        ("analytic", "analytic", "SamplerConfig", "Tweedie steps from the score."),
        (
            "semi-ar",
            "semi_autoregressive",
            "SemiAutoregressiveConfig",
            "Block after block, left to right.",
        ),
    ):
        yield SamplerSpec(
            name=name,
            summary=summary,
            factory=Ref(f"mdlm_core.samplers.{module}:build"),
            config=Ref(f"{_CONFIG}:{config}"),
            tiny={"steps": 8},
        )


@hookimpl
def mdlm_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        name="python-docs",
        summary="The Python reference and the standard library's docstrings.",
        factory=Ref("mdlm_core.data.python_docs:build"),
        config=Ref(f"{_CONFIG}:PythonDocsConfig"),
        tiny={**_TINY_DATA, "max_documents": 200},
    )
    yield DatasetSpec(
        name="text",
        summary="Text files: a file, a folder or a glob; .txt, .gz, .xz.",
        factory=Ref("mdlm_core.data.files:build_text"),
        config=Ref(f"{_CONFIG}:TextFilesConfig"),
        tiny=_TINY_DATA,
        offline=False,
    )
    yield DatasetSpec(
        name="jsonl",
        summary="One JSON object a line, the text under a key.",
        factory=Ref("mdlm_core.data.files:build_jsonl"),
        config=Ref(f"{_CONFIG}:JsonlConfig"),
        tiny=_TINY_DATA,
        offline=False,
    )
    yield DatasetSpec(
        name="hf",
        summary="A Hugging Face data set, or a local arrow or parquet folder.",
        factory=Ref("mdlm_core.data.hugging_face:build"),
        config=Ref(f"{_CONFIG}:HuggingFaceConfig"),
        tiny=_TINY_DATA,
        requires=("datasets",),
        extra="mdlm-core[hf]",
        offline=False,
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="pretrain",
        summary="Learn to restore masked tokens; measured by a bound on log p.",
        factory=Ref("mdlm_core.tasks.pretrain:build"),
        config=Ref(f"{_CONFIG}:PretrainConfig"),
        tiny={"eval_rows": 16, "eval_draws": 2, "sample_count": 1},
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    yield PresetSpec(
        name="default",
        summary="The quick start: a small model of the Python documentation.",
        path="mdlm_core:presets/default.yaml",
    )
    for size in ("tiny", "small", "medium"):
        yield PresetSpec(
            name=f"dit-{size}",
            summary=f"The reference's {size} DiT and training settings.",
            path=f"mdlm_core:presets/dit-{size}.yaml",
        )
