"""What a given text would be if its writer were another.

The text is taken for a draw of the reverse process. Its positions are put in a random
order, and the last ones of it, the share that may change, are revealed anew on two
canvases in lockstep. The factual one shows the true tokens. At each position the Gumbel
numbers are drawn from their law given that the factual persona's law drew the true
token (abduction; Oberst and Sontag, 2019, arXiv 1905.05824), and the counterfactual
canvas draws with the same numbers from the law of the changed persona. With an
unchanged persona the text comes back exactly. It is a counterfactual under the fitted
model, and no statement about a person.

Letters: B rows, L length, N selected positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.gumbel import posterior_gumbel
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers.events import Plan, on_grid
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.saved import Trained

from .changes import Changes, changes
from .counterfactual import Moved, moved
from .personas import Change, Do, Given, Kind, Personas, Values, interventions
from .views import Told, told
from .writing import Manner, denoiser_for, never_written, shown, telling

_PIECE = 2**22
"""Gumbel numbers at once."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A text, and what it would be."""

    before: str
    texts: list[str]
    """One for each draw of the numbers behind the text."""
    changes: tuple[Changes, ...]
    hidden: int
    """Tokens that might change, of all in `tokens`."""
    tokens: int
    nfe: Tensor
    """``(num,)`` forward passes for each text."""
    factual: Personas
    counterfactual: Personas
    """One row each."""

    def moved(self, trained: Trained) -> list[Moved]:
        """Return the nodes that the intervention moved."""
        return moved(trained.persona, self.factual, self.counterfactual)


