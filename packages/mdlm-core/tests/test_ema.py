"""Averaged weights: the recursion, names, and what comes back after a block."""

import pytest
import torch
from torch import nn

from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.kernels import Ema


def network(seed=0):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def move(model, seed):
    with torch.no_grad():
        for parameter, other in zip(
            model.parameters(), network(seed).parameters(), strict=True
        ):
            parameter.copy_(other)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999])
def test_the_recursion(decay):
    model = network()
    ema = Ema(model.named_parameters(), decay)
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    for n in range(1, 30):
        move(model, n)
        ema.update()
        d = min(decay, (1 + n) / (10 + n))
        for name, p in model.named_parameters():
            expected[name] = d * expected[name] + (1 - d) * p.detach().double()
    assert ema.updates == 29
    assert ema.weights.keys() == expected.keys()
    for name, average in ema.weights.items():
        assert (average - expected[name]).abs().max() < 1e-6
        assert not average.requires_grad


def test_the_first_decay_is_two_elevenths():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    ema = Ema(model.named_parameters(), 0.9999)
    model.weight.data.fill_(11.0)
    ema.update()
    assert ema.weights["weight"].item() == pytest.approx(9.0)


def test_averages_are_copies_and_frozen_parameters_are_left_out():
    model = network()
    model[0].bias.requires_grad_(False)
    ema = Ema(model.named_parameters(), 0.5)
    assert set(ema.weights) == {"0.weight", "1.weight"}
    before = ema.weights["1.weight"].clone()
    move(model, 5)
    assert torch.equal(ema.weights["1.weight"], before)


def test_swapped_puts_both_back():
    model = network()
    ema = Ema(model.named_parameters(), 0.9)
    move(model, 1)
    ema.update()
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    averages = {name: x.clone() for name, x in ema.weights.items()}
    places = [p.data_ptr() for p in model.parameters()]
    with ema.swapped(model):
        for name, p in model.named_parameters():
            assert torch.equal(p, averages[name])
    for name, p in model.named_parameters():
        assert torch.equal(p, own[name])
        assert torch.equal(ema.weights[name], averages[name])
    assert places == [p.data_ptr() for p in model.parameters()]  # nothing else moved


def test_swapped_restores_after_an_exception():
    model = network()
    ema = Ema(model.named_parameters(), 0.9)
    move(model, 1)
    own = [p.detach().clone() for p in model.parameters()]

    def fail():
        with ema.swapped(model):
            model[0].weight.data.zero_()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert all(map(torch.equal, model.parameters(), own))


def test_swapped_serves_another_copy_whatever_the_order_of_its_parameters():
    model, copy = network(), network(3)
    ema = Ema(reversed(list(model.named_parameters())), 0.9)
    with ema.swapped(copy):
        assert torch.equal(copy[1].weight, model[1].weight)
    assert torch.equal(copy[1].weight, network(3)[1].weight)


def test_swapped_refuses_another_model():
    ema = Ema(network().named_parameters(), 0.9)
    with (
        pytest.raises(CheckpointError, match=r"lacks 1 \('1.weight' first\)"),
        ema.swapped(network()[:1]),
    ):
        pass


def test_low_precision_weights_are_averaged_in_float32():
    model = network().bfloat16()
    ema = Ema(model.named_parameters(), 0.9999)
    for _ in range(200):  # steps far below the spacing of bfloat16
        ema.update()
    start = ema.weights["0.weight"].clone()
    model[0].weight.data += 0.25
    ema.decay = 0.9999
    ema.updates = 10**6
    ema.update()
    change = ema.weights["0.weight"] - start
    assert change.dtype == torch.float32
    assert (change - 0.25e-4).abs().max() < 1e-5
    with ema.swapped(model):
        assert model[0].weight.dtype == torch.bfloat16


def test_state_goes_out_and_in_by_name():
    model = network()
    ema = Ema(model.named_parameters(), 0.9)
    move(model, 1)
    ema.update()
    state = ema.state_dict()
    assert set(state) == {"weights", "updates"}
    shuffled = {
        "weights": dict(reversed(state["weights"].items())),
        "updates": state["updates"],
    }
    other = Ema(network(7).named_parameters(), 0.9)
    held = other.weights["0.weight"]
    other.load_state_dict(shuffled)
    assert other.updates == 1
    assert other.weights["0.weight"] is held  # in place
    for name, average in ema.weights.items():
        assert torch.equal(other.weights[name], average)


def test_state_of_another_model_is_refused_and_changes_nothing():
    ema = Ema(network().named_parameters(), 0.9)
    before = {name: x.clone() for name, x in ema.weights.items()}
    good = Ema(network(1).named_parameters(), 0.9).state_dict()["weights"]
    renamed = {name.replace("0.bias", "0.offset"): x for name, x in good.items()}
    reshaped = {**good, "1.weight": torch.zeros(5, 4)}
    for weights, words in (
        (renamed, r"lacks 1 \('0.bias' first\) and has in addition 1 \('0.offset'"),
        (reshaped, r"'1.weight' is \(5, 4\) in the checkpoint and \(2, 4\)"),
    ):
        with pytest.raises(CheckpointError, match=words):
            ema.load_state_dict({"weights": weights, "updates": 4})
    assert ema.updates == 0
    assert all(torch.equal(ema.weights[name], x) for name, x in before.items())


def test_decay_out_of_range():
    with pytest.raises(ConfigError, match=r"train.ema is 1.0"):
        Ema(network().named_parameters(), 1.0)


def test_nothing_to_average():
    ema = Ema([], 0.9)
    ema.update()
    with ema.swapped(network()):
        assert ema.weights == {}
