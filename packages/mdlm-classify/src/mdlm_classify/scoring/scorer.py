"""Estimate log p(text | class) for all classes, with as few evaluations as it takes.

Letters: N texts, C classes, K classes and the null class, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import NULL
from mdlm_core.diffusion.draws import measuring
from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Backbone, Schedule

from .control import Control, control_of
from .rows import Windows, device_of, evaluate, jobs_of, windows_of
from .rules import Round, rounds, rule_of, standing, still_kept
from .scores import Scores
from .tokens import token_values

__all__ = ["Progress", "score", "token_values"]

Progress = Callable[[int, int], None]
"""Called with (tokens done, tokens in all), of one draw under one class."""
_TEXTS, _JOBS = 256, 2**20
"""What is in memory at once, at most: texts, and jobs of all their draws."""


def score(
    backbone: Backbone,
    documents: Sequence[Document],
    *,
    classes: int,
    settings: ScoringConfig,
    schedule: Schedule | None = None,
    log_prior: Tensor | None = None,
    null: bool = False,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
) -> Scores:
    """Score N texts under C classes, in float32.

    A text's masks depend on ``settings.seed``, its ids and the draw alone, and are the
    same for all classes, so that its scores depend neither on the other texts nor on
    their order, apart from rounding. A text without a token has log p = 0 under each
    class, which leaves the decision to the prior.

    Args:
        backbone: the denoiser; it is told the class, or -1 for none.
        documents: the texts.
        classes: C.
        settings: the estimator, and when to stop.
        schedule: the one of training, for a backbone that sees the time, and for the
            estimator continuous-time.
        log_prior: ``(C,)``, or ``(N, C)`` for each text: what is added to the
            log-likelihoods for the decision when to stop, such as log p(class);
            uniform if not given. -inf rules a class out.
        null: whether to score the null class too.
        progress: called after each round, and as texts are done.
        device: where the backbone is; found out if not given.

    Raises:
        UsageError: if the prior does not fit.
        DataError: if the model gives something that is no log-probability.
    """
    prior = _checked_prior(log_prior, len(documents), classes)
    where = device_of(backbone, device)
    labels = torch.tensor([*range(classes), *([NULL] if null else [])], device=where)
    # texts of one length stay together, so that little is padded
    lengths = [max(map(len, document.windows), default=0) for document in documents]
    order = sorted(range(len(documents)), key=lengths.__getitem__)
    work = [_work(document, settings) for document in documents]
    parts, done = [_nothing(classes, null)], 0
    with measuring(backbone), torch.autocast(where.type, enabled=False):
        for group in _groups(documents, order, len(labels), settings):
            own = torch.tensor([work[row] for row in group])

            def told(share: Tensor, before: int = done, own: Tensor = own) -> None:
                if progress is not None:
                    progress(before + int((own * share).sum()), sum(work))

            parts.append(
                _score_group(
                    backbone,
                    [documents[row] for row in group],
                    labels=labels,
                    prior=prior[group],
                    settings=settings,
                    schedule=schedule,
                    null=null,
                    told=told,
                )
            )
            done += int(own.sum())
            if progress is not None:
                progress(done, sum(work))
    back = torch.empty(len(order), dtype=torch.int64)
    back[torch.tensor(order, dtype=torch.int64)] = torch.arange(len(order))
    return Scores.join(parts).select(back)


def _score_group(
    backbone: Backbone,
    documents: Sequence[Document],
    *,
    labels: Tensor,
    prior: Tensor,
    settings: ScoringConfig,
    schedule: Schedule | None,
    null: bool,
    told: Callable[[Tensor], None],
) -> Scores:
    """Score T texts; `told` hears after each round how much of each is done."""
    windows = windows_of(documents, mask_id=backbone.mask_id, device=labels.device)
    texts, classes = prior.shape
    tokens = torch.zeros(texts, dtype=torch.int64)
    tokens.index_add_(0, windows.owner.cpu(), windows.free.cpu())
    rule = rule_of(settings, classes)
    kept = torch.ones(texts, classes, dtype=torch.bool)
    undecided = tokens > 0
    control = control_of(
        backbone,
        windows,
        labels=labels,
        settings=settings,
        schedule=schedule,
    )
    owner = windows.owner.cpu()
    evaluations = torch.zeros(texts, dtype=torch.int64)
    evaluations.index_add_(0, owner, control.evaluations.cpu())
    known = torch.zeros(texts, len(labels), dtype=torch.float64)
    known.index_add_(0, owner, -control.values.sum(2).cpu())
    null_sum = torch.zeros(texts, dtype=torch.float64)
    null_draws = torch.zeros(texts, dtype=torch.int64)
    done: list[Round] = []
    first = 0
    now = standing(done, kept, prior)
    for draws in rounds(settings):
        active = kept & undecided[:, None]
        if null:
            active = torch.cat([active, undecided[:, None]], 1)
        values, cost = _draw(
            backbone,
            windows,
            control,
            active,
            labels=labels,
            first=first,
            draws=draws,
            settings=settings,
            schedule=schedule,
        )
        evaluations += cost
        values += known[:, None]
        done.append(Round(values[..., :classes], active[:, :classes]))
        if null:
            null_sum += values[..., classes].sum(1) * undecided
            null_draws += draws * undecided
        now = standing(done, kept, prior)
        stays = still_kept(now, kept, prior, rule=rule, z=settings.z)
        kept = torch.where(undecided[:, None], stays, kept)
        undecided = undecided & (kept.sum(1) > 1)
        first += draws
        if not bool(undecided.any()):
            break
        told(torch.where(undecided, first / settings.max_draws, 1.0).double())
    return Scores(
        log_likelihood=now.log_likelihood,
        se=now.se,
        draws=now.draws,
        tokens=tokens,
        evaluations=evaluations,
        kept=kept,
        null=null_sum / null_draws.clamp(min=1) if null else None,
    )


def _draw(
    backbone: Backbone,
    windows: Windows,
    control: Control,
    active: Tensor,
    *,
    labels: Tensor,
    first: int,
    draws: int,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> tuple[Tensor, Tensor]:
    """Return ``(T, draws, K)`` of what `control` leaves, and the cost ``(T,)``."""
    where = labels.device
    jobs = jobs_of(
        windows,
        active.to(where),
        draws=draws,
        orders=settings.estimator == "any-order",
    )
    values = torch.zeros(
        len(active), draws, len(labels), dtype=torch.float64, device=where
    )
    for part in evaluate(
        backbone,
        windows,
        jobs,
        labels=labels,
        first=first,
        draws=draws,
        settings=settings,
        schedule=schedule,
    ):
        nats = torch.zeros(len(part.window), dtype=torch.float64, device=where)
        nats.index_add_(0, part.row, control.rest(part))
        at = (windows.owner[part.window], part.draw, part.column)
        values.index_put_(at, -nats * part.weight, accumulate=True)
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            "the model gives a log-likelihood that is not a finite number; its weights "
            "are broken, or it holds a token of the text for impossible"
        )
    owner = windows.owner[jobs.window[jobs.unit]].cpu()
    return values.cpu(), torch.bincount(owner, minlength=len(active))


def _work(document: Document, settings: ScoringConfig) -> int:
    """Return the tokens that go through the model in a draw, and 1 for none."""
    orders = settings.estimator == "any-order"
    return max(1, sum(len(w) ** (2 if orders else 1) for w in document.windows))


def _groups(
    documents: Sequence[Document],
    order: Sequence[int],
    columns: int,
    settings: ScoringConfig,
) -> Iterator[list[int]]:
    """Yield the texts that are held in memory together, at least one."""
    group: list[int] = []
    jobs = 0
    for row in order:
        document = documents[row]
        steps = (
            document.tokens
            if settings.estimator == "any-order"
            else len(document.windows)
        )
        mine = steps * columns * settings.max_draws
        if group and (len(group) == _TEXTS or jobs + mine > _JOBS):
            yield group
            group, jobs = [], 0
        group.append(row)
        jobs += mine
    if group:
        yield group


def _nothing(classes: int, null: bool) -> Scores:
    """Return the scores of no texts."""
    none = torch.zeros(0, classes, dtype=torch.float64)
    return Scores(
        log_likelihood=none,
        se=none,
        draws=none.long(),
        tokens=none.long().sum(1),
        evaluations=none.long().sum(1),
        kept=none.bool(),
        null=none.sum(1) if null else None,
    )


def _checked_prior(log_prior: Tensor | None, texts: int, classes: int) -> Tensor:
    """Return ``(N, C)`` float64 on the CPU."""
    if classes < 1:
        raise UsageError(f"classes is {classes}; there must be at least one to score")
    if log_prior is None:
        return torch.zeros(texts, classes, dtype=torch.float64)
    prior = log_prior.detach().double().cpu()
    if prior.shape not in ((classes,), (texts, classes)):
        raise UsageError(
            f"the log prior has the shape {tuple(prior.shape)}; with {texts} texts and "
            f"{classes} classes it must be ({classes},) or ({texts}, {classes})"
        )
    rows = prior.reshape(-1, classes)
    bad = rows.isnan().any(1) | ~(rows.amax(1) > -torch.inf)
    if bool(bad.any()):
        raise UsageError(
            f"the log prior is {rows[int(bad.nonzero()[0])].tolist()}; it must be a "
            f"number for each class, and not -inf for all"
        )
    return prior.expand(texts, classes)
