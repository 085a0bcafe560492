"""Muon beside AdamW: who gets which, the update by singular values, and resuming."""

import copy

import pytest
import torch
from torch import nn

from mdlm_core.config.schema import TrainConfig
from mdlm_core.errors import ConfigError
from mdlm_core.train.muon import muon_matrices
from mdlm_core.train.optim import build_optimizer


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.up = nn.Linear(6, 10)
        self.conv = nn.Conv1d(6, 6, 3, groups=6)
        self.down = nn.Linear(10, 6, bias=False)
        self.head = nn.Linear(6, 7)


def random_gradients(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_matrices_are_the_linear_layers_without_the_head():
    model = Model()
    assert [id(p) for p in muon_matrices(model)] == [
        id(model.up.weight),
        id(model.down.weight),
    ]
    model.up.weight.requires_grad_(False)
    assert [id(p) for p in muon_matrices(model)] == [id(model.down.weight)]


def test_a_model_without_matrices_is_refused():
    with pytest.raises(ConfigError, match="use adamw"):
        muon_matrices(nn.Embedding(3, 2))


def test_the_update_is_a_polynomial_of_the_singular_values():
    """Five times s -> 3.4445 s - 4.775 s^3 + 2.0315 s^5, from s / |G|, scaled."""
    model = Model()
    before = model.up.weight.detach().double().clone()
    optimizer = build_optimizer(model, TrainConfig(optimizer="muon", lr=0.1))
    random_gradients(model, 0)
    gradient = model.up.weight.grad.double()
    optimizer.step()
    u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
    s = s / gradient.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    expected = before - 0.1 * 0.2 * 10**0.5 * (u * s) @ vh
    moved = (expected - before).norm()
    error = (model.up.weight.double() - expected).norm() / moved
    assert error < 0.03  # the products are in bfloat16


def test_everything_else_moves_as_under_adamw():
    models = [Model(), Model()]
    models[1].load_state_dict(models[0].state_dict())
    for model, name in zip(models, ("muon", "adamw"), strict=True):
        optimizer = build_optimizer(model, TrainConfig(optimizer=name, lr=0.1))
        for seed in range(3):
            random_gradients(model, seed)
            optimizer.step()
    muon = {id(parameter) for parameter in muon_matrices(models[0])}
    pairs = zip(models[0].named_parameters(), models[1].named_parameters(), strict=True)
    for (name, ours), (_, theirs) in pairs:
        assert torch.equal(ours, theirs) == (id(ours) not in muon), name


def test_a_loaded_state_goes_on_exactly_and_with_the_new_rate():
    model = Model()
    optimizer = build_optimizer(model, TrainConfig(optimizer="muon", lr=0.1))
    random_gradients(model, 0)
    optimizer.step()
    twin = Model()
    twin.load_state_dict(model.state_dict())
    other = build_optimizer(twin, TrainConfig(optimizer="muon", lr=0.1))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = model.up.weight.detach().clone()
    for module, each in ((model, optimizer), (twin, other)):
        for group in each.param_groups:
            group["lr"] = 0.01
        random_gradients(module, 1)
        each.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    root_mean_square = (model.up.weight - before).square().mean().sqrt()
    assert 0.001 < root_mean_square < 0.004  # 0.2 lr, and 0.02 at the old rate


def test_with_matrices_alone_it_is_muon():
    model = nn.ModuleDict({"a": nn.Linear(4, 3, bias=False)})
    optimizer = build_optimizer(model, TrainConfig(optimizer="muon", lr=0.1))
    before = model["a"].weight.detach().clone()
    random_gradients(model, 0)
    optimizer.step()
    update = (model["a"].weight - before).detach()
    values = torch.linalg.svdvals(update)
    assert values.max() / values.min() < 2.5  # every direction moves alike
