"""The options that several commands have. Light: imports nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdlm_classify.config import ScoringConfig
from mdlm_core.catalog import load_catalog
from mdlm_core.config import RunConfig, read_run
from mdlm_core.errors import UsageError

if TYPE_CHECKING:
    from mdlm_classify.answers import Answers


def run_folder(path: Path) -> Path:
    """Refuse a file where a run folder is needed.

    Raises:
        UsageError: if it is a file.
    """
    if path.is_file():
        raise UsageError(f"'{path}' is a file, not a run folder")
    return path


Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The run folder.", callback=run_folder),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="F",
        help="Texts: csv, tsv or jsonl (.gz too), a folder, a glob, or a name on the "
        "hub.",
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text-column", metavar="COL", help="Its texts; as trained."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label", metavar="COL", help="Its labels; as trained."),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Of a data set of the hub."),
]
Prior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        metavar="P",
        help="empirical, uniform, or weights such as positive=3,negative=1.",
    ),
]
Draws = Annotated[
    int | None,
    typer.Option("--draws", metavar="N", help="Masks of a text, at most."),
]
Rule = Annotated[
    Literal["auto", "fixed", "sequential", "halving"] | None,
    typer.Option("--rule", help="When a text has had enough masks."),
]
Estimator = Annotated[
    Literal["exact-counts", "continuous-time", "sizes", "any-order"] | None,
    typer.Option("--estimator", help="How log p(text | class) is estimated."),
]
TokensAtOnce = Annotated[
    int | None,
    typer.Option(
        "--tokens-at-once", metavar="N", help="Tokens that go through the model."
    ),
]
Checkpoint = Annotated[
    str, typer.Option("--checkpoint", help="best, last, or the number of a step.")
]
Weights = Annotated[str, typer.Option("--weights", help="ema or raw.")]


def scoring_of(
    own: ScoringConfig,
    *,
    draws: int | None = None,
    rule: str | None = None,
    estimator: str | None = None,
    tokens_at_once: int | None = None,
    seed: int | None = None,
) -> ScoringConfig:
    """Return a classifier's `own` way of scoring with what the options say on top.

    Raises:
        UsageError: if there are too few draws.
        ConfigError: if another value breaks a rule.
    """
    given: dict[str, Any] = {
        "rule": rule,
        "estimator": estimator,
        "tokens_at_once": tokens_at_once,
        "seed": seed,
    }
    if draws is not None:
        if draws < 2:
            raise UsageError(
                f"--draws is {draws}; a standard error needs at least 2 masks"
            )
        given["max_draws"] = draws
        given["start_draws"] = min(own.start_draws, draws)
    return replace(own, **{k: v for k, v in given.items() if v is not None})


def prior_of(text: str) -> str | Mapping[object, float]:
    """Return what ``--prior`` says: a name, or a weight for each label.

    Weights are ``label=weight`` with commas between, or a JSON object, which a label
    with a comma needs.

    Raises:
        UsageError: if it is neither, or names a label twice.
    """
    text = text.strip()
    if not text:
        raise UsageError("--prior is empty; give empirical, uniform, or weights")
    if text.startswith("{"):
        return _json_weights(text)
    if "=" not in text:
        return text
    weights: dict[object, float] = {}
    for part in text.split(","):
        label, sign, value = (item.strip() for item in part.rpartition("="))
        if not sign or not label:
            raise UsageError(
                f"--prior has '{part.strip()}', which is not LABEL=WEIGHT; for a label "
                f"with a comma give JSON, as in '{{\"a, b\": 0.2}}'"
            )
        if label in weights:
            raise UsageError(f"--prior names '{label}' twice")
        weights[label] = _weight(label, value)
    return weights


def _weight(label: str, value: object) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"--prior gives '{label}' the weight {value!r}; it must be a number"
        ) from None


def _json_weights(text: str) -> dict[object, float]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise UsageError(f"--prior is no JSON: {error}") from None
    labels = [label for label, _ in pairs]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UsageError(f"--prior names '{twice[0]}' twice")
    return {label: _weight(label, value) for label, value in pairs}


def check_out(out: Path | None, *inputs: str | None, what: str = "--out") -> None:
    """Refuse a file to write whose folder is not there, or that is an input.

    Raises:
        UsageError: which one it is.
    """
    if out is None:
        return
    if not out.parent.is_dir():
        raise UsageError(f"{what} '{out}': there is no folder '{out.parent}'")
    if out.is_dir():
        raise UsageError(f"{what} '{out}' is a folder; name a file")
    for path in inputs:
        if path and Path(path).exists() and out.exists() and out.samefile(path):
            raise UsageError(f"{what} '{out}' is the file that is read; name another")


def say(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Opened:
    """A classifier that was loaded, and what its folder says."""

    classifier: Any
    """A `TextClassifier`."""
    config: RunConfig
    facts: dict[str, Any]
    """What ``classifier.json`` says besides; empty without one."""
    prior: str | Mapping[object, float] | None = None
    """What is still to be done to the posteriors of a model without likelihood."""

    @property
    def data(self) -> Any:
        """The settings of the data it was trained on."""
        return self.config.data.config

    @property
    def length(self) -> int:
        """Tokens in a window."""
        return int(self.classifier.trained_.length)

    def moved(self, answers: Answers) -> Answers:
        """Return answers under the prior that was asked for."""
        if self.prior is None:
            return answers
        import torch

        from mdlm_classify.prior import class_prior

        sizes = torch.from_numpy(self.classifier.class_count_)
        return answers.under(class_prior(self.prior, answers.labels, sizes).log())


def open_run(
    run: Path,
    *,
    checkpoint: str = "best",
    weights: str = "ema",
    device: str | None = None,
    imports: Sequence[str] = (),
    prior: str | None = None,
    calibrates: bool = False,
    **scoring: Any,
) -> Opened:
    """Load a classifier, with the prior and the way of scoring that options say.

    Args:
        run: the folder.
        checkpoint: "best", "last" or the number of a step.
        weights: "ema" or "raw".
        device: its name; None takes the best.
        imports: modules with hooks.
        prior: what ``--prior`` says.
        calibrates: whether the command calibrates, so that no hint to do so is needed.
        scoring: see `scoring_of`.

    Raises:
        UsageError: if the model's likelihood is exact, and draws are asked for.
        ConfigError: if there is no run, or an option breaks a rule.
    """
    catalog = load_catalog(*imports)
    config = read_run(run, catalog)
    wanted = None if prior is None else prior_of(prior)
    scoring_of(ScoringConfig(), **scoring)

    from mdlm_classify.saved import load_classifier, read_card

    card = read_card(run)
    classifier = load_classifier(
        run,
        device=device or "auto",
        checkpoint=checkpoint,
        weights=weights,
        catalog=catalog,
    )
    if text := unfinished(run, config):
        say(f"{run}: {text}")
    model = getattr(classifier, "model_", None)
    if card is None and model is not None and not calibrates:
        say(f"{run}: not calibrated; mdlm classify calibrate {run}")
    own = getattr(model, "scoring", None)
    if model is not None and own is not None:
        model.scoring = scoring_of(own, **scoring)
    elif asked := [
        name for name, value in scoring.items() if value is not None and name != "seed"
    ]:
        raise UsageError(
            f"--{asked[0].replace('_', '-')} is for likelihoods that are estimated; "
            f"this model's are exact, so leave it out"
        )
    if wanted is not None and model is not None:
        classifier.set_prior(wanted)
        wanted = None
    return Opened(classifier, config, {} if card is None else card.facts, wanted)


def unfinished(run: Path, config: RunConfig) -> str:
    """Return how far a run has come that has not come to its end, or an empty string.

    What counts is its last checkpoint. A run that stopped early, because it got no
    better, is at its end; so is a folder that a model in memory was saved to.
    """
    from mdlm_core.train.checkpoint import checkpoints, read_state
    from mdlm_core.train.folder import RunFolder

    found = checkpoints(RunFolder(run).checkpoints)
    state = read_state(found[-1]) if found else {}
    if "progress" not in state:
        return ""
    step, train = int(state["step"]), config.train
    stalled = 0 < train.patience <= int(state["progress"].get("worse", 0))
    return "" if step >= train.steps or stalled else f"step {step} of {train.steps}"
