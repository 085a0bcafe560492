"""What mdlm-classify adds. Imported whenever `mdlm` starts, so it stays light."""

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

_CONFIG = "mdlm_classify.config"


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="class-dit",
        summary="A diffusion transformer that is told the class, or none.",
        factory=Ref("mdlm_classify.nn.class_dit:build"),
        config=Ref(f"{_CONFIG}:ClassDiTConfig"),
        tiny={"blocks": 1, "width": 32, "heads": 2, "cond_width": 16},
    )
    yield BackboneSpec(
        name="class-hugging-face",
        summary="A masked language model of transformers, told the class, or none.",
        factory=Ref("mdlm_classify.nn.hugging_face:build"),
        config=Ref(f"{_CONFIG}:ClassHuggingFaceConfig"),
        tiny={"random": True, "blocks": 1, "width": 32, "heads": 2},
        pretrained=True,
        requires=("transformers",),
        extra="mdlm-core[hf]",
    )


@hookimpl
def mdlm_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        name="labelled-text",
        summary="Texts with labels: csv, tsv, jsonl, folders, the hub, docstrings.",
        factory=Ref("mdlm_classify.data.source:build"),
        config=Ref(f"{_CONFIG}:LabelledTextConfig"),
        tiny={"rows": 200, "length": 32, "tokenizer": "words:1000"},
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="classify",
        summary="Learn log p(text | class), and which class is the most probable.",
        factory=Ref("mdlm_classify.task:build"),
        config=Ref(f"{_CONFIG}:ClassifyConfig"),
        tiny={"eval_draws": 2, "eval_rows": 16, "sample_count": 1},
    )
    yield TaskSpec(
        name="classify-causal",
        summary="A causal language model for each class: exact log p(text | class).",
        factory=Ref("mdlm_classify.causal.task:build"),
        config=Ref(f"{_CONFIG}:CausalConfig"),
        tiny={"eval_rows": 16},
    )
    yield TaskSpec(
        name="classify-discriminative",
        summary="An encoder with a head over the classes: the baseline.",
        factory=Ref("mdlm_classify.discriminative.task:build"),
        config=Ref(f"{_CONFIG}:DiscriminativeConfig"),
        tiny={"eval_rows": 16},
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    yield PresetSpec(
        name="classify/default",
        summary="Docstrings by topic, or your own texts; minutes on a CPU.",
        path="mdlm_classify:presets/default.yaml",
    )
    yield PresetSpec(
        name="classify/simple",
        summary="A masked language model of transformers as a text diffusion.",
        path="mdlm_classify:presets/simple.yaml",
    )
    yield PresetSpec(
        name="classify/causal",
        summary="A causal language model of transformers for each class.",
        path="mdlm_classify:presets/causal.yaml",
    )
    yield PresetSpec(
        name="classify/discriminative",
        summary="An encoder of transformers with a head over the classes.",
        path="mdlm_classify:presets/discriminative.yaml",
    )


@hookimpl
def mdlm_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="classify",
        summary="Train, predict, evaluate, compare, explain, calibrate, sample.",
        app=Ref("mdlm_classify.cli:app"),
    )
