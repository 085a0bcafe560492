"""Laws about tasks. Letters: B batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, Task
from mdlm_core.testing.law import backward, close, hold, rule


def _loss(module: Any, batch: Batch, noise: Noise, first: int = 0, of: int = 0) -> Loss:
    """Return the loss of rows `first` and on, of a global batch of `of` rows."""
    rows = torch.arange(first, first + len(batch))
    loss = module(batch, Draw(noise, rows, of or len(batch)))
    assert isinstance(loss, Loss)
    return loss


def _per_token(loss: Loss) -> float:
    return float(loss.total.detach()) / float(loss.count)


def module_has_a_backbone(module: Any) -> None:
    """What is trained is a module with the denoiser as its child `backbone`."""
    hold(isinstance(module, nn.Module), f"{type(module).__name__} is no nn.Module")
    children = dict(module.named_children())
    hold("backbone" in children, f"the children are {sorted(children)}")


def loss_is_finite_with_a_gradient(module: Any, batch: Batch, noise: Noise) -> None:
    """The loss is a finite scalar sum with its count, and has a gradient."""
    module.train()
    loss = _loss(module, batch, noise)
    hold(loss.total.dim() == 0, f"the total is {tuple(loss.total.shape)}")
    hold(torch.isfinite(loss.total), f"the total is {float(loss.total.detach())}")
    hold(loss.count > 0, f"the count is {int(loss.count)}")
    backward(loss.total)
    norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
    hold(norms, "no parameter gets a gradient")
    hold(torch.isfinite(torch.stack(norms)).all(), "a gradient is not finite")
    hold(torch.stack(norms).max() > 0, "every gradient is zero")


def parts_add_up(module: Any, batch: Batch, noise: Noise) -> None:
    """The losses of the parts of a batch add up to the loss of the whole."""
    module.eval()
    with torch.no_grad():
        whole = _loss(module, batch, noise)
        half = len(batch) // 2
        parts = [
            _loss(module, batch.select(slice(0, half)), noise, 0, len(batch)),
            _loss(module, batch.select(slice(half, None)), noise, half, len(batch)),
        ]
    total = torch.stack([part.total for part in parts]).sum()
    close(total, whole.total, "the total of two halves", 1e-4)
    hold(
        sum(int(p.count) for p in parts) == int(whole.count), "the counts do not add up"
    )


def five_steps_lower_the_loss(module: Any, batch: Batch, noise: Noise) -> None:
    """Five steps on one batch lower its loss."""

    def measured() -> float:
        module.eval()
        with torch.no_grad():
            return _per_token(_loss(module, batch, noise))

    before = measured()
    wanted = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=1e-3)
    for _ in range(5):
        module.train()
        optimizer.zero_grad()
        loss = _loss(module, batch, noise)
        backward(loss.total / loss.count)
        optimizer.step()
    after = measured()
    hold(after < before, f"the loss went from {before:.4f} to {after:.4f}")


@rule(costly=True)
def evaluation_is_numbers(task: Task, module: Any, source: DataSource) -> None:
    """`evaluate` returns finite floats, one of them called "loss"."""
    numbers = task.evaluate(module, source)
    hold("loss" in numbers, f"there is no 'loss' in {sorted(numbers)}")
    for name, value in numbers.items():
        right = isinstance(value, float) and math.isfinite(value)
        hold(right, f"'{name}' is {value!r}")


@rule(costly=True)
def samples_are_texts(task: Task, module: Any, source: DataSource) -> None:
    """`samples` returns texts, the same ones for the same seed."""
    texts = task.samples(module, source, seed=0)
    hold(isinstance(texts, list) and texts, f"got {texts!r}")
    hold(all(isinstance(text, str) for text in texts), "not all of them are texts")
    hold(task.samples(module, source, seed=0) == texts, "other texts the second time")
