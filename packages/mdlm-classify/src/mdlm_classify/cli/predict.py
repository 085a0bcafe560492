"""``mdlm classify predict``: the class of texts, with how sure the model is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Seed
from mdlm_core.errors import UsageError

from .given import GivenTexts, check_sources, given_texts
from .options import (
    Checkpoint,
    Data,
    Draws,
    Estimator,
    Prior,
    Rule,
    Run,
    Split,
    TextColumn,
    TokensAtOnce,
    Weights,
    check_out,
    open_run,
    say,
)
from .progress import Progress
from .tables import check_suffix, document, lines, write

if TYPE_CHECKING:
    from mdlm_classify.answers import Answers


def predict(
    run: Run,
    data: Data = None,
    text: GivenTexts = None,
    out: Out = None,
    text_column: TextColumn = None,
    split: Split = None,
    gaps: Annotated[
        bool,
        typer.Option("--gaps", help="____ is a missing token, ____{12} are twelve."),
    ] = False,
    abstain: Annotated[
        float | None,
        typer.Option(metavar="P", help="No label for texts with less trust than P."),
    ] = None,
    ood: Annotated[
        bool, typer.Option("--ood", help="Also how unlike the training each text is.")
    ] = False,
    prior: Prior = None,
    prior_correction: Annotated[
        bool,
        typer.Option(
            "--prior-correction", help="Estimate the prior from these texts (EM)."
        ),
    ] = False,
    draws: Draws = None,
    rule: Rule = None,
    estimator: Estimator = None,
    tokens_at_once: TokensAtOnce = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Classify texts: those of --data, each --text, or the lines of standard input.

    The result goes to --out, a .csv, .tsv or .jsonl file with one row for each text,
    or is printed. `trust` is the chance that the label is right: its probability, times
    the chance that more draws would not change it. A text that is empty, or of which
    every token is missing, gets the prior; one of unknown words alone is scored by how
    usual those are, and counted in a note; one longer than the model's windows is
    scored in several.
    """
    check_out(out, data)
    if out is not None:
        check_suffix(out)
    check_sources(text, data)
    if abstain is not None and not 0 <= abstain <= 1:
        raise UsageError(f"--abstain is {abstain:g}; it must be in [0, 1]")
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
        prior=prior,
        draws=draws,
        rule=rule,
        estimator=estimator,
        tokens_at_once=tokens_at_once,
        seed=seed,
    )
    from mdlm_classify.answers import answer, familiar_of, rows

    familiar = familiar_of(opened.classifier, opened.facts, run) if ood else None
    texts = given_texts(text, data, opened.data, column=text_column, split=split)
    with Progress("scoring") as progress:
        answers = answer(
            opened.classifier, texts, gaps=gaps, familiar=familiar, progress=progress
        )
    answers = opened.moved(answers)
    if prior_correction:
        answers = answers.corrected()
        say(f"prior from these texts: {_shares(answers)}")
    strange = unknown_alone(opened.classifier, texts, gaps=gaps)
    _notes(answers, opened.length, strange)
    found = list(rows(answers, abstain=abstain))
    if abstain is not None:
        silent = sum(row["label"] is None for row in found)
        say(
            f"without a label, because their trust is below {abstain:g}: {silent:,} of "
            f"{len(found):,} texts"
        )
    if out is not None:
        write(out, texts, found, origin=data)
        say(f"{out}: {len(found):,} texts")
    elif as_json:
        print(document(run, answers.labels, texts, found))
    else:
        for line in lines(texts, found, whole=not sys.stdout.isatty()):
            print(line)


def _shares(answers: Answers) -> str:
    shares = answers.log_prior.exp().tolist()
    pairs = zip(answers.labels, shares, strict=True)
    return ", ".join(f"{label} {share:.3f}" for label, share in pairs)


def unknown_alone(classifier: Any, texts: Sequence[str], *, gaps: bool) -> int:
    """Return of how many texts every token that is there is the unknown word."""
    model = getattr(classifier, "model_", None)
    tokenizer = getattr(model, "tokenizer", None)
    unknown = getattr(tokenizer, "unknown_id", None)
    if model is None or tokenizer is None or unknown is None:
        return 0
    found = 0
    for read in model.documents(texts, gaps=gaps):
        ids = {token for window in read.windows for token in window}
        found += ids - {tokenizer.mask_id} == {unknown}
    return found


def _notes(answers: Answers, length: int, strange: int) -> None:
    """Say which texts are unlike others in what happened to them.

    Args:
        answers: of N texts.
        length: tokens in a window.
        strange: texts of unknown words alone.
    """
    if answers.scores is None:
        return
    tokens = answers.scores.tokens
    every = f"of {len(tokens):,} texts"
    empty = int((tokens == 0).sum())
    if empty and not strange:
        say(f"note: no known token, so that they get the prior: {empty:,} {every}")
    elif strange:
        prior = f"; {empty:,} without any token get the prior" if empty else ""
        say(
            f"note: no known token: {empty + strange:,} {every} ({strange:,} of "
            f"unknown words alone are scored by how usual those are{prior})"
        )
    if long := int((tokens > length).sum()):
        say(
            f"note: longer than {length} tokens, so that they are scored in "
            f"consecutive windows: {long:,} {every}"
        )
