"""Laws about denoisers. Letters: B batch, L length, V vocabulary, N positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.protocols import Backbone
from mdlm_core.testing.law import backward, close, hold, rule, same
from mdlm_core.testing.tiny import tiny_times


def _states(backbone: Any, canvas: Batch, t: Tensor | None = None) -> Tensor:
    """Return ``(B, L, D)`` without gradients, at fixed times unless given."""
    if t is None and backbone.time_conditioned:
        t = tiny_times(len(canvas))
    with torch.no_grad():
        states: Tensor = backbone.hidden(canvas, t)
    return states


def _logits(backbone: Any, canvas: Batch) -> Tensor:
    """Return ``(B, L, V)``."""
    states = _states(backbone, canvas)
    with torch.no_grad():
        flat: Tensor = backbone.logits(states.flatten(0, 1))
    return flat.view(*states.shape[:2], -1)


def is_a_backbone(backbone: Backbone) -> None:
    """It is a module with a vocabulary, a mask in it, a trunk and a head."""
    hold(isinstance(backbone, nn.Module), f"{type(backbone).__name__} is no nn.Module")
    for name in ("vocab_size", "mask_id", "time_conditioned", "hidden", "logits"):
        hold(hasattr(backbone, name), f"it has no `{name}`")
    hold(
        0 <= backbone.mask_id < backbone.vocab_size,
        f"mask_id {backbone.mask_id} is not in [0, {backbone.vocab_size})",
    )


def shapes_are_right(backbone: Backbone, canvas: Batch) -> None:
    """States are (B, L, D), and the logits of N states are (N, V)."""
    states = _states(backbone, canvas)
    hold(
        states.dim() == 3 and states.shape[:2] == canvas.tokens.shape,
        f"states of {tuple(canvas.tokens.shape)} tokens are {tuple(states.shape)}",
    )
    with torch.no_grad():
        logits = backbone.logits(states[0, :5])
    hold(
        logits.shape == (5, backbone.vocab_size),
        f"logits of 5 states are {tuple(logits.shape)}, V is {backbone.vocab_size}",
    )


def logits_are_finite(backbone: Backbone, canvas: Batch) -> None:
    """Logits are finite wherever something is."""
    hold(torch.isfinite(_logits(backbone, canvas)[~canvas.pad]).all(), "nan or inf")


def head_is_the_logits(backbone: Any, canvas: Batch) -> None:
    """If there is a linear `head`, it alone makes the logits."""
    head = getattr(backbone, "head", None)
    if type(head) is nn.Linear:
        states = _states(backbone, canvas).flatten(0, 1)
        with torch.no_grad():
            close(backbone.logits(states), head(states), "logits against head")


def logits_stand_alone(backbone: Backbone, canvas: Batch) -> None:
    """The logits of a state do not depend on the states beside it."""
    states = _states(backbone, canvas).flatten(0, 1)
    with torch.no_grad():
        close(backbone.logits(states[3:4]), backbone.logits(states)[3:4], "one state")


def padding_changes_nothing(backbone: Backbone, canvas: Batch) -> None:
    """What stands at padded positions changes no other position."""
    other = canvas.tokens.masked_fill(canvas.pad, backbone.mask_id)
    last = (backbone.mask_id + 1) % backbone.vocab_size
    for filled in (other, canvas.tokens.masked_fill(canvas.pad, last)):
        found = _logits(backbone, canvas.with_tokens(filled))
        expected = _logits(backbone, canvas)
        close(found[~canvas.pad], expected[~canvas.pad], "logits beside padding")


def padding_can_be_cut_off(backbone: Backbone, canvas: Batch) -> None:
    """Padding at the end of a row can be cut off, and nothing else changes."""
    keep = int((~canvas.pad[-1]).nonzero().max()) + 1
    short = _cut(canvas, keep)
    found = _logits(backbone, short)[-1]
    there = ~canvas.pad[-1, :keep]
    close(found[there], _logits(backbone, canvas)[-1, :keep][there], "without padding")


def _cut(batch: Batch, length: int) -> Batch:
    """Return the first `length` positions of every row."""
    return replace(
        batch,
        tokens=batch.tokens[:, :length],
        frozen=batch.frozen[:, :length],
        pad=batch.pad[:, :length],
        positions=None if batch.positions is None else batch.positions[:, :length],
        documents=None if batch.documents is None else batch.documents[:, :length],
    )


def rows_are_independent(backbone: Backbone, canvas: Batch) -> None:
    """A row's logits depend neither on the other rows nor on their order."""
    t = tiny_times(len(canvas)) if backbone.time_conditioned else None
    whole = _states(backbone, canvas, t)
    order = torch.arange(len(canvas)).flip(0)
    flipped = _states(backbone, canvas.select(order), None if t is None else t[order])
    there = ~canvas.pad
    close(flipped[order][there], whole[there], "rows in another order")
    first = slice(0, 1)
    alone = _states(backbone, canvas.select(first), None if t is None else t[first])
    close(alone[there[first]], whole[first][there[first]], "a row alone")


