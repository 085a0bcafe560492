"""What mdlm-llada adds. Imported whenever `mdlm` starts, so it stays light."""

from __future__ import annotations

from collections.abc import Iterable

from mdlm_core import (
    BackboneSpec,
    CommandSpec,
    DatasetSpec,
    PresetSpec,
    Ref,
    SamplerSpec,
    TaskSpec,
    hookimpl,
)

_CONFIG = "mdlm_llada.config"
_TINY_MODEL = {"blocks": 2, "width": 32, "heads": 2, "mlp_width": 64}
_TINY_ROWS = {"rows": 64, "held_out": 16, "max_length": 64}


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="llada",
        summary="LLaDA, Dream, LLaDA-MoE or LLaDA 2: a checkpoint, or a new model.",
        factory=Ref("mdlm_llada.backbone:build"),
        config=Ref(f"{_CONFIG}:LLaDAConfig"),
        tiny=_TINY_MODEL,
    )
    yield BackboneSpec(
        name="hugging-face",
        summary="Any masked or causal language model of transformers.",
        factory=Ref("mdlm_llada.hugging_face:build"),
        config=Ref(f"{_CONFIG}:HuggingFaceModelConfig"),
        tiny={"random": True},
        pretrained=True,
        requires=("transformers",),
        extra="mdlm-core[hf]",
    )


@hookimpl
def mdlm_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        name="llada",
        summary="Block by block, the surest tokens first; caches, guidance.",
        factory=Ref("mdlm_llada.decode:build"),
        config=Ref(f"{_CONFIG}:DecodeConfig"),
        tiny={"steps": 8, "block": 8},
    )


@hookimpl
def mdlm_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        name="llada-task",
        summary="Prompts and answers of a task: addition, gsm8k, sudoku4, ...",
        factory=Ref("mdlm_llada.data.sources:build_task_rows"),
        config=Ref(f"{_CONFIG}:TaskRowsConfig"),
        tiny=_TINY_ROWS,
    )
    yield DatasetSpec(
        name="llada-processed",
        summary="JSON lines of token ids, from 'mdlm llada preprocess'.",
        factory=Ref("mdlm_llada.data.sources:build_processed"),
        config=Ref(f"{_CONFIG}:ProcessedConfig"),
        offline=False,
    )
    yield DatasetSpec(
        name="llada-preferences",
        summary="JSON lines of a prompt, a chosen and a rejected answer.",
        factory=Ref("mdlm_llada.data.preferences:build"),
        config=Ref(f"{_CONFIG}:PreferencesConfig"),
        modality="preferences",
        tiny={"rows": 64, "max_length": 64},
    )
    yield DatasetSpec(
        name="llada-prompts",
        summary="The prompts of a task alone, for learning from rewards.",
        factory=Ref("mdlm_llada.data.prompts:build"),
        config=Ref(f"{_CONFIG}:PromptsConfig"),
        modality="prompts",
        tiny=_TINY_ROWS,
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="llada-sft",
        summary="Fine-tuning on prompts and answers: MIRROR, P-POTS, StraTS.",
        factory=Ref("mdlm_llada.sft.task:build"),
        config=Ref(f"{_CONFIG}:SFTConfig"),
        tiny={"eval_rows": 8, "eval_draws": 2, "sample_count": 1},
    )
    yield TaskSpec(
        name="llada-vrpo",
        summary="Preference optimisation with bounds under shared noise.",
        factory=Ref("mdlm_llada.preference.vrpo:build"),
        config=Ref(f"{_CONFIG}:VRPOConfig"),
        tiny={"eval_rows": 8, "draws": 2},
        modality=("preferences",),
    )
    yield TaskSpec(
        name="llada-grpo",
        summary="Learning from rewards: diffu-GRPO and its coupled variant.",
        factory=Ref("mdlm_llada.preference.grpo:build"),
        config=Ref(f"{_CONFIG}:GRPOConfig"),
        tiny={
            "group": 4,
            "answer_length": 16,
            "block": 16,
            "steps": 4,
            "partial": 0.5,  # a model that knows nothing is never right
            "eval_rows": 4,
        },
        modality=("prompts",),
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    for name, summary in (
        ("default", "A tiny model that learns 4 x 4 Sudoku, in minutes."),
        ("addition", "A tiny model that learns three-digit addition, step by step."),
        ("vrpo", "Preference optimisation on sums, tiny: shows how it is set up."),
        ("sft", "A tiny model on rows of 'mdlm llada preprocess': shows the way."),
        ("grpo", "Learning addition from rewards, tiny: shows how it is set up."),
        ("8b-sft", "Fine-tuning LLaDA-8B-Instruct on GSM8K, as published."),
        ("8b-lora", "The same with low-rank adapters, for one GPU."),
    ):
        yield PresetSpec(
            name=f"llada/{name}",
            summary=summary,
            path=f"mdlm_llada:presets/{name}.yaml",
        )


@hookimpl
def mdlm_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="llada",
        summary="Preprocess, generate, infer, score, evaluate, convert.",
        app=Ref("mdlm_llada.cli:app"),
    )
