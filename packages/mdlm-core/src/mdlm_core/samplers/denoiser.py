"""The law of a token given a canvas, asked for at chosen positions only.

Samplers see a model through this class alone. It runs the trunk on the rows, the
head on the positions asked for, in pieces, so that no ``(B, L, V)`` tensor exists,
and it counts both. Guidance subclasses it and overrides `laws`.

Letters: B rows of a canvas, L length, V vocabulary, D width, N selected positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.diffusion.times import time_at
from mdlm_core.errors import UsageError
from mdlm_core.kernels import modes
from mdlm_core.kernels.categorical import categorical, truncate
from mdlm_core.protocols import Backbone, MaskingPolicy, Schedule

_PIECE = {"cpu": 2**22, "other": 2**26}  # logits at once


@dataclass
class Count:
    """What sampling has cost so far."""

    calls: int = 0
    """Forward passes of the trunk, whatever their number of rows."""
    rows: int = 0
    """Rows in them: the NFE of all rows together."""
    head_rows: int = 0
    """Positions at which the head was evaluated."""


class Denoiser:
    """A backbone with what decides how a token is drawn.

    Args:
        backbone: the model.
        temperature: divides the log-probabilities; 0 takes the most probable token.
        top_k: keep the k most probable tokens; 0 means all.
        top_p: keep the smallest set of tokens with at least this probability.
        banned: ids that are never drawn; the mask is always among them.
        policy: the masking policy that was trained with the model, for samplers that
            ask it where to go on.

    How a token is drawn from a law and a number is the attribute `pick`; it is the
    inverse CDF, or `kernels.gumbel.gumbel_max` for runs that are to be alike.
    """

    pick: Callable[[Tensor, Tensor], Tensor] = staticmethod(categorical)
    passes = 1
    """Forward passes of one row in one evaluation; guidance may need two."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        banned: Sequence[int] = (),
        policy: MaskingPolicy | None = None,
    ) -> None:
        wrong = sorted(
            {token for token in banned if not 0 <= token < backbone.vocab_size}
        )
        if wrong:
            raise UsageError(
                f"banned tokens {wrong} are outside the vocabulary of "
                f"{backbone.vocab_size} ids, 0 to {backbone.vocab_size - 1}"
            )
        if len({*banned, backbone.mask_id}) >= backbone.vocab_size:
            raise UsageError("every token is banned; leave at least one")
        self.backbone = backbone
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.banned = tuple(sorted(set(banned)))
        self.policy = policy
        self.count = Count()
        self._clock: Callable[[Batch], Tensor] | None = None

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.backbone.mask_id

    @property
    def time_conditioned(self) -> bool:
        """Whether the model sees t."""
        return self.backbone.time_conditioned

    @property
    def reads_time(self) -> bool:
        """Whether the laws depend on t, by the model or by how it is guided."""
        return self.time_conditioned

    def masked(self, canvas: Batch) -> Tensor:
        """Return ``(B, L)`` bool: the positions to fill, free and masked."""
        return canvas.free & (canvas.tokens == self.mask_id)

    def laws(
        self, canvas: Batch, where: Tensor, t: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the model's law at the selected positions, piece after piece.

        SUBS (arXiv 2406.07524, section 3.2): the mask has probability zero, and so
        have the banned tokens; the rest is renormalised. Nothing is truncated.

        Args:
            canvas: B rows.
            where: ``(B, L)`` bool with N positions chosen.
            t: ``(B,)``, read only if the model is time-conditioned.

        Yields:
            ``(n, V)`` float32 log-probabilities; the n sum to N, in row-major order.
        """
        yield from self.laws_of(self.states(canvas, where, t))

    def states(self, canvas: Batch, where: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the trunk's states ``(N, D)`` at the selected positions; see `laws`.

        A sampler that has them from elsewhere, such as a cache, asks `laws_of`.
        """
        if not self.time_conditioned:
            t = None
        elif self._clock is not None:
            t = self._clock(canvas)
        elif t is not None:
            t = t.float()
        states = self.backbone.hidden(canvas, t)[where]
        self.count.calls += 1
        self.count.rows += len(canvas)
        return states

    def laws_of(self, states: Tensor) -> Iterator[Tensor]:
        """Yield the laws ``(n, V)`` that belong to states ``(N, D)``; see `laws`."""
        self.count.head_rows += len(states)
        size = _PIECE.get(states.device.type, _PIECE["other"])
        for piece in torch.split(states, max(1, size // self.backbone.vocab_size)):
            yield self._law(piece)

    def _law(self, states: Tensor) -> Tensor:
        logits = self.backbone.logits(states)
        if self.banned:
            banned = torch.tensor(self.banned, device=logits.device)
            logits = logits.float().index_fill(-1, banned, -torch.inf)
        return subs(logits, self.mask_id)

    def truncated(self, law: Tensor) -> Tensor:
        """Return a law ``(n, V)`` after temperature, top-k and top-p."""
        return truncate(
            law, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p
        )

    def choose(self, law: Tensor, u: Tensor) -> Tensor:
        """Draw tokens ``(n,)`` from the truncated `law` with the numbers `u`."""
        if self.temperature == 0:
            return law.argmax(-1)
        return self.pick(self.truncated(law), u)

    def log_probs(
        self, canvas: Batch, where: Tensor, t: Tensor | None = None
    ) -> Tensor:
        """Return ``(N, V)``: the truncated laws at the selected positions."""
        pieces = [self.truncated(law) for law in self.laws(canvas, where, t)]
        return torch.cat(pieces)

    def draw(
        self, canvas: Batch, where: Tensor, u: Tensor, t: Tensor | None = None
    ) -> Tensor:
        """Draw ``(N,)`` tokens at the selected positions, one number of `u` each."""
        start, drawn = 0, []
        for law in self.laws(canvas, where, t):
            drawn.append(self.choose(law, u[start : start + len(law)]))
            start += len(law)
        return torch.cat(drawn)

    def on_implied_time(
        self, schedule: Schedule, free: Tensor | None = None
    ) -> Denoiser:
        """Return this denoiser, always asked at the t that its canvas implies.

        For samplers whose steps are no times: t is where the schedule's mask rate
        equals the masked share of the row's free positions. The counters are shared.
        `free` ``(L,)`` says which those are, for a sampler that freezes some of them
        for a while; a denoiser that has a clock already keeps it.
        """
        if self._clock is not None:
            return self
        other = copy(self)
        other._clock = lambda canvas: implied_time(canvas, self.mask_id, schedule, free)
        return other

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch dropout and gradients off inside the block, and restore them."""
        with torch.no_grad(), modes.evaluating(self.backbone):
            yield


def implied_time(
    canvas: Batch, mask_id: int, schedule: Schedule, free: Tensor | None = None
) -> Tensor:
    """Return the t ``(B,)`` at which as many tokens are masked as in each row.

    Training hides free positions only, so that prompts and padding do not count.

    Args:
        canvas: B rows.
        mask_id: the mask.
        schedule: gives the time of a mask rate.
        free: the free positions, ``(L,)`` or ``(B, L)``; the canvas's if not given.
    """
    free = canvas.free if free is None else free
    masked = ((canvas.tokens == mask_id) & free).sum(1)
    share = masked.double() / free.sum(-1).clamp(min=1)
    return time_at(share, schedule).float()
