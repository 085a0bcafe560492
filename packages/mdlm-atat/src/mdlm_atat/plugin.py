"""What mdlm-atat adds. Imported whenever `mdlm` starts, so it stays light."""

from __future__ import annotations

from collections.abc import Iterable

from mdlm_core import (
    BackboneSpec,
    CommandSpec,
    MaskingPolicySpec,
    PresetSpec,
    Ref,
    SamplerSpec,
    TaskSpec,
    hookimpl,
)

_TINY_DIT = {"blocks": 1, "width": 32, "heads": 2, "cond_width": 16}


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="atat-dit",
        summary="A diffusion transformer, 8 blocks of width 256.",
        factory=Ref("mdlm_atat.atat_dit:build"),
        config=Ref("mdlm_atat.config:ATATDiTConfig"),
        tiny=_TINY_DIT,
    )


@hookimpl
def mdlm_masking_policies() -> Iterable[MaskingPolicySpec]:
    yield MaskingPolicySpec(
        name="atat",
        summary="Hide tokens by a learned importance, at the schedule's mean rate.",
        factory=Ref("mdlm_atat.policy:build"),
        config=Ref("mdlm_atat.config:AtatConfig"),
        tiny={"importance": {"width": 32, "heads": 2, "frequency_tokens": 10_000}},
        learned=True,
    )


@hookimpl
def mdlm_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        name="uncertainty",
        summary="Commit positions by their uncertainty, in a fixed or free number.",
        factory=Ref("mdlm_atat.sampler:build"),
        config=Ref("mdlm_atat.config:UncertaintyConfig"),
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="genmd4",
        summary="Pretraining with a mask schedule learned for each token.",
        factory=Ref("mdlm_atat.genmd4:build"),
        config=Ref("mdlm_atat.config:GenMD4Config"),
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    yield PresetSpec(
        name="atat/default",
        summary="A small model of the Python documentation, in four minutes.",
        path="mdlm_atat:presets/default.yaml",
    )
    yield PresetSpec(
        name="atat/books-cpu",
        summary="The ablation at CPU size: 27 symbols, 64 in a row, 1000 steps.",
        path="mdlm_atat:presets/books-cpu.yaml",
    )
    yield PresetSpec(
        name="atat/books-gpu",
        summary="The ablation at GPU size: bytes, 256 in a row, 25 M parameters.",
        path="mdlm_atat:presets/books-gpu.yaml",
    )
    yield PresetSpec(
        name="atat/small",
        summary="The reference's small model, for a corpus such as OpenWebText.",
        path="mdlm_atat:presets/small.yaml",
    )


@hookimpl
def mdlm_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="atat",
        summary="Adaptive masking: validate, ablate, evaluate, data sets.",
        app=Ref("mdlm_atat.cli:app"),
    )
