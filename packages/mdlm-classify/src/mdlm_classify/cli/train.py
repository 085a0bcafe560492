"""``mdlm classify train``: learn classes from texts; the result is a run folder."""

from __future__ import annotations

from typing import Annotated

import typer

from mdlm_core.cli.options import (
    Configs,
    Device,
    DryRun,
    DumpConfig,
    Imports,
    Out,
    Preset,
    Resume,
    Seed,
    Sets,
    Tiny,
)
from mdlm_core.config import to_yaml
from mdlm_core.errors import UsageError

from .options import Data, LabelColumn
from .train_runs import (
    Plan,
    describe_run,
    finish,
    read_test,
    train_background,
    train_run,
)
from .training import (
    BACKGROUND,
    MIXED,
    PRESETS,
    Model,
    background_of,
    check_unlabelled,
    given,
    quoted,
    settings_of_data,
    settings_of_model,
)


def train(
    data: Data = None,
    out: Out = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="F", help="Texts to measure the result on."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            "--text-column",
            metavar="COL",
            help="The column of texts; + joins several, such as title+text.",
        ),
    ] = None,
    label: LabelColumn = None,
    validation: Annotated[
        str | None,
        typer.Option(metavar="F", help="Held-out texts; default: a tenth of --data."),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar="F", help="Texts without labels, to learn from first."),
    ] = None,
    background_epochs: Annotated[
        float | None,
        typer.Option(metavar="N", help="Passes over the texts without labels."),
    ] = None,
    model: Annotated[Model, typer.Option(help="What learns.")] = "mdlm",
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Weights and tokenizer of transformers to begin with."
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="A model of its own for each class.")
    ] = False,
    epochs: Annotated[
        float | None, typer.Option(metavar="N", help="Passes over the texts.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(metavar="L", help="Tokens in a window; a long text has several."),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Use only N texts, the same share of a class."),
    ] = None,
    preset: Preset = None,
    configs: Configs = None,
    sets: Sets = None,
    imports: Imports = None,
    tiny: Tiny = False,
    seed: Seed = None,
    resume: Resume = False,
    device: Device = None,
    dry_run: DryRun = False,
    dump_config: DumpConfig = False,
) -> None:
    """Learn log p(text | class) from texts with labels, and calibrate it.

    Without --data: docstrings of the standard library by topic. The settings are those
    of 'mdlm train --plugin classify', and --set wins over the other options. With
    --unlabelled a run on all texts without their labels comes first, in the folder
    RUN-background. The same command with --resume goes on where it stopped.
    """
    if resume and out is None:
        raise UsageError("--resume needs the run folder: add --out RUN")
    own = list(sets or ())
    chosen = [
        *settings_of_model(model, pretrained=pretrained, per_class=per_class),
        *settings_of_data(
            data=data,
            text=text,
            label=label,
            validation=validation,
            unlabelled=unlabelled,
            length=length,
            rows=rows,
            epochs=epochs,
        ),
    ]
    first = None
    if unlabelled is not None:
        check_unlabelled(model, per_class)
        if out is None:
            raise UsageError("--unlabelled makes two runs; say where: add --out RUN")
        first = background_of(out)
        if not given(own, "task.warm_start"):
            chosen.append(quoted("task.warm_start", str(first)))
        if not given(own, "data.unlabelled_share"):
            chosen.append(MIXED)
    elif background_epochs is not None:
        raise UsageError("--background-epochs is for --unlabelled; give both")
    plan = Plan(
        preset or PRESETS[model],
        [*chosen, *own],
        configs or (),
        imports or (),
        tiny,
        seed,
    )
    catalog, config = plan.resolve(out if resume else None)
    there = out is not None and (out / "config.yaml").is_file()
    begun = there or (first is not None and (first / "config.yaml").is_file())
    if resume and not begun:
        raise UsageError(
            f"there is no run in '{out}' to go on with; leave out --resume to start "
            f"one there"
        )
    if dump_config:
        print(to_yaml(config), end="")
        return
    going_on = resume and there
    if not going_on:
        config = plan.repeatable(config, device)
    if dry_run:
        describe_run(config, catalog)
        return
    tested = None if test is None else read_test(test, config)
    if first is not None and not going_on:
        more: tuple[str, ...] = BACKGROUND
        if background_epochs is not None:
            more = (*more, f"train.epochs={background_epochs}")
        train_background(plan, first, more, resume=resume, device=device, test=tested)
    outcome, source = train_run(config, catalog, out, going_on, device, tested)
    finish(outcome, source, catalog, test=test, device=device, imports=imports or ())
