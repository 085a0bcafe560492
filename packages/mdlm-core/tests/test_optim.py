"""The learning rate and AdamW, against their formulas written out again."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mdlm_core.config.schema import TrainConfig
from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.train.optim import (
    build_optimizer,
    learning_rate,
    parameter_groups,
    scale_gradients,
    set_learning_rate,
)
from mdlm_core.train.state import check_only_tensors

from .tiny_run import TinyBackbone, TinyTask, run


def rates(**changes):
    config = TrainConfig(**{"lr": 1.0, "steps": 10, "warmup": 0, **changes})
    return [learning_rate(step, config) for step in range(config.steps)]


def test_warmup_is_linear_and_starts_above_zero():
    assert rates(warmup=4) == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])
    assert rates() == [1.0] * 10


def test_wsd_falls_in_the_last_share_of_the_steps():
    expected = [1.0] * 6 + [1.0, 0.75, 0.5, 0.25]
    assert rates(lr_schedule="wsd", decay_fraction=0.4) == pytest.approx(expected)
    ended = rates(lr_schedule="wsd", decay_fraction=0.4, lr_min_ratio=0.2)
    assert ended[-1] == pytest.approx(0.2 + 0.8 * 0.25)
    assert rates(lr_schedule="wsd", decay_fraction=0.0) == [1.0] * 10


def test_cosine_is_half_a_period_after_the_warmup():
    found = rates(lr_schedule="cosine", warmup=2, lr_min_ratio=0.1)
    for step in range(2, 10):
        wave = 0.5 * (1 + math.cos(math.pi * (step - 2) / 8))
        assert found[step] == pytest.approx(0.1 + 0.9 * wave)


@given(
    kind=st.sampled_from(["constant", "cosine", "wsd"]),
    steps=st.integers(1, 50),
    warmup=st.integers(0, 60),
    decay=st.floats(0, 1),
    ratio=st.floats(0, 1),
)
def test_rates_rise_then_fall_and_stay_in_range(kind, steps, warmup, decay, ratio):
    found = rates(
        lr_schedule=kind,
        steps=steps,
        warmup=warmup,
        decay_fraction=decay,
        lr_min_ratio=ratio,
    )
    assert all(0 <= rate <= 1 for rate in found)
    after = found[max(0, warmup - 1) :]
    assert after == sorted(after, reverse=True)


def test_linear_falls_from_the_warmup_to_the_end():
    """As transformers' linear schedule does after its warm-up."""
    expected = [(10 - step) / (10 - 4) for step in range(4, 10)]
    found = rates(lr_schedule="linear", warmup=4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:] == pytest.approx(expected)


def test_polynomial_is_a_power_of_linear():
    linear = rates(lr_schedule="linear")
    assert rates(lr_schedule="polynomial") == linear
    squared = rates(lr_schedule="polynomial", lr_power=2.0)
    assert squared == pytest.approx([rate**2 for rate in linear])


def test_restarts_are_cosines_one_after_the_other():
    one = rates(lr_schedule="cosine-restarts", steps=20, lr_cycles=1)
    assert one == rates(lr_schedule="cosine", steps=20)
    two = rates(lr_schedule="cosine-restarts", steps=20, lr_cycles=2)
    half = rates(lr_schedule="cosine", steps=10)
    assert two == pytest.approx(half + half)


def test_only_matrices_decay():
    module = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 4),
            "norm": nn.LayerNorm(4),
            "embed": nn.Embedding(5, 3),
            "conv": nn.Conv1d(3, 3, 3, groups=3),
        }
    )
    module["norm"].bias.requires_grad_(False)
    decay, rest = parameter_groups(module.parameters(), 0.1)
    names = {id(p): name for name, p in module.named_parameters()}
    assert decay["weight_decay"] == 0.1
    assert rest["weight_decay"] == 0.0
    assert {names[id(p)] for p in decay["params"]} == {
        "linear.weight",
        "embed.weight",
        "conv.weight",
    }
    assert {names[id(p)] for p in rest["params"]} == {
        "linear.bias",
        "norm.weight",
        "conv.bias",
    }


