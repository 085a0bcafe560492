"""Read traits from a text with the model that writes it, by Bayes.

The model gives p(text | trait); over a grid of values v of one trait, the other traits
unknown, which dropout of single traits has taught it,

    p(v | text) = p(v) p(text | v)^(1/T) / sum over v' of p(v') p(text | v')^(1/T).

log p(text | v) is replaced by the any-order bound (`mdlm_core.diffusion.likelihood`),
estimated with the same masks for all values, so that their noise largely goes away in
the differences. The bound's slack may differ between values,
and a temperature T above 1 makes answers less sure; 1 takes the model at its word.

It is the posterior of a fitted model about the words of a text under its training data,
and no assessment of a person.

Letters: N texts, R rows (windows of L tokens), G values of the grid, S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.likelihood import any_order_chain, exact_counts
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule, Tokenizer

from .conditions import KNOWN, VALUES
from .posteriors import Posteriors, cells_of, fit_temperature, training_prior
from .traits import TRAITS

if TYPE_CHECKING:
    from .saved import Trained

STATEMENT = (
    "what the fitted model makes of these words, given its training data; "
    "no assessment of a person"
)
"""Said with every answer."""
ESTIMATORS = {"exact-counts": exact_counts, "any-order": any_order_chain}
"""How the bound is estimated."""
_TOKENS = 16_384


def infer_traits(
    trained: Trained,
    texts: Sequence[str],
    *,
    grid: int = 11,
    draws: int = 32,
    noise: Noise | None = None,
    estimator: str = "exact-counts",
    prior: str = "uniform",
    temperature: float = 1.0,
    together: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Posteriors:
    """Return the posterior of each trait for each text.

    Args:
        trained: the model.
        texts: N texts; one longer than the model's rows is cut into several, whose
            evidence adds up.
        grid: G, values from 0 to 1.
        draws: S, masks of each row; all values share them.
        noise: decides the masks.
        estimator: "exact-counts"; or "any-order", of which a draw is a whole order of
            the tokens and costs as many evaluations as a row has tokens, for a much
            smaller error.
        prior: "uniform" on [0, 1], or "training", the law of each trait over the
            training authors.
        temperature: T.
        together: whether the texts are of one author, one after the other, with one
            answer.
        progress: told how many rows are done, and of how many.

    Raises:
        UsageError: if there is no text, one is empty, or a number is out of range.
    """
    _check(grid, draws, temperature)
    values = torch.linspace(0, 1, grid, dtype=torch.float64)
    log_prior = prior_of(prior, values, trained)
    documents = encode(trained.tokenizer, texts, together=together)
    rows, owner = windows(documents, trained.length, trained.tokenizer)
    found = log_likelihoods(
        trained.backbone,
        rows,
        grid=values,
        columns=len(trained.persona.columns),
        draws=draws,
        estimator=estimator,
        noise=noise or Noise(0).child("infer"),
        schedule=trained.schedule,
        device=trained.device,
        progress=progress,
    )
    shape = (len(documents), *found.shape[1:])
    return Posteriors(
        grid=values,
        log_prior=log_prior,
        draws=torch.zeros(shape, dtype=torch.float64).index_add(0, owner, found),
        tokens=torch.tensor([len(document) for document in documents]),
        temperature=temperature,
    )


def log_likelihoods(
    backbone: Backbone,
    rows: Batch,
    *,
    grid: Tensor,
    columns: int,
    draws: int,
    noise: Noise,
    estimator: str = "exact-counts",
    schedule: Schedule | None = None,
    device: str = "cpu",
    tokens_at_once: int = _TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return minus the bound on -log p(row | trait = value), each draw of it.

    Args:
        backbone: the denoiser.
        rows: R clean rows; a row's `sample_id` decides its masks.
        grid: ``(G,)``.
        columns: K, what the model is told: the traits first.
        draws: S.
        noise: decides the masks.
        estimator: see `infer_traits`.
        schedule: the one of training, for a model that sees the time.
        device: where the model is.
        tokens_at_once: tokens that go through the model together, more or less.
        progress: told how many rows are done, and of how many.

    Returns:
        ``(R, 5, G, S)`` float64, in nats, on the CPU.

    Raises:
        UsageError: if the estimator is unknown.
    """
    if estimator not in ESTIMATORS:
        raise UsageError(
            f"the estimator is '{estimator}'; it must be {' or '.join(ESTIMATORS)}"
        )
    count = len(TRAITS) * len(grid)
    value = torch.zeros(count, columns)
    known = torch.zeros(count, columns, dtype=torch.bool)
    for trait in range(len(TRAITS)):
        here = slice(trait * len(grid), (trait + 1) * len(grid))
        value[here, trait], known[here, trait] = grid.float(), True
    at_once = max(1, tokens_at_once // (count * rows.length))
    found = []
    for start in range(0, len(rows), at_once):
        part = rows.select(slice(start, start + at_once))
        some = len(part)
        asked = part.select(torch.arange(some).repeat_interleave(count))
        told = Batch.of(
            asked.tokens,
            frozen=asked.frozen,
            pad=asked.pad,
            sample_id=asked.sample_id,
            condition={VALUES: value.repeat(some, 1), KNOWN: known.repeat(some, 1)},
        )
        estimate = ESTIMATORS[estimator](
            backbone, told.to(device), draws=draws, noise=noise, schedule=schedule
        )
        found.append(-estimate.values.cpu().view(some, len(TRAITS), len(grid), draws))
        if progress is not None:
            progress(min(start + at_once, len(rows)), len(rows))
    return torch.cat(found)


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], *, together: bool = False
) -> list[list[int]]:
    """Return the ids of each text with the end of document after it, as in training.

    Raises:
        UsageError: if there is no text, or one is empty.
    """
    if not texts:
        raise UsageError("there is no text; give at least one")
    documents = []
    for number, text in enumerate(texts, 1):
        ids = tokenizer.encode(text) if text.strip() else []
        if not ids:
            raise UsageError(f"text {number} of {len(texts)} is empty; leave it out")
        documents.append([*ids, tokenizer.eod_id])
    return [list(chain(*documents))] if together else documents


