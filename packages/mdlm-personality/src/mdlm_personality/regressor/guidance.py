"""Guidance by a regressor: the law of a token given traits, by Bayes.

D-CBG (Schiff et al., 2025, arXiv 2412.10193): at a hidden position l,

    log p^g(v) = log p(v | z_t) + gamma log p(y | z_t with v at l) + const,

normalised over the vocabulary before anything is revealed, so that, unlike a term for
the mask itself, it leaves the rate of revealing as it is. gamma = 0 is the law of the
model, 1 that of Bayes, more is sharper: the convention of guidance by two conditions.

Exactly this needs one look at every token of every position. To first order

    log p(y | z_t with v at l) = log p(y | z_t) + (e_v - e_mask) . g_l

with e the vectors of the tokens and g the gradient of log p(y | z_t) in those of the
canvas, for one look at the row; the part that does not depend on v goes away.

Letters: B rows, L length, V vocabulary, D width, N selected positions, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels import modes
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.denoiser import Denoiser, implied_time
from mdlm_personality.conditions import KNOWN, VALUES

from .model import TraitRegressor, traits_of

Strength = Callable[[Tensor], Tensor]
"""gamma ``(B,)`` at times ``(B,)``."""
_ROWS = 256
"""Canvases that the regressor sees at once in the exact form."""


class RegressorGuidance(Denoiser):
    """A denoiser whose law is drawn to traits by a regressor; see the module.

    An evaluation of a row counts as one forward pass more than that of `inner`. In the
    exact form each candidate of each position is a further look at a row, which the
    counter `count.rows` tells and `passes` does not.

    Args:
        inner: the denoiser to guide: of the plain model, or one that is guided or told
            a persona itself.
        regressor: p(y | z_t), of the same tokenizer.
        traits: the condition y, "traits" and "known" of one row for all rows; None
            reads the condition of the canvas.
        gamma: the strength, or a function of the time.
        candidates: None for the first-order form; otherwise the exact form for the C
            tokens that are most probable under `inner` at each position, the others
            becoming impossible; V or more is exact for all.

    Raises:
        UsageError: if regressor and model have other tokens, or no trait is known.
    """

    def __init__(
        self,
        inner: Denoiser,
        regressor: TraitRegressor,
        *,
        traits: Mapping[str, Tensor] | None = None,
        gamma: float | Strength = 1.0,
        candidates: int | None = None,
    ) -> None:
        super().__init__(
            inner.backbone,
            temperature=inner.temperature,
            top_k=inner.top_k,
            top_p=inner.top_p,
            banned=inner.banned,
            policy=inner.policy,
        )
        trunk = regressor.trunk
        sizes = (trunk.vocab_size, trunk.mask_id)
        if sizes != (inner.backbone.vocab_size, inner.mask_id):
            raise UsageError(
                f"the regressor has {sizes[0]} ids with the mask at {sizes[1]}, and "
                f"the model {inner.backbone.vocab_size} with it at {inner.mask_id}; "
                f"train the regressor on the data of the model"
            )
        if candidates is not None and candidates < 1:
            raise UsageError(f"candidates is {candidates}; it must be at least 1")
        if traits is not None and not bool(traits_of(traits)[1].any()):
            raise UsageError("no trait is known that the regressor could guide to")
        self.inner = inner
        self.regressor = regressor
        self.traits = traits
        self.gamma = gamma
        self.candidates = candidates
        self.count = inner.count
        self.passes = inner.passes + 1
        self.pick = inner.pick

    def laws(
        self, canvas: Batch, where: Tensor, t: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield the guided laws ``(n, V)`` at the selected positions."""
        time = self._time(canvas, t)
        gamma = self._strength(time).to(canvas.tokens.device)
        if not bool((gamma != 0).any()):
            yield from self.inner.laws(canvas, where, t)
            return
        rows = where.nonzero()[:, 0]  # (N,)
        weight = gamma[rows].float()
        with modes.evaluating(self.regressor):
            if self.candidates is None:
                slope = self.slopes(canvas, time)[where]  # (N, D)
                table = self.regressor.trunk.embed.weight.detach()
            start = 0
            for law in self.inner.laws(canvas, where, t):
                part = slice(start, start + len(law))
                if self.candidates is None:
                    found = (slope[part] @ table.T).float()
                else:
                    found = self._exactly(canvas, where, time, part, law)
                start += len(law)
                yield guided(law, found, weight[part])

    @property
    def reads_time(self) -> bool:
        """Whether model or regressor sees t, or the strength changes with it."""
        seen = self.regressor.trunk.time_conditioned or callable(self.gamma)
        return seen or self.inner.reads_time

    def states(self, canvas: Batch, where: Tensor, t: Tensor | None = None) -> Tensor:
        """Refuse: what the regressor says of a canvas is no state of a position.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "this sampler keeps states, and guidance by a regressor has none; use the "
            "sampler ancestral"
        )

    def slopes(self, canvas: Batch, time: Tensor) -> Tensor:
        """Return ``(B, L, D)``: the gradient of log p(y | z_t) in the vectors."""
        values, known = self._target(canvas)
        with torch.enable_grad():
            vectors = self.regressor.trunk.embedded(canvas).detach().requires_grad_()
            law = self.regressor.law(canvas, time, vectors=vectors)
            total = law.log_prob(values, known).sum()
            (slope,) = torch.autograd.grad(total, vectors)
        self.count.calls += 1
        self.count.rows += len(canvas)
        return slope

    def _exactly(
        self, canvas: Batch, where: Tensor, time: Tensor, part: slice, law: Tensor
    ) -> Tensor:
        """Return ``(n, V)``: log p(y) with each candidate put in, -inf for others."""
        values, known = self._target(canvas)
        places = where.nonzero()[part]  # (n, 2)
        size = min(self.candidates or law.shape[1], law.shape[1])
        ids = law.topk(size, dim=-1).indices  # (n, C)
        found = torch.full_like(law, -torch.inf)
        row, column = places.repeat_interleave(size, dim=0).unbind(1)
        flat, looks = ids.flatten(), []
        for piece in torch.split(torch.arange(len(flat), device=flat.device), _ROWS):
            some = row[piece]
            one = canvas.select(some)
            tokens = one.tokens.clone()
            tokens[torch.arange(len(piece)), column[piece]] = flat[piece]
            seen = self.regressor.law(one.with_tokens(tokens), time[some])
            looks.append(seen.log_prob(values[some], known[some]))
            self.count.calls += 1
            self.count.rows += len(piece)
        return found.scatter_(1, ids, torch.cat(looks).view(-1, size))

    def _target(self, canvas: Batch) -> tuple[Tensor, Tensor]:
        """Return the wanted traits ``(B, 5)`` and which of them are known."""
        if self.traits is None:
            if VALUES not in canvas.condition or KNOWN not in canvas.condition:
                raise UsageError(
                    "the canvas has no traits that the regressor could guide to; "
                    "give them as `traits`"
                )
            return traits_of(canvas.condition)
        values, known = traits_of(self.traits)
        device, rows = canvas.tokens.device, len(canvas)
        return values.to(device).expand(rows, -1), known.to(device).expand(rows, -1)

    def _strength(self, time: Tensor) -> Tensor:
        if callable(self.gamma):
            return self.gamma(time)
        return torch.full_like(time, self.gamma)

    def _time(self, canvas: Batch, t: Tensor | None) -> Tensor:
        """Return the time ``(B,)``: the sampler's, or what the canvas implies."""
        if self._clock is not None:
            return self._clock(canvas)
        if t is not None:
            return t
        return implied_time(canvas, self.mask_id, self.regressor.schedule)

    def on_implied_time(
        self, schedule: Schedule, free: Tensor | None = None
    ) -> Denoiser:
        """Return this denoiser at the t that its canvas implies; see `Denoiser`."""
        if self._clock is not None:
            return self
        other = copy(self)
        other.inner = self.inner.on_implied_time(schedule, free)
        other._clock = other.inner._clock
        return other


