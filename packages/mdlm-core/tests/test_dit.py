"""The diffusion transformer against a second derivation, and what it must not see."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn import DiT
from mdlm_core.nn.conv import LocalMix
from mdlm_core.nn.rotary import angles, rotate

V, MASK, L = 13, 12, 10
SMALL = DiTConfig(blocks=2, width=32, heads=2, cond_width=16, dropout=0.0)


def new(seed=0, **changes):
    with global_seed(Noise(seed)):
        config = replace(SMALL, **changes)
        return DiT(config, vocab_size=V, mask_id=MASK, length=L)


def trained(seed=0, **changes):
    """A model whose every weight is away from its initial value."""
    model = new(seed, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def canvas(rows=3, seed=0, length=L, **fields):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, V, (rows, length), generator=generator)
    return Batch.of(tokens, **fields)


def gap(a, b):
    return (a - b).abs().max().item()


# ---- sizes and initial state ------------------------------------------------


@pytest.mark.parametrize(
    ("width", "blocks", "heads", "count"),
    [
        (512, 8, 8, 80_061_266),
        (768, 12, 12, 169_627_218),
        (1024, 24, 16, 424_477_010),
    ],
)
def test_parameter_counts_of_the_reference(width, blocks, heads, count):
    config = DiTConfig(width=width, blocks=blocks, heads=heads)
    with torch.device("meta"):
        model = DiT(config, vocab_size=50258, mask_id=50257, length=1024)
    assert sum(p.numel() for p in model.parameters()) == count
    assert not list(model.buffers())


@pytest.mark.parametrize("kernel", [0, 7])
def test_a_new_model_gives_every_token_the_same_logit(kernel):
    model, batch = new(conv_kernel=kernel), canvas()
    hidden = model.hidden(batch)
    assert torch.equal(model.logits(hidden), torch.zeros(3, L, V))
    assert gap(hidden, F.layer_norm(model.embed(batch.tokens), (32,))) < 1e-6


def test_the_embedding_is_uniform_within_its_bound():
    table = new(width=256, heads=4).embed.weight
    bound = 256**-0.5
    assert table.abs().max() <= bound
    assert table.var().item() == pytest.approx(bound**2 / 3, rel=0.1)


def test_the_global_generator_alone_decides_the_weights():
    one, same, other = new(1), new(1), new(2)
    assert torch.equal(one.blocks[0].qkv.weight, same.blocks[0].qkv.weight)
    assert not torch.equal(one.blocks[0].qkv.weight, other.blocks[0].qkv.weight)


# ---- the equations ----------------------------------------------------------


def by_the_book(model, batch, t=None):
    """The forward pass as the paper's code states it: float64, loops, no sharing."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    heads, width = model.config.heads, model.config.width
    size = width // heads

    def linear(x, name):
        out = x @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name]

    def silu(x):
        return x / (1 + torch.exp(-x))

    def gelu(x):
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + inner.tanh())

    def turn(x):  # (L, K): plane k is the complex number x_k + i x_{k + K/2}
        z = torch.complex(x[:, : size // 2], x[:, size // 2 :])
        for i, k in itertools.product(range(len(x)), range(size // 2)):
            phase = torch.tensor(i * 10000 ** (-2 * k / size), dtype=torch.float64)
            z[i, k] = z[i, k] * torch.polar(torch.ones_like(phase), phase)
        return torch.cat((z.real, z.imag), -1)

    states = []
    for row, tokens in enumerate(batch.tokens):
        sigma = torch.tensor(0.0, dtype=torch.float64)
        if model.time_conditioned:
            sigma = -torch.log(1 - (1 - 1e-3) * t[row].double())
        k = torch.arange(128, dtype=torch.float64)
        frequencies = 10000 ** (-k / 128)
        c = torch.cat(((sigma * frequencies).cos(), (sigma * frequencies).sin()))
        c = silu(linear(silu(linear(c, "noise_level.up")), "noise_level.down"))
        x = w["embed.weight"][tokens]
        for n in range(model.config.blocks):
            at = f"blocks.{n}"
            six = linear(c, f"{at}.modulation").chunk(6)
            y = norm(x, f"{at}.norm1.weight") * (1 + six[1]) + six[0]
            q, k, v = linear(y, f"{at}.qkv").split(width, -1)
            outs = []
            for h in range(heads):
                one = slice(h * size, (h + 1) * size)
                scores = turn(q[:, one]) @ turn(k[:, one]).T / math.sqrt(size)
                outs.append(scores.softmax(-1) @ v[:, one])
            x = x + six[2] * linear(torch.cat(outs, -1), f"{at}.out")
            y = norm(x, f"{at}.norm2.weight") * (1 + six[4]) + six[3]
            x = x + six[5] * linear(gelu(linear(y, f"{at}.up")), f"{at}.down")
        shift, scale = linear(c, "modulation").chunk(2)
        states.append(norm(x, "norm.weight") * (1 + scale) + shift)
    return torch.stack(states)


@pytest.mark.parametrize("timed", [False, True])
def test_states_follow_the_equations(timed):
    model, batch = trained(time_conditioned=timed), canvas()
    t = torch.tensor([0.1, 0.5, 0.9])
    hidden = model.hidden(batch, t)
    assert hidden.dtype == torch.float32
    assert gap(hidden.double(), by_the_book(model, batch, t)) < 2e-5
    logits = hidden @ model.head.weight.T + model.head.bias
    assert gap(model.logits(hidden), logits) < 1e-5


def test_every_weight_learns():
    model = trained(conv_kernel=3).train()
    model.logits(model.hidden(canvas())).square().sum().backward()
    still = [n for n, p in model.named_parameters() if not p.grad.abs().max() > 0]
    assert still == []


def test_a_new_model_starts_to_learn():
    """Zero gates do not stop learning: three steps reach every weight."""
    model, batch = new(conv_kernel=3).train(), canvas()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = list(model.parameters())
    for _ in range(3):
        loss = F.cross_entropy(
            model.logits(model.hidden(batch)).flatten(0, 1), batch.tokens.flatten()
        )
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.data -= gradient
    still = [n for n, p in model.named_parameters() if torch.equal(p, start[n])]
    assert still == []


# ---- the condition ----------------------------------------------------------


def test_without_time_one_condition_serves_all_rows():
    model, batch = trained(), canvas(rows=5)
    assert model.conditioning(batch, None).shape == (1, 16)
    shapes = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.in_features == 16:
            module.register_forward_hook(lambda *io: shapes.append(io[2].shape[0]))
    one = model.hidden(batch)
    assert set(shapes) == {1}
    assert torch.equal(one, model.hidden(batch, torch.rand(5)))


def test_time_is_asked_for_and_seen():
    model, batch = trained(time_conditioned=True), canvas()
    with pytest.raises(UsageError, match="conditioned on time"):
        model.hidden(batch)
    t = torch.tensor([0.2, 0.4, 0.9])
    other = torch.tensor([0.2, 0.5, 0.9])
    moved = (model.hidden(batch, t) - model.hidden(batch, other)).abs().amax((1, 2))
    assert moved[1] > 1e-3
    assert moved[[0, 2]].max() < 1e-6


def test_shared_and_per_row_conditions_agree():
    class PerRow(DiT):
        def conditioning(self, batch, t):
            return super().conditioning(batch, t).expand(len(batch), -1)

    model, batch = trained(), canvas()
    twin = PerRow(model.config, vocab_size=V, mask_id=MASK, length=L)
    twin.load_state_dict(model.state_dict())
    assert gap(model.hidden(batch), twin.hidden(batch)) < 1e-5


def test_a_subclass_may_condition_on_what_the_batch_carries():
    class Labelled(DiT):
        def conditioning(self, batch, t):
            return super().conditioning(batch, t) + batch.condition["label"]

    model = trained()
    twin = Labelled(model.config, vocab_size=V, mask_id=MASK, length=L)
    twin.load_state_dict(model.state_dict())
    label = torch.zeros(3, 16)
    label[1] = 1
    hidden = twin.hidden(canvas(condition={"label": label}))
    moved = (hidden - model.hidden(canvas())).abs().amax((1, 2))
    assert moved[1] > 1e-2
    assert moved[[0, 2]].max() < 1e-5


# ---- what is not seen -------------------------------------------------------


@pytest.mark.parametrize("kernel", [0, 5])
@pytest.mark.parametrize("timed", [False, True])
def test_padding_changes_nothing(kernel, timed):
    model = trained(conv_kernel=kernel, time_conditioned=timed)
    t = torch.tensor([0.3, 0.6, 0.8])
    pad = torch.zeros(3, L, dtype=torch.bool)
    pad[0, 6:] = pad[2, 1:] = True
    batch = canvas(pad=pad)
    hidden = model.hidden(batch, t)
    for junk in (0, MASK, -100, 10**9):  # not even an id
        other = batch.with_tokens(batch.tokens.masked_fill(pad, junk))
        assert gap(model.hidden(other, t), hidden) == 0
    alone = Batch.of(batch.tokens[:1, :6])
    assert gap(model.hidden(alone, t[:1]), hidden[:1, :6]) < 1e-5
    wider = Batch.of(
        F.pad(batch.tokens, (0, 7)), pad=F.pad(batch.pad, (0, 7), value=True)
    )
    assert gap(model.hidden(wider, t)[:, :L][~pad], hidden[~pad]) < 1e-5


@pytest.mark.parametrize("kernel", [0, 5])
def test_other_rows_change_nothing(kernel):
    model, batch = trained(conv_kernel=kernel), canvas(rows=4)
    hidden = model.hidden(batch)
    other = batch.tokens.clone()
    other[1:] = canvas(rows=3, seed=9).tokens
    assert gap(model.hidden(batch.with_tokens(other))[0], hidden[0]) < 1e-5
    for row in range(4):
        alone = model.hidden(batch.select(slice(row, row + 1)))[0]
        assert gap(alone, hidden[row]) < 1e-5


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize("kernel", [0, 7])
def test_packed_documents_are_as_good_as_separate_rows(kernel, backend):
    model = trained(conv_kernel=kernel, attention=backend)
    documents = torch.tensor([[0] * 4 + [1] * 5 + [2], [3] * 10, [4] * 2 + [5] * 8])
    batch = canvas(documents=documents)
    with torch.no_grad():
        hidden = model.hidden(batch)
        for row, document in ((0, 0), (0, 1), (0, 2), (1, 3), (2, 4), (2, 5)):
            where = documents[row] == document
            alone = Batch.of(batch.tokens[row, where][None])
            assert gap(model.hidden(alone)[0], hidden[row, where]) < 2e-5
        one = canvas(documents=torch.zeros_like(documents))
        assert gap(model.hidden(one), model.hidden(canvas())) < 1e-5


# ---- the convolution --------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 7, 25])
@pytest.mark.parametrize("walls", [False, True])
def test_the_convolution_is_a_sum_over_neighbours(kernel, walls):
    generator = torch.Generator().manual_seed(kernel)
    mix = LocalMix(6, kernel).double()
    with torch.no_grad():
        mix.weight.copy_(torch.randn(kernel, 6, generator=generator))
        mix.bias.copy_(torch.randn(6, generator=generator))
    x = torch.randn(2, L, 6, generator=generator, dtype=torch.float64)
    pad = torch.rand(2, L, generator=generator) < 0.3
    documents = torch.tensor([[0, 0, 1, 1, 1, 0, 0, 2, 2, 2], [1] * 10])
    out = mix(x, pad=pad, documents=documents if walls else None)
    expected = mix.bias.expand(2, L, 6).clone()
    for b, i, j in itertools.product(range(2), range(L), range(L)):
        k = j - i + kernel // 2
        open_ = not walls or documents[b, i] == documents[b, j]
        if 0 <= k < kernel and not pad[b, j] and open_:
            expected[b, i] += mix.weight[k] * x[b, j]
    assert gap(out, expected) < 1e-12


# ---- positions --------------------------------------------------------------


def test_rotation_depends_on_distance_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, L, 1, 1, 16, generator=generator)
    near = torch.arange(L)[None, :, None]

    def scores(positions):
        turned = [rotate(x, angles(positions, 16))[0, :, 0, 0] for x in (q, k)]
        return turned[0] @ turned[1].T

    assert gap(scores(near), scores(near + 500)) < 1e-3
    assert gap(scores(near), scores(near * 2)) > 0.1


def test_two_axes_share_the_planes():
    """Along one axis alone, a head turns as a head of half the size does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, L, 1, 1, 16, generator=generator)
    i = torch.arange(L)[None, :, None]
    both = angles(torch.cat((i, 3 * i), -1), 16)
    for axis, positions in enumerate((i, 3 * i)):
        own = [c + axis * 4 + h for h in (0, 8) for c in range(4)]
        turned = rotate(x, both)[..., own]
        assert gap(turned, rotate(x[..., own], angles(positions, 8))) < 1e-6


def test_positions_of_the_batch_are_used():
    model = trained()
    where = torch.arange(L)[None, :, None].expand(3, -1, -1)
    plain = model.hidden(canvas())
    assert gap(model.hidden(canvas(positions=where)), plain) < 1e-6
    assert gap(model.hidden(canvas(positions=where + 100)), plain) < 1e-3
    assert gap(model.hidden(canvas(positions=where * 2)), plain) > 1e-3
    plane = torch.cat((where // 5, where % 5), -1)
    hidden = model.hidden(canvas(positions=plane))
    swap = torch.arange(L).view(2, 5).flip(0).flatten()  # rows of the plane change
    batch = canvas(positions=plane)
    moved = replace(
        batch, tokens=batch.tokens[:, swap], positions=batch.positions[:, swap]
    )
    assert gap(model.hidden(moved), hidden[:, swap]) < 1e-5  # places in memory do not


def test_too_many_axes_for_a_head():
    batch = canvas(positions=torch.zeros(3, L, 3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="size 16 cannot hold 3 position axes"):
        trained().hidden(batch)


# ---- precision, memory, modes -----------------------------------------------


def test_autocast_keeps_the_states_near():
    model, batch = trained(conv_kernel=3, time_conditioned=True), canvas()
    t = torch.tensor([0.3, 0.6, 0.8])
    exact = model.hidden(batch, t)
    seen = []
    model.blocks[1].qkv.register_forward_hook(lambda *io: seen.append(io[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(batch, t)
        condition = model.conditioning(batch, t)
    assert seen == [torch.bfloat16]
    assert hidden.dtype == torch.float32  # the residual stream and the norms
    relative = (hidden - exact).norm() / exact.norm()
    assert 1e-5 < relative < 2e-2
    hidden.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.blocks.parameters())
    assert condition.dtype == torch.bfloat16  # called on its own, autocast holds


def test_a_model_may_be_bfloat16_throughout():
    exact, model = trained(conv_kernel=3), trained(conv_kernel=3).bfloat16()
    hidden = model.hidden(canvas())
    assert hidden.dtype == model.logits(hidden).dtype == torch.bfloat16
    wanted = exact.hidden(canvas())
    assert (hidden - wanted).norm() / wanted.norm() < 3e-2


def test_recomputing_blocks_changes_no_gradient():
    gradients = []
    for switch in (False, True):
        model = trained(dropout=0.2, conv_kernel=3).train()
        model.gradient_checkpointing = switch
        with global_seed(Noise(5)):
            model.hidden(canvas()).square().sum().backward()
        gradients.append([p.grad for p in model.blocks.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_recomputing_blocks_keeps_fewer_tensors():
    kept = []
    for switch in (False, True):
        model = trained().train()
        model.gradient_checkpointing = switch
        count = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, count=count: (count.append(x.numel()), x)[1], lambda x: x
        ):
            model.hidden(canvas())
        kept.append(sum(count))
    assert kept[1] < kept[0] / 3


def test_dropout_acts_in_training_alone():
    model, batch = trained(dropout=0.5), canvas()
    assert torch.equal(model.hidden(batch), model.hidden(batch))
    model.train()
    with global_seed(Noise(1)):
        assert gap(model.hidden(batch), model.hidden(batch)) > 1e-2


def test_longer_canvases_than_announced_work():
    assert trained().hidden(canvas(length=3 * L)).shape == (3, 3 * L, 32)


def test_the_trunk_can_be_traced_for_compilation():
    model = trained(conv_kernel=3)
    traced = torch.compile(model.hidden, backend="eager")
    pad = torch.zeros(3, L, dtype=torch.bool)
    pad[0, 6:] = True
    with torch.no_grad():
        for batch in (canvas(), canvas(pad=pad)):
            assert gap(traced(batch), model.hidden(batch)) < 1e-6
