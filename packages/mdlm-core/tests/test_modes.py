"""Evaluation mode ends as it began, part by part."""

import pytest
import torch
from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import likelihood
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.train.engine import Engine

from .tiny_run import TinyBackbone


def mixed():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    module[1].eval()
    return module


def modes(module):
    return [part.training for part in module.modules()]


def test_every_part_gets_its_own_mode_back():
    module = mixed()
    before = modes(module)
    assert before == [True, True, False, False, False]
    with evaluating(module):
        assert not any(modes(module))
        module[1][0].train()  # whatever happens inside
    assert modes(module) == before
    with pytest.raises(RuntimeError), evaluating(module):
        raise RuntimeError
    assert modes(module) == before


def test_what_is_no_module_is_left_alone():
    with evaluating(object()):
        pass


def of_engine(backbone):
    engine = object.__new__(Engine)
    engine.module, engine.ema = backbone, None
    with engine.averaged() as module:
        assert not any(modes(module))


def of_denoiser(backbone):
    with Denoiser(backbone).evaluating():
        assert not any(modes(backbone))
        assert not torch.is_grad_enabled()


def of_likelihood(backbone):
    batch = Batch.of(torch.full((1, 4), 97))
    likelihood.exact_counts(backbone, batch, draws=1, noise=Noise(0))


@pytest.mark.parametrize("measure", [of_engine, of_denoiser, of_likelihood])
def test_a_frozen_part_does_not_start_dropout(measure):
    backbone = TinyBackbone()
    backbone.embed.eval()
    before = modes(backbone)
    measure(backbone)
    assert modes(backbone) == before
    assert torch.is_grad_enabled()