def windows(
    documents: Sequence[Sequence[int]], length: int, tokenizer: Tokenizer
) -> tuple[Batch, Tensor]:
    """Return consecutive windows of each document, padded, and whose they are.

    Returns:
        R rows of at most `length` tokens, numbered from 0; their documents ``(R,)``.
    """
    pieces = [
        (owner, list(ids[start : start + length]))
        for owner, ids in enumerate(documents)
        for start in range(0, len(ids), length)
    ]
    longest = max(len(ids) for _, ids in pieces)
    tokens = torch.full((len(pieces), longest), tokenizer.pad_id, dtype=torch.int64)
    pad = torch.ones_like(tokens, dtype=torch.bool)
    for row, (_, ids) in enumerate(pieces):
        tokens[row, : len(ids)] = torch.tensor(ids)
        pad[row, : len(ids)] = False
    return Batch.of(tokens, pad=pad), torch.tensor([owner for owner, _ in pieces])


def prior_of(name: str, grid: Tensor, trained: Trained) -> Tensor:
    """Return the log mass ``(5, G)`` of the values of each trait.

    Raises:
        UsageError: if it is neither "uniform" nor "training".
    """
    cells = cells_of(grid)
    if name == "uniform":
        return cells.log().expand(len(TRAITS), -1)
    if name != "training":
        raise UsageError(f"the prior is '{name}'; it must be uniform or training")
    source: Any = trained.run.source
    return training_prior(source.table("train")[:, : len(TRAITS)], grid)


def calibrate(
    trained: Trained,
    *,
    rows: int = 64,
    grid: int = 11,
    draws: int = 32,
    noise: Noise | None = None,
    prior: str = "uniform",
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Return the T fitted on held-out rows of the model's own data.

    It is that of texts as long as those rows. The arguments are those of
    `infer_traits`; `rows` are taken evenly spread.
    """
    from mdlm_core.tasks.held_out import held_out

    _check(grid, draws, 1.0)
    if rows < 1:
        raise UsageError(f"{rows} rows were asked for; ask for at least 1")
    values = torch.linspace(0, 1, grid, dtype=torch.float64)
    parts = list(held_out(trained.run.source, rows, at_once=rows))
    if not parts:
        raise DataError("no row is held out; raise data.holdout")
    held = Batch.cat(parts).select(slice(0, rows))
    found = log_likelihoods(
        trained.backbone,
        held,
        grid=values,
        columns=len(trained.persona.columns),
        draws=draws,
        noise=noise or Noise(0).child("calibrate"),
        schedule=trained.schedule,
        device=trained.device,
        progress=progress,
    )
    count = len(TRAITS)
    return fit_temperature(
        found,
        held.condition[VALUES][:, :count],
        held.condition[KNOWN][:, :count],
        values,
        prior_of(prior, values, trained),
    )


def _check(grid: int, draws: int, temperature: float) -> None:
    if grid < 2:
        raise UsageError(f"the grid has {grid} values; it needs at least 2, 0 and 1")
    if draws < 1:
        raise UsageError(f"draws is {draws}; it must be at least 1")
    if not temperature > 0:
        raise UsageError(f"the temperature is {temperature:g}; it must be positive")
