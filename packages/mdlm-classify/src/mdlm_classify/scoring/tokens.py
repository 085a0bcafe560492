"""What each token adds to log p(text | class), from the same draws as the scores.

Letters: L length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.document import Document
from mdlm_core.diffusion.draws import measuring
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Backbone, Schedule

from .control import control_of
from .rows import device_of, evaluate, jobs_of, windows_of
from .rules import rounds


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
    where = device_of(backbone, device)
    windows = windows_of([document], mask_id=backbone.mask_id, device=where)
    starts = torch.tensor([0, *map(len, document.windows)]).cumsum(0)
    total = torch.zeros(len(labels), int(starts[-1]), dtype=torch.float64)
    columns = torch.tensor(list(labels), device=where)
    active = torch.ones(1, len(labels), dtype=torch.bool, device=where)
    orders = settings.estimator == "any-order"
    first = 0
    with measuring(backbone), torch.autocast(where.type, enabled=False):
        control = control_of(
            backbone,
            windows,
            labels=columns,
            settings=settings,
            schedule=schedule,
        )
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
                window = windows.place[part.window[part.row]].cpu()
                at = (
                    part.column[part.row].cpu(),
                    starts[window] + part.position.cpu(),
                )
                worth = -control.rest(part) * part.weight[part.row]
                total.index_put_(at, worth.cpu(), accumulate=True)
            first += size
    total /= draws
    for place, values in zip(windows.place, control.values.cpu(), strict=True):
        start, end = starts[int(place)], starts[int(place) + 1]
        total[:, start:end] -= values[:, : end - start]
    return total


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