def guided(law: Tensor, evidence: Tensor, weight: Tensor) -> Tensor:
    """Return ``log p + weight * evidence``, normalised.

    Args:
        law: ``(n, V)`` float32 log-probabilities, -inf for the impossible, which stays
            so.
        evidence: ``(n, V)``, up to a constant for each row; -inf makes a token
            impossible.
        weight: ``(n,)``; where it is 0, the law stays as it is.
    """
    never = torch.isneginf(law) | torch.isneginf(evidence)
    total = law.masked_fill(never, 0.0) + weight[:, None] * evidence.masked_fill(
        never, 0.0
    )
    mixed = total.masked_fill(never, -torch.inf).log_softmax(-1)
    return torch.where(weight[:, None] == 0, law, mixed)


def guide(
    regressor: TraitRegressor,
    *,
    traits: Mapping[str, Tensor] | None = None,
    gamma: float | Strength = 1.0,
    candidates: int | None = None,
    inner: Callable[..., Denoiser] = Denoiser,
) -> Callable[..., Denoiser]:
    """Return what makes a guided denoiser, for `mdlm_core.samplers.sample_text`.

    Args:
        regressor: p(y | z_t).
        traits: see `RegressorGuidance`, as `gamma` and `candidates`.
        gamma: the strength.
        candidates: None for the first-order form.
        inner: makes the denoiser to guide, such as a partial of `Guidance`.
    """

    def make(backbone: Backbone, **settings: object) -> Denoiser:
        return RegressorGuidance(
            inner(backbone, **settings),
            regressor,
            traits=traits,
            gamma=gamma,
            candidates=candidates,
        )

    return make
