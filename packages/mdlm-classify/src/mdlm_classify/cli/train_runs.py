"""The runs of ``mdlm classify train``: their settings, training, and what follows.

Light at import; heavy imports stand inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from mdlm_core.catalog import Catalog
from mdlm_core.cli.options import settings
from mdlm_core.config import RunConfig

from .calibrate import calibrated_text
from .evaluate import evaluate
from .progress import Progress
from .training import given

if TYPE_CHECKING:
    from mdlm_classify.data.texts import LabelledTexts
    from mdlm_core.protocols import DataSource
    from mdlm_core.train import Outcome


@dataclass(frozen=True, slots=True)
class Plan:
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

    def repeatable(self, config: RunConfig, device: str | None) -> RunConfig:
        """Return settings that a stopwatch does not decide, unless that is asked."""
        if given(self.sets, "train.precision"):
            return config
        from mdlm_classify.training import repeatable

        return repeatable(config, device)


def describe_run(config: RunConfig, catalog: Catalog) -> None:
    """Build data and model, say what they are, and write nothing."""
    from mdlm_core.train.start import describe

    for line in describe(config, catalog):
        print(line)
    if said := _dropped(catalog.build("dataset", config.data)):
        print(said)


def _dropped(source: DataSource) -> str:
    """Return which texts are not learned from; empty if none, or that is not known."""
    return str(getattr(source, "dropped", ""))


def train_run(
    config: RunConfig,
    catalog: Catalog,
    out: Path | None,
    resume: bool,
    device: str | None,
    test: LabelledTexts | None = None,
) -> tuple[Outcome, DataSource]:
    """Train, and leave if a signal stopped it; return the data as well.

    Args:
        config: the settings.
        catalog: where components come from.
        out: the run folder.
        resume: whether to go on with the run there.
        device: its name; None takes the best.
        test: texts to be measured on later.

    Raises:
        DataError: if a label of `test` is none of the classes; nothing is trained.
    """
    from mdlm_classify.training import fitting
    from mdlm_core.train import train as start
    from mdlm_core.train.engine import start_processes
    from mdlm_core.train.processes import leave

    with start_processes(device).local_main_process_first():  # it fills the caches
        source = catalog.build("dataset", config.data)
    if test is not None:
        from mdlm_classify.data.labels import codes_of

        codes_of(test.labels or (), cast("Any", source).labels, test.origin)
    if said := _dropped(source):
        _print(said)
    settled = fitting(config, source)
    if settled is not config:
        rows = settled.train.batch_size
        _print(f"note: there are {rows} rows to learn from, which make one batch")
    outcome = start(
        settled,
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
    return outcome, source


def train_background(
    plan: Plan,
    folder: Path,
    more: Sequence[str],
    *,
    resume: bool,
    device: str | None,
    test: LabelledTexts | None = None,
) -> None:
    """Learn text of no class, unless that is done; see `train_run`."""
    from mdlm_core.train.engine import start_processes

    start_processes(device)
    _print(f"first all texts without their labels, in {folder}")
    there = (folder / "config.yaml").is_file()
    catalog, config = plan.resolve(folder if resume else None, more)
    going_on = resume and there
    if not going_on:
        config = plan.repeatable(config, device)
    train_run(config, catalog, folder, going_on, device, test)


def _print(text: str) -> None:
    """Print on the main process alone."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(text, flush=True)


def read_test(path: str, config: RunConfig) -> LabelledTexts:
    """Return the texts to be measured on, which are read before hours are spent."""
    from .reading import read

    return read(path, config.data.config)


def finish(
    outcome: Outcome,
    source: DataSource,
    catalog: Catalog,
    *,
    test: str | None,
    device: str | None,
    imports: Sequence[str],
) -> None:
    """Calibrate what was trained, measure it, and say what can be done next."""
    from accelerate import PartialState

    from mdlm_core.train.loop import held_out_text
    from mdlm_core.train.processes import leave

    main = PartialState().is_main_process
    leave()  # none waits for what one alone does
    if not main:
        return
    run = outcome.folder
    for index, text in enumerate(outcome.samples, 1):
        print(f"--- sample {index} ---\n{text}")
    if outcome.held_out:
        print(f"--- after {outcome.step} steps ---")
        print(held_out_text(outcome.held_out))
    diffusion = _calibrate(run, source, catalog, device)
    if test is not None:
        print(f"--- {test} ---", flush=True)
        evaluate(run, data=test, out=run / "test", device=device, imports=[*imports])
    print(
        f"next:\n"
        f"  mdlm classify evaluate {run} --data F\n"
        f"  mdlm classify predict {run} --text 'TEXT'"
    )
    if diffusion:
        print(f"  mdlm classify explain {run} --text 'TEXT'")


def _calibrate(
    run: Path, source: DataSource, catalog: Catalog, device: str | None
) -> bool:
    """Make a classifier of a run, calibrated on the texts held out.

    Returns:
        Whether it is a masked diffusion model.
    """
    from mdlm_classify.calibrating import calibrate, save
    from mdlm_classify.face import GenerativeClassifier
    from mdlm_classify.predictor import Predictor
    from mdlm_classify.saved import load_classifier

    classifier = load_classifier(run, device=device or "auto", catalog=catalog)
    familiar = None
    generative = isinstance(classifier, GenerativeClassifier)
    if generative:
        documents, codes = cast("Any", source).documents("validation")
        if any(document.tokens for document in documents):
            with Progress("calibrating") as progress:
                found = calibrate(classifier, documents, codes, progress=progress)
            print(calibrated_text(found))
            familiar = found.familiar
    save(classifier, run, familiar)
    return generative and isinstance(classifier.model_, Predictor)
