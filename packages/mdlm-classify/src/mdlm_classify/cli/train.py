"""``mdlm classify train``: learn classes from texts; the result is a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mdlm_core.catalog import Catalog
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
    settings,
)
from mdlm_core.config import RunConfig, to_yaml
from mdlm_core.errors import UsageError

from .calibrate import calibrated_text
from .evaluate import evaluate
from .options import Data, LabelColumn
from .progress import Progress
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

if TYPE_CHECKING:
    from mdlm_core.protocols import DataSource
    from mdlm_core.train import Outcome


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
    plan = _Plan(
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
    if dry_run:
        _describe(config, catalog)
        return
    if test is not None:
        _check_test(test, config)
    if first is not None and not (resume and there):
        more: tuple[str, ...] = BACKGROUND
        if background_epochs is not None:
            more = (*more, f"train.epochs={background_epochs}")
        _background(plan, first, more, resume=resume, device=device)
    outcome = _train(config, catalog, out, resume and there, device)
    _finish(outcome, test=test, device=device, imports=imports or ())


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the options say about settings."""

    preset: str
    sets: Sequence[str]
    configs: Sequence[Path]
    imports: Sequence[str]
    tiny: bool
    seed: int | None

    def resolve(
        self, run: Path | None, more: Sequence[str] = ()
    ) -> tuple[Catalog, RunConfig]:
        """Return the settings; those of a run to go on with are below all others."""
        recorded = None if run is None else run / "config.yaml"
        known = recorded is not None and recorded.is_file()
        catalog, resolved = settings(
            preset=None if known else self.preset,
            configs=[*([recorded] if recorded and known else []), *self.configs],
            sets=[*self.sets, *more],
            imports=self.imports,
            tiny=self.tiny,
            seed=self.seed,
        )
        return catalog, resolved.config


def _describe(config: RunConfig, catalog: Catalog) -> None:
    """Build data and model, say what they are, and write nothing."""
    from mdlm_core.train.start import describe

    for line in describe(config, catalog):
        print(line)


def _train(
    config: RunConfig,
    catalog: Catalog,
    out: Path | None,
    resume: bool,
    device: str | None,
) -> Outcome:
    """Train, and leave if a signal stopped it."""
    from mdlm_core.train import train as start
    from mdlm_core.train.processes import leave

    source = catalog.build("dataset", config.data)
    outcome = start(
        _fitting(config, source),
        out=out,
        resume=resume,
        name="classify",
        device=device,
        catalog=catalog,
        source=source,
        verbose=True,
    )
    if outcome.signal is not None:
        _print(
            f"stopped by {outcome.signal.name} and saved after step {outcome.step} of "
            f"{outcome.steps}; the same command with --out {out or outcome.folder} "
            f"--resume goes on"
        )
        leave()
        raise typer.Exit(128 + outcome.signal)
    return outcome


def _fitting(config: RunConfig, source: DataSource) -> RunConfig:
    """Return the settings with a batch that is no larger than the data."""
    rows = source.size("train")
    if rows is None or rows >= config.train.batch_size:
        return config
    _print(f"note: there are {rows} rows to learn from, which make one batch")
    return replace(config, train=replace(config.train, batch_size=max(1, rows)))


def _background(
    plan: _Plan,
    folder: Path,
    more: Sequence[str],
    *,
    resume: bool,
    device: str | None,
) -> None:
    """Learn text of no class, unless that is done."""
    _print(f"first all texts without their labels, in {folder}")
    there = (folder / "config.yaml").is_file()
    catalog, config = plan.resolve(folder if resume else None, more)
    _train(config, catalog, folder, resume and there, device)


def _print(text: str) -> None:
    """Print on the main process alone."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(text, flush=True)


def _check_test(path: str, config: RunConfig) -> None:
    """Read the texts to be measured on before hours are spent."""
    from .reading import read

    read(path, config.data.config)


def _finish(
    outcome: Outcome, *, test: str | None, device: str | None, imports: Sequence[str]
) -> None:
    """Calibrate what was trained, measure it, and say what can be done next."""
    from accelerate import PartialState

    from mdlm_core.train.loop import held_out_text
    from mdlm_core.train.processes import leave

    if PartialState().is_main_process:
        run = outcome.folder
        for index, text in enumerate(outcome.samples, 1):
            print(f"--- sample {index} ---\n{text}")
        if outcome.held_out:
            print(f"--- after {outcome.step} steps ---")
            print(held_out_text(outcome.held_out))
        _calibrate(run, device)
        if test is not None:
            print(f"--- {test} ---", flush=True)
            evaluate(
                run, data=test, out=run / "test", device=device, imports=[*imports]
            )
        print(
            f"next:\n"
            f"  mdlm classify evaluate {run} --data F\n"
            f"  mdlm classify predict {run} --text 'TEXT'\n"
            f"  mdlm classify explain {run} --text 'TEXT'"
        )
    leave()


def _calibrate(run: Path, device: str | None) -> None:
    """Make a classifier of a run, calibrated on what it held out."""
    from mdlm_classify.calibrating import calibrate, save
    from mdlm_classify.face import GenerativeClassifier
    from mdlm_classify.saved import load_classifier
    from mdlm_core.train import load_run

    classifier = load_classifier(run, device=device or "auto")
    familiar = None
    if isinstance(classifier, GenerativeClassifier):
        loaded = load_run(run)
        documents, codes = cast("Any", loaded.source).documents("validation")
        if any(document.tokens for document in documents):
            with Progress("calibrating") as progress:
                found = calibrate(classifier, documents, codes, progress=progress)
            print(calibrated_text(found))
            familiar = found.familiar
    save(classifier, run, familiar)