def test_adamw_is_the_published_algorithm():
    """Loshchilov and Hutter, 2019, algorithm 2, in float64 by hand."""
    config = TrainConfig(lr=0.1, beta1=0.8, beta2=0.95, adam_eps=1e-6, weight_decay=0.3)
    module = nn.Linear(2, 3)
    optimizer = build_optimizer(module, config)
    assert optimizer.param_groups[0]["fused"]
    hand = {n: p.detach().double().clone() for n, p in module.named_parameters()}
    m = {n: torch.zeros_like(p) for n, p in hand.items()}
    v = {n: torch.zeros_like(p) for n, p in hand.items()}
    generator = torch.Generator().manual_seed(0)
    for count in range(1, 5):
        for name, parameter in module.named_parameters():
            g = torch.randn(parameter.shape, generator=generator)
            parameter.grad = g
            g = g.double()
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.95 * v[name] + 0.05 * g * g
            step = m[name] / (1 - 0.8**count)
            step = step / ((v[name] / (1 - 0.95**count)).sqrt() + 1e-6)
            decay = 0.3 if hand[name].ndim == 2 else 0.0
            hand[name] = hand[name] - 0.1 * (decay * hand[name] + step)
        optimizer.step()
    for name, parameter in module.named_parameters():
        assert torch.allclose(parameter.double(), hand[name], atol=1e-6), name


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.policy = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.table = nn.Embedding(4, 3)

    def parameter_groups(self, config):
        return [
            {"params": self.policy.parameters(), "lr_factor": 10.0},
            {"params": [self.table.weight], "weight_decay": config.lr},
        ]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_parts_may_learn_at_rates_of_their_own(kind):
    module = Parts()
    config = TrainConfig(optimizer=kind, lr=0.5, weight_decay=0.1)
    optimizer = build_optimizer(module, config)
    set_learning_rate(optimizer, 0.25)
    names = {id(p): name for name, p in module.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        "body.weight": (0.25, 0.1),
        "body.bias": (0.25, 0.0),
        "policy.0.weight": (2.5, 0.1),
        "policy.0.bias": (2.5, 0.0),
        "policy.1.weight": (2.5, 0.0),
        "policy.1.bias": (2.5, 0.0),
        "table.weight": (0.25, 0.5),
    }
    muon = [group for group in optimizer.param_groups if "momentum" in group]
    held = {names[id(p)] for group in muon for p in group["params"]}
    assert held == ({"body.weight", "policy.0.weight"} if kind == "muon" else set())
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_a_factor_reaches_every_step(tmp_path):
    class Slow(TinyTask):
        def build(self, source):
            module = super().build(source)
            mix = [*module.backbone.mix.parameters(), module.backbone.embed.weight]
            module.parameter_groups = lambda config: [{"params": mix, "lr_factor": 0.0}]
            first.update({n: p.detach().clone() for n, p in module.named_parameters()})
            return module

    from mdlm_core.train import load_run

    first = {}
    run(tmp_path, task=Slow(), steps=3, eval_every=0)
    ended = load_run(tmp_path, task=TinyTask(), weights="raw").module
    same = {n for n, p in ended.named_parameters() if torch.equal(p, first[n])}
    assert same == {
        "backbone.mix.weight",
        "backbone.mix.bias",
        "backbone.embed.weight",
    }


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (lambda m: [{"params": [m.table.weight], "lr": 1.0}], "a group with 'lr'"),
        (lambda m: [{"params": [m.table.weight]}] * 2, r"table\.weight twice"),
        (lambda m: [{"params": [torch.ones(1)]}], "no parameter of it"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups, told):
    module = Parts()
    module.parameter_groups = lambda config: groups(module)
    with pytest.raises(ConfigError, match=told):
        build_optimizer(module, TrainConfig())


def test_state_that_would_be_lost_is_refused(tmp_path):
    class Counter(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

        def set_extra_state(self, state):
            pass

    class Counting(TinyTask):
        def build(self, source):
            module = super().build(source)
            module.backbone.mix = Counter(24, 8)
            return module

    told = r"'backbone\.mix' \(Counter\) has extra state .*register_buffer"
    with pytest.raises(CheckpointError, match=told):
        run(tmp_path, task=Counting(), steps=1)
    hooked = nn.Linear(1, 1)
    hooked.register_state_dict_post_hook(
        lambda module, state, prefix, local: state.update(seen=3)
    )
    with pytest.raises(CheckpointError, match=r"'seen' in the state .* but int"):
        check_only_tensors(hooked)
    check_only_tensors(TinyBackbone())


def test_scale_gradients():
    module = nn.Linear(2, 2)
    module.weight.grad = torch.full((2, 2), 3.0)
    scale_gradients(module, 0.5)
    assert torch.equal(module.weight.grad, torch.full((2, 2), 1.5))
    assert module.bias.grad is None