def documents_are_walls(backbone: Backbone, canvas: Batch) -> None:
    """With `documents` set, a document changes nothing in another."""
    half = canvas.length // 2
    owner = (torch.arange(canvas.length) >= half).long().expand_as(canvas.tokens)
    one = replace(canvas, documents=owner)
    tokens = canvas.tokens.clone()
    tokens[:, :half] = (tokens[:, :half] + 1) % backbone.vocab_size
    there = ~canvas.pad[:, half:]
    found = _states(backbone, one.with_tokens(tokens))[:, half:]
    close(found[there], _states(backbone, one)[:, half:][there], "the other document")


def sees_t_if_it_says_so(backbone: Backbone, canvas: Batch) -> None:
    """The states depend on t if and only if it is time-conditioned."""
    early = _states(backbone, canvas, torch.full((len(canvas),), 0.1))
    late = _states(backbone, canvas, torch.full((len(canvas),), 0.9))
    there = ~canvas.pad
    differ = not torch.allclose(early[there], late[there], atol=1e-6)
    said = backbone.time_conditioned
    hold(differ == said, f"time_conditioned is {said}; t changes states: {differ}")


def evaluation_is_deterministic(backbone: Backbone, canvas: Batch) -> None:
    """Outside training, the same canvas gives the same logits."""
    there = ~canvas.pad
    first = _logits(backbone, canvas)[there]
    same(_logits(backbone, canvas)[there], first, "the second time")


@rule(applies=lambda spec: not spec.pretrained)
def every_parameter_gets_a_gradient(backbone: Any, canvas: Batch, batch: Batch) -> None:
    """Every parameter that wants a gradient gets one that is finite and not zero."""
    backbone.zero_grad()
    masked = canvas.tokens != batch.tokens
    t = tiny_times(len(canvas)) if backbone.time_conditioned else None
    logits = backbone.logits(backbone.hidden(canvas, t)[masked])
    backward(nn.functional.cross_entropy(logits.float(), batch.tokens[masked]))
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad
            hold(gradient is not None, f"'{name}' gets no gradient")
            assert gradient is not None
            hold(
                torch.isfinite(gradient).all(),
                f"the gradient of '{name}' is not finite",
            )
            hold(gradient.abs().max() > 0, f"the gradient of '{name}' is zero")


def state_dict_is_everything(
    build: Callable[[int], Any], backbone: Backbone, canvas: Batch
) -> None:
    """Weights saved and loaded into another instance give the same logits."""
    assert isinstance(backbone, nn.Module)
    other = build(1).eval()
    other.load_state_dict(backbone.state_dict())
    there = ~canvas.pad
    found, expected = _logits(other, canvas)[there], _logits(backbone, canvas)[there]
    same(found, expected, "after loading")


def works_in_bf16(backbone: Backbone, canvas: Batch) -> None:
    """Under bfloat16 autocast the logits are finite and near those in float32."""
    there = ~canvas.pad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _logits(backbone, canvas)[there].float()
    hold(torch.isfinite(found).all(), "nan or inf")
    close(found, _logits(backbone, canvas)[there].float(), "logits in bfloat16", 0.1)
