"""The fast path against the textbook one, under the same masks."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import (
    Draw,
    LogLinear,
    corrupt_for_training,
    exact_counts,
    masked_cross_entropy,
    nelbo,
)
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.dit import DiT

from . import reference

VOCAB, MASK, ROWS, LENGTH = 300, 299, 8, 24
DRAW = Draw(Noise(4), torch.arange(ROWS), ROWS)


class Mixer(torch.nn.Module):
    """Embedding, one mixing layer, and a head that is fused or is not."""

    vocab_size, mask_id, time_conditioned = VOCAB, MASK, False

    def __init__(self, fused):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCAB, 16)
        self.mix = torch.nn.Linear(LENGTH, LENGTH)
        linear = torch.nn.Linear(16, VOCAB)
        self.head = linear if fused else torch.nn.Sequential(linear)

    def hidden(self, batch, t=None):
        x = self.embed(batch.tokens)
        return torch.tanh(x + self.mix(x.transpose(1, 2)).transpose(1, 2))

    def logits(self, hidden):
        return self.head(hidden)


def dit(**settings):
    config = DiTConfig(
        blocks=2, width=32, heads=2, cond_width=16, dropout=0.0, **settings
    )
    model = DiT(config, vocab_size=VOCAB, mask_id=MASK, length=LENGTH)
    for parameter in model.parameters():  # zeros at the start would hide the blocks
        torch.nn.init.normal_(parameter, std=0.2)
    return model


MODELS = {
    "fused": lambda: Mixer(True),
    "plain": lambda: Mixer(False),
    "dit": dit,
    "dit-conv": lambda: dit(conv_kernel=3),
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())


def made(build):
    with global_seed(Noise(1)):
        return build()


def a_batch():
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, MASK, (ROWS, LENGTH), generator=generator)
    pad = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    pad[::2, 20:] = True
    return Batch.of(tokens, pad=pad)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@every_model
def test_loss_and_gradients_are_the_references(build):
    model, batch = made(build), a_batch()
    noised = corrupt_for_training(
        batch, schedule=LogLinear(), draw=DRAW, t_min=0.1, mask_id=MASK
    )
    assert 0.2 < noised.masked.float().mean() < 0.8
    textbook = reference.loss(
        reference.network_of(model, batch),
        batch.tokens,
        noised.masked,
        noised.t,
        batch.free,
        MASK,
    )
    expected = gradients(model, textbook)
    loss = masked_cross_entropy(model, noised)
    per_token = loss.total / loss.count
    got = gradients(model, per_token)
    assert abs(float((per_token - textbook).detach())) < 1e-6 * float(textbook.detach())
    assert len(got) > 3
    largest = max(float(grad.abs().max()) for grad in expected.values())
    assert largest > 1e-3
    for name, grad in expected.items():
        assert grad.abs().max() > 0, name
        assert (got[name] - grad).abs().max() <= 5e-7 * max(1.0, largest), name


@every_model
def test_the_whole_step_is_the_references(build):
    model, batch = made(build), a_batch()
    loss = nelbo(model, batch, schedule=LogLinear(), draw=DRAW)
    noised = corrupt_for_training(batch, schedule=LogLinear(), draw=DRAW, mask_id=MASK)
    textbook = reference.loss(
        reference.network_of(model, batch),
        batch.tokens,
        loss.masked,
        noised.t,
        batch.free,
        MASK,
    )
    torch.testing.assert_close(loss.total / loss.count, textbook, rtol=1e-6, atol=0)


@pytest.mark.parametrize("time_conditioned", [False, True])
def test_a_new_model_costs_ln_of_the_tokens(time_conditioned):
    config = DiTConfig(
        blocks=1, width=8, heads=2, cond_width=8, time_conditioned=time_conditioned
    )
    model = made(lambda: DiT(config, vocab_size=50258, mask_id=50257, length=LENGTH))
    measured = exact_counts(model, a_batch(), draws=2, noise=Noise(0))
    mean, error = measured.per_token()
    assert mean == pytest.approx(math.log(50257), abs=1e-5)
    assert mean == pytest.approx(10.825, abs=1e-3)
    assert error < 1e-5


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("fused", [True, False])
def test_no_logits_of_all_positions_are_made(fused):
    model, batch = made(lambda: Mixer(fused)), a_batch()
    noised = corrupt_for_training(batch, schedule=LogLinear(), draw=DRAW, mask_id=MASK)
    hidden = int(noised.masked.sum())
    assert 0 < hidden < 0.7 * ROWS * LENGTH
    with Largest() as ours:
        masked_cross_entropy(model, noised).total.backward()
    assert ours.numel == hidden * VOCAB
    network, shown = reference.network_of(model, batch), (noised.masked, noised.t)
    with Largest() as textbook:
        reference.loss(network, batch.tokens, *shown, batch.free, MASK).backward()
    assert textbook.numel == ROWS * LENGTH * VOCAB


# ---- the reference itself ---------------------------------------------------


def even_network(canvas):
    return torch.zeros(*canvas.shape, VOCAB)


def test_reference_loss_of_even_logits():
    batch = a_batch()
    masked, t = batch.free, torch.ones(ROWS)
    loss = reference.loss(even_network, batch.tokens, masked, t, batch.free, MASK)
    assert float(loss) == pytest.approx(math.log(VOCAB - 1), abs=1e-5)


@pytest.mark.parametrize("cache", [False, True])
def test_reference_samplers_fill_the_canvas_and_keep_the_prompt(cache):
    canvas = torch.full((3, 10), MASK)
    canvas[:, :2] = 7
    generator = torch.Generator().manual_seed(0)
    tokens, evaluations = reference.sample(
        even_network, canvas, 12, MASK, generator, cache=cache
    )
    assert (tokens != MASK).all()
    assert (tokens[:, :2] == 7).all()
    assert tokens.unique().numel() > 10
    assert evaluations <= 13 if cache else evaluations == 13


def test_reference_gumbel_loses_rare_tokens():
    # 0.999 on one outcome and a rare one below what 24 bits of u can reach
    probabilities = torch.full((200_000, 2), 1e-4)
    probabilities[:, 0] = 1 - 1e-4
    drawn = reference.gumbel_draw(probabilities, torch.Generator().manual_seed(0))
    assert float(drawn.float().mean()) == pytest.approx(1e-4, abs=1e-4)
    rare = torch.full((2000, 5000), 1e-12)
    rare[:, 0] = 1 - 5e-9
    drawn = reference.gumbel_draw(rare, torch.Generator().manual_seed(0))
    assert (drawn == 0).all()


def test_reference_average_follows_its_warm_up():
    weight = torch.zeros(2)
    ema = reference.Ema([weight], 0.9)
    weight += 1
    ema.update([weight])
    # decay min(0.9, 2 / 11), then min(0.9, 3 / 12)
    expected = 1 - 2 / 11
    torch.testing.assert_close(ema.shadow[0], torch.full((2,), expected))
    ema.update([weight])
    expected += 0.75 * (1 - expected)
    torch.testing.assert_close(ema.shadow[0], torch.full((2,), expected))
