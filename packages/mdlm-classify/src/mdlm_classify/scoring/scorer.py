"""Estimate log p(text | class) for all classes, with as few evaluations as it takes.

Letters: N texts, C classes, K classes and the null class, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import NULL
from mdlm_core.diffusion.draws import measuring
from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Backbone, Schedule

from .rows import Windows, evaluate, jobs_of, windows_of
from .rules import Round, rounds, rule_of, standing, still_kept
from .scores import Scores

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""
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
        log_prior: ``(C,)`` log p(class), for the decision when to stop; uniform if not
            given. -inf rules a class out.
        null: whether to score the null class too.
        progress: called as texts are done.
        device: where the backbone is; found out if not given.

    Raises:
        UsageError: if the prior does not fit.
        DataError: if the model gives something that is no log-probability.
    """
    prior = _checked_prior(log_prior, classes)
    where = _device(backbone, device)
    labels = torch.tensor([*range(classes), *([NULL] if null else [])], device=where)
    # texts of one length stay together, so that little is padded
    lengths = [max(map(len, document.windows), default=0) for document in documents]
    order = sorted(range(len(documents)), key=lengths.__getitem__)
    parts, done = [_nothing(classes, null)], 0
    with measuring(backbone), torch.autocast(where.type, enabled=False):
        for group in _groups(documents, order, len(labels), settings):
            parts.append(
                _score_group(
                    backbone,
                    [documents[row] for row in group],
                    labels=labels,
                    prior=prior,
                    settings=settings,
                    schedule=schedule,
                    null=null,
                )
            )
            done += len(group)
            if progress is not None:
                progress(done, len(documents))
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
) -> Scores:
    windows = windows_of(documents, mask_id=backbone.mask_id, device=labels.device)
    texts, classes = len(documents), len(prior)
    tokens = torch.zeros(texts, dtype=torch.int64)
    tokens.index_add_(0, windows.owner.cpu(), windows.free.cpu())
    rule = rule_of(settings, classes)
    stratified = settings.estimator != "any-order"
    kept = torch.ones(texts, classes, dtype=torch.bool)
    undecided = tokens > 0
    evaluations = torch.zeros(texts, dtype=torch.int64)
    null_sum = torch.zeros(texts, dtype=torch.float64)
    null_draws = torch.zeros(texts, dtype=torch.int64)
    done: list[Round] = []
    first = 0
    now = standing(done, kept, prior, stratified=stratified)
    for draws in rounds(settings):
        active = kept & undecided[:, None]
        if null:
            active = torch.cat([active, undecided[:, None]], 1)
        values, cost = _draw(
            backbone,
            windows,
            active,
            labels=labels,
            first=first,
            draws=draws,
            settings=settings,
            schedule=schedule,
        )
        evaluations += cost
        done.append(Round(values[..., :classes], active[:, :classes]))
        if null:
            null_sum += values[..., classes].sum(1)
            null_draws += draws * undecided
        now = standing(done, kept, prior, stratified=stratified)
        stays = still_kept(now, kept, prior, rule=rule, z=settings.z)
        kept = torch.where(undecided[:, None], stays, kept)
        undecided = undecided & (kept.sum(1) > 1)
        first += draws
        if not bool(undecided.any()):
            break
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
    active: Tensor,
    *,
    labels: Tensor,
    first: int,
    draws: int,
    settings: ScoringConfig,
    schedule: Schedule | None,
) -> tuple[Tensor, Tensor]:
    """Return ``(T, draws, K)`` draws of log p, and ``(T,)`` the rows evaluated."""
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
        nats.index_add_(0, part.scored.nonzero()[:, 0], part.nll)
        at = (windows.owner[part.window], part.draw, part.column)
        values.index_put_(at, -nats * part.weight, accumulate=True)
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            "the model gives a log-likelihood that is not a finite number; its weights "
            "are broken, or it holds a token of the text for impossible"
        )
    owner = windows.owner[jobs.window[jobs.unit]].cpu()
    return values.cpu(), torch.bincount(owner, minlength=len(active))


def token_values(
    backbone: Backbone,
    document: Document,
    *,
    labels: Sequence[int],
    draws: int,
    settings: ScoringConfig,
    schedule: Schedule | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return what each token adds to log p(text | class) over the first `draws` draws.

    The sum over tokens of the difference between two classes is their log-ratio. It is
    the one of `score` if one of them is the best class there, and `draws` what the
    other one had.

    Args:
        backbone: the denoiser.
        document: the text.
        labels: the classes, -1 for none.
        draws: how many; those of some whole rounds.
        settings: as for `score`.
        schedule: as for `score`.
        device: as for `score`.

    Returns:
        ``(len(labels), L)`` float64 over all windows, one after the other, 0 at gaps.

    Raises:
        UsageError: if `draws` is not that of some rounds.
    """
    where = _device(backbone, device)
    windows = windows_of([document], mask_id=backbone.mask_id, device=where)
    starts = torch.tensor([0, *map(len, document.windows)]).cumsum(0)
    total = torch.zeros(len(labels), int(starts[-1]), dtype=torch.float64)
    if not len(windows):
        return total
    columns = torch.tensor(list(labels), device=where)
    active = torch.ones(1, len(labels), dtype=torch.bool, device=where)
    orders = settings.estimator == "any-order"
    first = 0
    with measuring(backbone), torch.autocast(where.type, enabled=False):
        for size in _rounds_up_to(draws, settings):
            for part in evaluate(
                backbone,
                windows,
                jobs_of(windows, active, draws=size, orders=orders),
                labels=columns,
                first=first,
                draws=size,
                settings=settings,
                schedule=schedule,
            ):
                row, position = part.scored.nonzero().cpu().unbind(1)
                window = windows.place[part.window].cpu()[row]
                at = (part.column.cpu()[row], starts[window] + position)
                worth = -(part.nll.cpu() * part.weight.cpu()[row])
                total.index_put_(at, worth, accumulate=True)
            first += size
    return total / draws


def _rounds_up_to(draws: int, settings: ScoringConfig) -> list[int]:
    sizes, seen = rounds(settings), [0]
    for size in sizes:
        seen.append(seen[-1] + size)
    if draws not in seen[1:]:
        raise UsageError(
            f"draws is {draws}; a text has had {', '.join(map(str, seen[1:]))} draws "
            f"after a round"
        )
    return list(sizes[: seen.index(draws)])


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


def _device(backbone: Backbone, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    if isinstance(backbone, nn.Module):
        first = next(backbone.parameters(), None)
        if first is not None:
            return first.device
    return torch.device("cpu")


def _checked_prior(log_prior: Tensor | None, classes: int) -> Tensor:
    """Return ``(C,)`` float64 on the CPU."""
    if classes < 1:
        raise UsageError(f"classes is {classes}; there must be at least one to score")
    if log_prior is None:
        return torch.zeros(classes, dtype=torch.float64)
    prior = log_prior.detach().double().cpu()
    if prior.shape != (classes,):
        raise UsageError(
            f"the log prior has the shape {tuple(prior.shape)}; with {classes} classes "
            f"it must be ({classes},)"
        )
    if bool(prior.isnan().any()) or not float(prior.max()) > float("-inf"):
        raise UsageError(
            f"the log prior is {prior.tolist()}; it must be a number for each class, "
            f"and not -inf for all"
        )
    return prior
