"""Checks 4 and 8: one training step is finite, reaches all parts, and repeats itself.

Letters: B batch, L length, V vocabulary, N hidden positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_atat.policy import AdaptiveMasking
from mdlm_core.config import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Corrupted,
    Loss,
    corrupt_for_training,
    masked_cross_entropy,
)
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.train.optim import build_optimizer, learning_rate, set_learning_rate

from .report import Finding, failed, passed, skipped
from .subject import Subject, draw_of, strongest_step

_MOVE = 0.02


def training_step(subject: Subject) -> Iterator[Finding]:
    """Look at shapes, one optimiser step, and where gradients go."""
    for name, config in subject.configs().items():
        module, batch = subject.module(config), subject.batch()
        yield from (
            Finding(found.status, f"{name}: {found.seen}", found.fix)
            for found in _step(module, batch, config)
        )


def _step(module: Any, batch: Batch, config: RunConfig) -> Iterator[Finding]:
    begin(module, config)
    loss = loss_of(module, batch, config)
    yield _shapes(module, batch, loss)
    before = float(loss.total.detach() / loss.count)
    if not math.isfinite(before):
        yield failed(
            f"the loss of the first step is {before}",
            "lower train.lr, or train in float32: --set train.precision=fp32",
        )
        return
    optimizer = build_optimizer(module, config.train)
    set_learning_rate(optimizer, learning_rate(0, config.train))
    (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    after = loss_of(module, batch, config)
    value = float(after.total.detach() / after.count)
    if not math.isfinite(value):
        yield failed(
            f"the loss is {before:.4f} before and {value} after one step",
            "lower train.lr",
        )
        return
    yield passed(f"loss {before:.4f} before and {value:.4f} after one step, finite")
    _move(module, config.seed)
    yield from _gradients(module, batch, config)


def begin(module: Any, config: RunConfig) -> None:
    """Move the policy to the step with the strongest bias, in training mode."""
    module.train()
    steps = config.train.steps
    module.advance(0, steps)
    module.advance(strongest_step(getattr(module, "policy", None), steps), steps)


def loss_of(module: Any, batch: Batch, config: RunConfig) -> Loss:
    """Return the loss of a step, its dropout drawn from the seed."""
    with global_seed(Noise(config.seed).child("validate", "dropout")):
        found = module(batch, draw_of(batch, config.seed))
    assert isinstance(found, Loss)
    return found


def _shapes(module: Any, batch: Batch, loss: Loss) -> Finding:
    hidden = int(loss.masked.sum())
    states = module.backbone.hidden(batch, torch.full((len(batch),), 0.5))
    logits = module.backbone.logits(states[0, :2])
    wrong = [
        f"{what} has the shape {tuple(shape)}, not {expected}"
        for what, shape, expected in (
            ("hidden", states.shape[:2], tuple(batch.tokens.shape)),
            ("logits", logits.shape, (2, module.backbone.vocab_size)),
            ("nll", loss.nll.shape, (hidden,)),
            ("masked", loss.masked.shape, tuple(batch.tokens.shape)),
        )
        if tuple(shape) != expected
    ]
    if bool((loss.masked & batch.frozen).any()):
        wrong.append("a frozen token is hidden")
    if int(loss.count) <= 0:
        wrong.append("the loss counts no token")
    if wrong:
        return failed("; ".join(wrong), "the model or the task breaks its contract")
    b, length = batch.tokens.shape
    return passed(f"B {b}, L {length}, V {logits.shape[1]}: {hidden} tokens hidden")


def _move(module: nn.Module, seed: int) -> None:
    """Move every parameter a little: gates that start at zero let nothing through."""
    noise = Noise(seed).child("validate", "move")
    generator = torch.Generator().manual_seed(noise.integer())
    with torch.no_grad():
        for parameter in module.parameters():
            step = torch.rand(parameter.shape, generator=generator)
            parameter.add_((_MOVE * (2 * step - 1)).to(parameter))


def _gradients(module: Any, batch: Batch, config: RunConfig) -> Iterator[Finding]:
    """Look at which parts the two terms of the loss reach."""
    loss = loss_of(module, batch, config)
    (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
    yield _reached("the denoiser", module.backbone)
    policy = getattr(module, "policy", None)
    estimator = getattr(policy, "estimator", None)
    if estimator is not None:
        yield _reached("the estimator", estimator)
    module.zero_grad(set_to_none=True)
    if not isinstance(policy, AdaptiveMasking):
        yield skipped("there is no adaptive masking, so nothing can cross")
        return
    yield _not_across(module, policy, batch, config)


def _reached(what: str, part: nn.Module) -> Finding:
    parameters = [p for p in part.parameters() if p.requires_grad]
    found = [p for p in parameters if p.grad is not None and bool((p.grad != 0).any())]
    bad = [p for p in found if p.grad is not None and not bool(p.grad.isfinite().all())]
    text = f"a gradient reaches {len(found)} of {len(parameters)} tensors of {what}"
    if bad:
        return failed(
            f"{len(bad)} gradients of {what} are not finite", "lower train.lr"
        )
    if not found:
        return failed(text, "something detaches its output; it would never learn")
    return passed(text)


def _not_across(
    module: Any, policy: AdaptiveMasking, batch: Batch, config: RunConfig
) -> Finding:
    """Look for gradients of one loss in the other's part."""
    corrupted = corrupted_of(module, batch, config)
    loss = masked_cross_entropy(
        module.backbone, corrupted, residual=policy.needs_residual
    )
    crossing = []
    if loss.total.requires_grad:
        loss.total.backward()  # type: ignore[no-untyped-call]
    if _any(policy):
        crossing.append("the loss of the denoiser reaches the masking policy")
    module.zero_grad(set_to_none=True)
    more = {"residual": loss.residual} if policy.needs_residual else {}
    term = policy.auxiliary_loss(corrupted, loss.nll, **more)
    if term.requires_grad:
        term.backward()  # type: ignore[no-untyped-call]
    if _any(module.backbone):
        crossing.append("the loss of the masking policy reaches the denoiser")
    module.zero_grad(set_to_none=True)
    if crossing:
        return failed("; ".join(crossing), "detach it: each part learns its own loss")
    return passed("neither loss reaches the other's part")


