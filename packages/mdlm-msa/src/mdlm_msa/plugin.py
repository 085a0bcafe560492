"""What mdlm-msa adds. Imported whenever `mdlm` starts, so it stays light."""

from __future__ import annotations

from collections.abc import Iterable

from mdlm_core import (
    BackboneSpec,
    CommandSpec,
    DatasetSpec,
    PresetSpec,
    Ref,
    SamplerSpec,
    ScheduleSpec,
    TaskSpec,
    hookimpl,
)

_CONFIG = "mdlm_msa.config"
_CORE = "mdlm_core.config.components"


@hookimpl
def mdlm_backbones() -> Iterable[BackboneSpec]:
    yield BackboneSpec(
        name="protein-dit",
        summary="A diffusion transformer over the rows and columns of an alignment.",
        factory=Ref("mdlm_msa.nn.protein_dit:build"),
        config=Ref(f"{_CONFIG}:ProteinDiTConfig"),
        tiny={"blocks": 1, "width": 32, "heads": 2, "cond_width": 16},
        ids=(37, 36),
        axes=2,
    )


@hookimpl
def mdlm_schedules() -> Iterable[ScheduleSpec]:
    yield ScheduleSpec(
        name="loglinear-reversed",
        summary="Reads settings in which t = 1 is clean, and turns them round.",
        factory=Ref("mdlm_msa.reversed_schedule:build"),
        config=Ref(f"{_CONFIG}:ReversedConfig"),
    )


@hookimpl
def mdlm_samplers() -> Iterable[SamplerSpec]:
    yield SamplerSpec(
        name="remask",
        summary="Reverse steps that may hide tokens again and so mend mistakes.",
        factory=Ref("mdlm_msa.samplers.remask:build"),
        config=Ref(f"{_CONFIG}:RemaskConfig"),
        remasks=True,
        tiny={"steps": 8},
    )
    yield SamplerSpec(
        name="one-shot",
        summary="All tokens from one forward pass, each by itself: a baseline.",
        factory=Ref("mdlm_msa.samplers.one_shot:build"),
        config=Ref(f"{_CORE}:SamplerConfig"),
        tiny={"steps": 1},
    )


@hookimpl
def mdlm_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        name="msa",
        summary="Protein alignments: a3m, FASTA, Stockholm, OpenProteinSet folders.",
        factory=Ref("mdlm_msa.data.source:build"),
        config=Ref(f"{_CONFIG}:AlignmentsConfig"),
        tiny={"families": 4, "length": 128, "rows": 6, "epoch": 32},
    )
    yield DatasetSpec(
        name="msa-preferences",
        summary="Pairs of alignments of one query, of which one is preferred.",
        factory=Ref("mdlm_msa.preference.source:build"),
        config=Ref(f"{_CONFIG}:PairsConfig"),
        tiny={"length": 128},
    )


@hookimpl
def mdlm_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        name="msa",
        summary="Learn to restore the rows of alignments, in bits per residue.",
        next_steps=(
            "mdlm msa generate QUERY.fasta --model {run} --rows 32 --out new.a3m",
            "mdlm msa score ROWS.a3m --model {run}",
        ),
        factory=Ref("mdlm_msa.task:build"),
        config=Ref(f"{_CONFIG}:MSAConfig"),
        tiny={"eval_draws": 2, "eval_rows": 4, "sample_count": 1},
    )
    yield TaskSpec(
        name="msa-align",
        summary="Prefer the winners of pairs of alignments (DPO).",
        factory=Ref("mdlm_msa.preference.task:build"),
        config=Ref(f"{_CONFIG}:AlignConfig"),
        tiny={"draws": 2, "eval_draws": 2, "eval_rows": 4},
    )


@hookimpl
def mdlm_presets() -> Iterable[PresetSpec]:
    for name, summary in (
        ("default", "A nano model; synthetic families, or your own; minutes on a CPU."),
        ("nano", "The same as default: 4 x 128 x 4."),
        ("small", "6 blocks, width 256, 8 heads; canvases of 2048 tokens."),
        ("base", "12 blocks, width 512, 8 heads; canvases of 8192 tokens."),
        ("large", "24 blocks, width 1024, 16 heads; canvases of 16384 tokens."),
        ("family", "A model of one family, begun with a model of any."),
        ("align", "Preferences between alignments, begun with a trained model."),
    ):
        yield PresetSpec(
            name=f"msa/{name}",
            summary=summary,
            path=f"mdlm_msa:presets/{'default' if name == 'nano' else name}.yaml",
        )


@hookimpl
def mdlm_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="msa",
        summary="Generate, inpaint, score, train, align and evaluate alignments.",
        app=Ref("mdlm_msa.cli:app"),
    )