def edit(
    trained: Trained,
    text: str,
    values: Values,
    do: Do,
    *,
    share: float = 0.5,
    kind: Kind = "counterfactual",
    contrast: float = 0.0,
    num: int = 1,
    seed: int = 0,
    guidance: GuidanceConfig | None = None,
    manner: Manner | None = None,
) -> Edited:
    """Return a text as it would be if nodes of its writer's persona were set.

    A text that is longer than the rows of the training data is cut into such rows. Ends
    of documents and tokens that the model never writes stay as they are. A new line
    stands for the end of a document.

    Args:
        trained: the model.
        text: what was written.
        values: what is known of the writer; see `generate`.
        do: what is set.
        share: how much of the text may change, in [0, 1]; what may change with a share
            may also change with a larger one.
        kind: see `Change`.
        contrast: see `counterfactual_pair`.
        num: texts: draws of the numbers and of the order.
        seed: decides them.
        guidance: of both laws.
        manner: gives steps, temperature and rows at once; the order is always that of
            the reverse process.

    Raises:
        UsageError: if the text is empty, `share` is not in [0, 1], or tokens would be
            made impossible by temperature 0, top-k or top-p.
    """
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise UsageError(f"the share that may change is {share}; it must be in [0, 1]")
    if num < 1:
        raise UsageError(f"{num} texts were asked for; ask for at least 1")
    manner = manner or Manner.of(trained)
    config = manner.config
    if config.temperature == 0 or config.top_k or config.top_p < 1:
        raise UsageError(
            "an edit needs laws under which every token of the text is possible; use a "
            "temperature above 0, top_k 0 and top_p 1"
        )
    given = Given.of(trained.persona, values)
    if len(given) != 1:
        raise UsageError(
            f"a text has one writer, but {len(given)} personas were given; give one"
        )
    change = Change(do=interventions(do), kind=kind, noise=Noise(seed).child("persona"))
    courses = (
        told(trained.persona, given, settings=guidance),
        told(trained.persona, given, change, settings=guidance, contrast=contrast),
    )
    rows = windows(trained, text, num)
    noise = Noise(seed).child("edit")
    level = hidden_levels(trained, rows, share, noise.child("when"))
    found, nfe = _reveal(trained, rows, level, courses, manner, noise)
    ids = _joined(rows, found, num)
    before = shown(trained.tokenizer, _joined(rows, rows.tokens, num)[0])
    texts = [shown(trained.tokenizer, one) for one in ids]
    return Edited(
        before=before,
        texts=texts,
        changes=tuple(changes(before, after) for after in texts),
        hidden=int((level[: len(rows) // num] >= 0).sum()),
        tokens=len(ids[0]),
        nfe=nfe.view(num, -1).sum(1),
        factual=courses[0].personas,
        counterfactual=courses[1].personas,
    )


def windows(trained: Trained, text: str, num: int) -> Batch:
    """Return a text `num` times, cut into rows of L tokens; the last is padded.

    Raises:
        UsageError: if the text is empty.
    """
    tokenizer = trained.tokenizer
    ids: list[int] = []
    for index, line in enumerate(text.strip("\n").split("\n")):
        ids += ([tokenizer.eod_id] if index else []) + tokenizer.encode(line)
    if not ids:
        raise UsageError("the text to edit is empty; give one")
    size = min(trained.length, len(ids))
    count = -(-len(ids) // size)
    row = torch.full((count * size,), tokenizer.pad_id)
    row[: len(ids)] = torch.tensor(ids)
    pad = (torch.arange(count * size) >= len(ids)).view(count, size)
    return Batch.of(row.view(count, size).repeat(num, 1), pad=pad.repeat(num, 1)).to(
        trained.device
    )


def hidden_levels(trained: Trained, rows: Batch, share: float, noise: Noise) -> Tensor:
    """Return ``(B, L)`` float64: the level of each hidden position, -1 for the others.

    Every position has a level, uniform in (0, 1), at which it falls in the reverse
    process; hidden are those with the lowest ones, `share` of the row rounded up.
    """
    kept = [*never_written(trained), trained.tokenizer.eod_id, trained.backbone.mask_id]
    may = rows.free & ~torch.isin(rows.tokens, torch.tensor(kept).to(rows.tokens))
    level = noise.uniform(rows.sample_id, rows.length)
    quota = torch.ceil(may.sum(1) * share - 1e-9)  # a share of 0.1 of 10 is 1
    place = level.where(may, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    return level.where(may & (place < quota.unsqueeze(1)), -1.0)


def _reveal(
    trained: Trained,
    rows: Batch,
    level: Tensor,
    courses: tuple[Told, Told],
    manner: Manner,
    noise: Noise,
) -> tuple[Tensor, Tensor]:
    """Return the counterfactual tokens ``(B, L)``, and the forward passes ``(B,)``."""
    denoisers = [denoiser_for(trained, course, manner) for course in courses]
    sides = [telling(trained, rows, course.repeated(len(rows))) for course in courses]
    steps = manner.config.steps
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=level.device)
    plan = on_grid(level, times, trained.schedule)
    masked = rows.tokens.masked_fill(level >= 0, trained.backbone.mask_id)
    canvases = [masked.clone(), masked]
    numbers = noise.child("what").uniform(rows.sample_id, rows.length)
    with denoisers[0].evaluating():
        for some, where, t in _turns(plan, manner.config.batch_size):
            u, true = numbers[some][where], rows.tokens[some][where]
            factual, other = (
                denoiser.log_probs(side.with_tokens(canvas).select(some), where, t)
                for denoiser, side, canvas in zip(
                    denoisers, sides, canvases, strict=True
                )
            )
            drawn = _coupled(factual, other, true, u)
            for canvas, tokens in zip(canvases, (true, drawn), strict=True):
                canvas[some] = canvas[some].masked_scatter(where, tokens)
    passes = sum(denoiser.passes for denoiser in denoisers)
    return canvases[1], plan.turn.amax(1) * passes


def _turns(plan: Plan, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows ``(b,)``, the positions of their turn ``(b, L)`` and its time."""
    last = plan.turn.amax(1)
    for turn in range(1, int(last.max()) + 1):
        for some in torch.split((last >= turn).nonzero().squeeze(1), size):
            where = plan.turn[some] == turn
            yield some, where, plan.time[some].where(where, 0.0).amax(1)


def _coupled(factual: Tensor, other: Tensor, true: Tensor, u: Tensor) -> Tensor:
    """Return ``(N,)`` tokens of `other`, by the numbers that made `true`."""
    size = max(1, _PIECE // factual.shape[1])
    pieces = (torch.split(x, size) for x in (factual, other, true, u))
    drawn = [
        (b.double() + posterior_gumbel(a, token, number)).argmax(-1)
        for a, b, token, number in zip(*pieces, strict=True)
    ]
    return torch.cat(drawn)


def _joined(rows: Batch, tokens: Tensor, num: int) -> list[list[int]]:
    """Return the ids of each text, its windows joined and padding left out."""
    flat, real = tokens.view(num, -1), ~rows.pad.view(num, -1)
    return [ids[kept].tolist() for ids, kept in zip(flat, real, strict=True)]