def corrupted_of(module: Any, batch: Batch, config: RunConfig) -> Corrupted:
    """Return the noised batch of a step."""
    return corrupt_for_training(
        batch,
        schedule=module.schedule,
        draw=draw_of(batch, config.seed),
        policy=module.policy,
        t_sampling=module.t_sampling,
        t_min=module.t_min,
        mask_id=module.backbone.mask_id,
    )


def _any(part: nn.Module) -> bool:
    return any(
        p.grad is not None and bool((p.grad != 0).any()) for p in part.parameters()
    )


# ---- check 8 ----------------------------------------------------------------


def repeats(subject: Subject) -> Iterator[Finding]:
    """Do the same step twice, from the settings on."""
    for name, config in subject.configs().items():
        first, second = (_fingerprint(subject, config) for _ in range(2))
        if first == second:
            yield passed(f"{name}: loss {first[0]!r} and all gradients, twice")
        else:
            what = "loss" if first[0] != second[0] else "gradient"
            yield failed(
                f"{name}: the {what} of the same step differs ({first[0]!r} and "
                f"{second[0]!r})",
                "something draws from global random state, or an operation is not "
                "deterministic; every draw must come from the run's noise",
            )


def _fingerprint(subject: Subject, config: RunConfig) -> tuple[float, str]:
    """Return the loss of a step of a new module, and a hash of its gradients."""
    module, batch = subject.module(config), subject.batch()
    begin(module, config)
    loss = loss_of(module, batch, config)
    loss.total.backward()  # type: ignore[no-untyped-call]
    digest = sha256()
    for parameter in module.parameters():
        if parameter.grad is not None:
            digest.update(_bytes(parameter.grad))
    return float(loss.total.detach()), digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
