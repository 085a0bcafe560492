"""``mdlm classify calibrate``: make the probabilities of a trained model honest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mdlm_core.cli.options import Device, Imports, Json, Seed

from .options import (
    Checkpoint,
    Data,
    Draws,
    LabelColumn,
    Prior,
    Run,
    Split,
    TextColumn,
    TokensAtOnce,
    Weights,
    open_run,
    say,
)
from .progress import Progress

if TYPE_CHECKING:
    from mdlm_classify.calibrating import Calibrated
    from mdlm_classify.face import GenerativeClassifier
    from mdlm_classify.training import TrainedByRun


def calibrate(
    run: Run,
    data: Data = None,
    text_column: TextColumn = None,
    label: LabelColumn = None,
    split: Split = None,
    prior: Prior = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is found, and write nothing.")
    ] = False,
    draws: Draws = None,
    tokens_at_once: TokensAtOnce = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Fit the temperature a L^b to labelled texts that were not learned from.

    Without --data: to those that the run held out. It divides the log-probabilities of
    a text of L tokens from then on; also measured is what usual texts look like, for
    'predict --ood'. Both are written to the run's classifier.json, with the prior.
    """
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
        prior=prior,
        calibrates=True,
        draws=draws,
        tokens_at_once=tokens_at_once,
        seed=seed,
    )
    from mdlm_classify.calibrating import calibrate as fit
    from mdlm_classify.calibrating import generative, save
    from mdlm_classify.saved import CARD

    classifier = generative(opened.classifier, run)
    documents, codes = _documents(
        opened.data, classifier, data, text_column, label, split
    )
    with Progress("scoring") as progress:
        found = fit(classifier, documents, codes, progress=progress)
    written = None if dry_run else save(classifier, run, found.familiar)
    print(json.dumps(found.to_dict(), indent=2) if as_json else calibrated_text(found))
    if written is None:
        say(f"--dry-run: {run / CARD} was not written")
    else:
        say(f"{written}: written")


def _documents(
    settings: Any,
    classifier: GenerativeClassifier,
    data: str | None,
    text: str | None,
    label: str | None,
    split: str | None,
) -> tuple[Any, Any]:
    """Return the texts to calibrate on as ids of the model, and their classes."""
    import torch

    from mdlm_classify.data.labels import codes_of
    from mdlm_classify.evaluating import held_out

    from .reading import in_options, read

    if data is None:
        trained = cast("TrainedByRun", classifier).trained_
        found = held_out(settings, trained.data)
    else:
        found = read(data, settings, text=text, label=label, split=split)
    model = classifier.model_
    assert found.labels is not None
    with in_options():
        codes = codes_of(found.labels, model.labels, found.origin)
    return model.documents(found.texts), torch.from_numpy(codes)


def calibrated_text(found: Calibrated) -> str:
    """Say what calibration did."""
    tau = found.temperature
    note = f"\nnote: {found.note}" if found.note else ""
    return (
        f"calibrated on {found.rows:,} texts, {found.accuracy:.1%} right: temperature "
        f"{tau.a:.3g} L^{tau.b:.2f}\n"
        f"{'log-loss':>15}  {found.log_loss_before:.4f} -> {found.log_loss_after:.4f}\n"
        f"{'ECE':>15}  {found.ece_before:.4f} -> {found.ece_after:.4f}{note}"
    )
