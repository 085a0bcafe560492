"""What the losses of the task are, for models whose laws are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_msa import layout
from mdlm_msa.alphabet import MASK, VOCAB_SIZE, WRITTEN
from mdlm_msa.task import AlignmentDiffusion, column_laws

ROWS, COLUMNS, CANVASES = 4, 12, 256
FREE = ROWS * COLUMNS - COLUMNS


class Known(nn.Module):
    """Each residue has the probability 1 / 20; what is visible is predicted so too."""

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self) -> None:
        super().__init__()
        law = torch.full((VOCAB_SIZE,), -1e4)
        law[list(WRITTEN[:-1])] = 0.0
        self.law = nn.Parameter(law)

    def hidden(self, batch: Batch, t: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.law.expand(len(hidden), -1)


class Copies(Known):
    """The same, but what is visible is copied."""

    def hidden(self, batch: Batch, t: torch.Tensor | None = None) -> torch.Tensor:
        return batch.tokens[..., None].float()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        ids = hidden[:, 0].long()
        copied = torch.full((len(ids), VOCAB_SIZE), -1e4)
        copied[torch.arange(len(ids)), ids] = 0.0
        return torch.where((ids == MASK)[:, None], self.law, copied)


def batch() -> Batch:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 21, (CANVASES, ROWS, COLUMNS)).astype(np.uint8)
    return layout.batch([layout.Canvas(part, 1) for part in rows])


def loss_of(model: nn.Module, loss: str, steps: int = 4) -> float:
    module = AlignmentDiffusion(
        model,
        loss=loss,
        schedule=LogLinear(eps=0.0),
        policy=UniformMasking(),
        t_min=1e-3,
    )
    data, total = batch(), 0.0
    for step in range(steps):
        draw = Draw(Noise(0), torch.arange(CANVASES), of=CANVASES, step=step)
        found = module(data, draw)
        assert int(found.count) == CANVASES * FREE
        total += float(found.total.detach() / found.count) / steps
    return total


@pytest.mark.parametrize("loss", ["nelbo", "nelbo-l", "masked-mean"])
def test_a_uniform_model_costs_the_log_of_its_letters(loss: str) -> None:
    # masked-mean of a law without context is the bound; 1 / t has variance, counts none
    tolerance = {"nelbo": 0.03, "nelbo-l": 1e-5, "masked-mean": 0.03}[loss]
    assert loss_of(Known(), loss) == pytest.approx(math.log(20), rel=tolerance)


def test_the_mean_over_visible_tokens_too_is_half_of_it() -> None:
    assert loss_of(Copies(), "doc-mean") == pytest.approx(math.log(20) / 2, rel=0.03)
    assert loss_of(Known(), "doc-mean") == pytest.approx(math.log(20), rel=1e-5)


def test_context_and_separators_are_never_hidden() -> None:
    seen: list[Batch] = []

    class Looking(Known):
        def hidden(self, batch: Batch, t: Any = None) -> torch.Tensor:
            seen.append(batch)
            return super().hidden(batch, t)

    loss_of(Looking(), "nelbo")
    data = batch()
    for noised in seen:
        changed = noised.tokens != data.tokens
        assert bool(changed.any())
        assert not bool((changed & data.frozen).any())
        assert set(noised.tokens[changed].tolist()) == {MASK}


def test_the_laws_of_columns_count_like_rows_once() -> None:
    states = np.array([[0, 3], [0, 3], [0, 3], [5, 20], [7, 255]], np.uint8)
    laws = column_laws(states)
    assert laws.shape == (2, 21)
    assert torch.allclose(laws.sum(1), torch.ones(2))
    # Three equal rows have the weight of one: residues 0, 5 and 7 are as frequent but
    # for the background.
    background = column_laws(np.full((1, 1), 255, np.uint8))[0]
    excess = laws[0] * (3 + 5) - 5 * background
    assert excess[[0, 5, 7]].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
