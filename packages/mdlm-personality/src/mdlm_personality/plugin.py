"""What mdlm-personality adds. Imported whenever `mdlm` starts, so it stays light."""

from __future__ import annotations

from collections.abc import Iterable

from mdlm_core import (
    BackboneSpec,
    CommandSpec,
    DatasetSpec,
    PresetSpec,
    Ref,
    TaskSpec,
    hookimpl,
)

_CONFIG = "mdlm_personality.config"


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="personality-dit",
        summary="A diffusion transformer that is told a persona, or none.",
        factory=Ref("mdlm_personality.nn.personality_dit:build"),
        config=Ref(f"{_CONFIG}:PersonalityDiTConfig"),
        tiny={"blocks": 1, "width": 32, "heads": 2, "cond_width": 16},
    )


@hookimpl
def mdlm_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        name="persona-corpus",
        summary="Invented persons whose traits decide their words by a known amount.",
        factory=Ref("mdlm_personality.data.source:build_corpus"),
        config=Ref(f"{_CONFIG}:PersonaCorpusConfig"),
        tiny={"authors": 60, "sentences": 8, "length": 32, "tokenizer": "bpe:400"},
    )
    yield DatasetSpec(
        name="persona-text",
        summary="Texts with traits: csv, jsonl, Essays, PANDORA, myPersonality.",
        factory=Ref("mdlm_personality.data.source:build"),
        config=Ref(f"{_CONFIG}:PersonaTextConfig"),
        tiny={"max_rows": 200, "length": 32, "tokenizer": "byte"},
        offline=False,
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="personality",
        summary="Learn text given traits: encoder, causal layer, diffusion.",
        factory=Ref("mdlm_personality.task:build"),
        config=Ref(f"{_CONFIG}:PersonalityConfig"),
        tiny={
            "eval_draws": 2,
            "eval_rows": 8,
            "sample_count": 1,
        },
    )
    yield TaskSpec(
        name="trait-regressor",
        summary="Learn traits from noised text, for guidance by a classifier.",
        factory=Ref("mdlm_personality.regressor.task:build"),
        config=Ref(f"{_CONFIG}:TraitRegressorConfig"),
        tiny={"eval_rows": 8},
        next_steps=("mdlm personality generate RUN --regressor {run}",),
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    yield PresetSpec(
        name="personality/default",
        summary="Invented persons; minutes on a CPU.",
        path="mdlm_personality:presets/default.yaml",
    )
    yield PresetSpec(
        name="personality/small",
        summary="8 blocks, width 512, 512 tokens: your own texts, one GPU.",
        path="mdlm_personality:presets/small.yaml",
    )
    yield PresetSpec(
        name="personality/medium",
        summary="12 blocks, width 768, 1024 tokens.",
        path="mdlm_personality:presets/medium.yaml",
    )
    yield PresetSpec(
        name="personality/large",
        summary="16 blocks, width 1024, 1024 tokens.",
        path="mdlm_personality:presets/large.yaml",
    )
    yield PresetSpec(
        name="personality/regressor",
        summary="Traits from noised text, for guidance by a classifier.",
        path="mdlm_personality:presets/regressor.yaml",
    )


@hookimpl
def mdlm_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="personality",
        summary="Generate, counterfactual, edit, sweep, graph, evaluate, infer.",
        app=Ref("mdlm_personality.cli:app"),
    )
