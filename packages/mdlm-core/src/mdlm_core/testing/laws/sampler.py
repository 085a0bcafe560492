"""Laws about samplers. Letters: B batch, L length, T steps, V vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, Schedule
from mdlm_core.testing.law import hold, rule, same, untouched

Denoise = Callable[..., Any]


def _steps(canvas: Batch) -> tuple[int, ...]:
    """Return numbers of steps: one, fewer than L, L, more than L."""
    return (1, canvas.length // 2, canvas.length, 3 * canvas.length)


def _fill(
    sampler: Sampler,
    denoiser: Any,
    canvas: Batch,
    schedule: Schedule,
    noise: Noise,
    steps: int = 8,
    seen: list[tuple[int, Tensor]] | None = None,
) -> Sampled:
    """Run the sampler; `seen` collects what it calls back with."""

    def note(step: int, tokens: Tensor) -> None:
        if seen is not None:
            seen.append((step, tokens.clone()))

    return sampler(
        denoiser, canvas, schedule=schedule, noise=noise, steps=steps, callback=note
    )


@rule(builds=False)
def settings_are_those_of_a_sampler(settings: type) -> None:
    """The settings have `steps`, `temperature`, `top_k`, `top_p` and `batch_size`."""
    has = {field.name for field in fields(settings)} if is_dataclass(settings) else ()
    lacks = [field.name for field in fields(SamplerConfig) if field.name not in has]
    hold(
        not lacks,
        f"{settings.__name__} lacks {', '.join(lacks)}; derive it from SamplerConfig",
    )


def what_is_known_stays(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """Frozen tokens, and free positions that hold a token already, never change."""
    known = canvas.tokens != denoise().mask_id
    for steps in _steps(canvas):
        found = _fill(sampler, denoise(), canvas, schedule, noise, steps).tokens
        same(found[known], canvas.tokens[known], f"known tokens, T = {steps}")


def no_mask_is_left(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """No free position holds a mask at the end: for one step, few, L and more."""
    for steps in _steps(canvas):
        denoiser = denoise()
        found = _fill(sampler, denoiser, canvas, schedule, noise, steps).tokens
        left = int((found[canvas.free] == denoiser.mask_id).sum())
        hold(not left, f"{left} masks are left, T = {steps}")
        size = denoiser.backbone.vocab_size
        inside = bool(((found >= 0) & (found < size)).all())
        hold(inside, f"a token is outside of the vocabulary of {size}")


@rule(applies=lambda spec: not spec.remasks)
def committed_tokens_stay(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """A token that was written stays, unless the spec says that it may be hidden."""
    seen: list[tuple[int, Tensor]] = []
    mask_id = denoise().mask_id
    _fill(sampler, denoise(), canvas, schedule, noise, canvas.length, seen)
    before = canvas.tokens
    for step, tokens in seen:
        written = before != mask_id
        same(tokens[written], before[written], f"written tokens after step {step}")
        before = tokens


def same_noise_same_tokens(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """The same noise gives the same tokens, and other noise other ones."""
    first = _fill(sampler, denoise(), canvas, schedule, noise).tokens
    again = _fill(sampler, denoise(), canvas, schedule, noise).tokens
    same(again, first, "the tokens drawn again")
    other = _fill(sampler, denoise(), canvas, schedule, noise.child("other")).tokens
    hold((other != first).any(), "other noise gives the same tokens")


def rows_are_independent(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """A row's tokens depend neither on the rows beside it nor on their order."""
    whole = _fill(sampler, denoise(), canvas, schedule, noise).tokens
    order = torch.arange(len(canvas)).flip(0)
    flipped = _fill(sampler, denoise(), canvas.select(order), schedule, noise).tokens
    same(flipped[order], whole, "rows in another order")
    for row in range(len(canvas)):
        one = canvas.select(slice(row, row + 1))
        alone = _fill(sampler, denoise(), one, schedule, noise).tokens
        same(alone[0], whole[row], f"row {row} alone")


def padding_changes_nothing(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """What stands at padded positions changes no token elsewhere."""
    there = ~canvas.pad
    last = (denoise().mask_id + 1) % denoise().backbone.vocab_size
    other = canvas.with_tokens(canvas.tokens.masked_fill(canvas.pad, last))
    found = _fill(sampler, denoise(), other, schedule, noise).tokens
    expected = _fill(sampler, denoise(), canvas, schedule, noise).tokens
    same(found[there], expected[there], "tokens beside padding")


def banned_tokens_never_appear(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """A banned token is never written, even if only one token is allowed."""
    size, mask_id = denoise().backbone.vocab_size, denoise().mask_id
    allowed = (mask_id + 1) % size
    denoiser = denoise(banned=[i for i in range(size) if i not in (allowed, mask_id)])
    found = _fill(sampler, denoiser, canvas, schedule, noise).tokens
    written = canvas.free & (canvas.tokens == mask_id)
    hold((found[written] == allowed).all(), "a banned token was written")


def callback_sees_every_change(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """The callback is given rising step numbers, and at last the result."""
    seen: list[tuple[int, Tensor]] = []
    found = _fill(sampler, denoise(), canvas, schedule, noise, seen=seen).tokens
    hold(seen, "it was never called")
    numbers = [step for step, _ in seen]
    hold(numbers == sorted(set(numbers)), f"the steps were {numbers}")
    same(seen[-1][1], found, "the last canvas seen")


def counts_its_evaluations(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """`nfe` is (B,), is zero for a full row, and adds up to the rows evaluated."""
    denoiser = denoise()
    evaluated, hidden = 0, denoiser.backbone.hidden

    def counted(batch: Batch, t: Tensor | None = None) -> Any:
        nonlocal evaluated
        evaluated += len(batch)
        return hidden(batch, t)

    full = canvas.tokens.clone()
    full[0] = torch.where(full[0] == denoiser.mask_id, full[0] + 1, full[0])
    denoiser.backbone.hidden = counted
    nfe = _fill(sampler, denoiser, canvas.with_tokens(full), schedule, noise).nfe
    hold(nfe.shape == (len(canvas),), f"nfe is {tuple(nfe.shape)}")
    hold(nfe[0] == 0, f"a row with nothing to fill took {int(nfe[0])} evaluations")
    hold((nfe[1:] > 0).all(), "a row with masks took no evaluation")
    total = int(nfe.sum())
    hold(total == evaluated, f"nfe adds up to {total}; {evaluated} rows were evaluated")


def canvas_is_not_changed(
    sampler: Sampler, denoise: Denoise, canvas: Batch, schedule: Schedule, noise: Noise
) -> None:
    """The canvas that was given, and the global generators, are not touched."""
    before, denoiser = canvas.tokens.clone(), denoise()
    with untouched():
        _fill(sampler, denoiser, canvas, schedule, noise)
    same(canvas.tokens, before, "the canvas that was given")
