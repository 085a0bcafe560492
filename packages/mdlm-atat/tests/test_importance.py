"""The importance network: what it sees, what it must not see, that it can learn."""

import pytest
import torch

from mdlm_atat.config import ImportanceConfig
from mdlm_atat.importance import COND_WIDTH, ImportanceEstimator
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise, global_seed

V, MASK, L = 13, 5, 10


def new(seed=0, **changes):
    config = ImportanceConfig(**{"width": 32, "heads": 2} | changes)
    with global_seed(Noise(seed)):
        return ImportanceEstimator(config, vocab_size=V, mask_id=MASK, length=L)


def rows(count=3, length=L, **fields):
    u = Noise(1).uniform(torch.arange(count), length)
    return Batch.of((u * V).long(), **fields)


T = torch.tensor([0.2, 0.5, 0.9])


def test_importance_is_one_number_per_position():
    found = new()(rows(), T)
    assert found.shape == (3, L)
    assert found.dtype == torch.float32
    assert ((found > 0) & (found < 1)).all()
    assert found.std() > 1e-3


def test_it_is_a_small_mlp_over_the_states_of_a_dit():
    network = new().eval()
    states = network.hidden(rows(), T)
    first, _, last = network.head
    inner = torch.nn.functional.gelu(
        states @ first.weight.T + first.bias, approximate="tanh"
    )
    expected = torch.sigmoid((inner @ last.weight.T + last.bias)[..., 0])
    torch.testing.assert_close(network(rows(), T), expected)


def test_there_is_no_vocabulary_head():
    width, blocks = 32, 2
    count = sum(parameter.numel() for parameter in new().parameters())
    block = 2 * width + 4 * width**2 + (8 * width + 5) * width
    block += (COND_WIDTH + 1) * 6 * width
    level = 257 * COND_WIDTH + (COND_WIDTH + 1) * COND_WIDTH
    last = width + (COND_WIDTH + 1) * 2 * width
    head = width**2 + 2 * width + 1
    assert count == V * width + blocks * block + level + last + head


@pytest.mark.parametrize("conv_kernel", [0, 3])
def test_every_parameter_has_a_gradient_at_the_first_step(conv_kernel):
    network = new(conv_kernel=conv_kernel)
    (network(rows(), T) - 0.3).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-7, name


def test_gates_start_near_one_and_all_modulation_knows_the_time():
    network = new()
    condition = network.conditioning(rows(), T)
    for block in network.blocks:
        gates = block.modulation(condition).chunk(6, dim=-1)[2::3]
        for gate in gates:
            assert (gate - 1).abs().max() < 0.3
    for layer in (network.modulation, *(block.modulation for block in network.blocks)):
        for part in layer(condition).split(32, dim=-1):
            assert (part[0] - part[2]).abs().max() > 1e-4


def test_padding_and_other_rows_do_not_matter():
    network, pad = new(conv_kernel=3).eval(), torch.zeros(3, L, dtype=torch.bool)
    pad[1, 7:] = True
    batch = rows(pad=pad)
    whole = network(batch, T)
    other = network(batch.with_tokens(batch.tokens.masked_fill(pad, 2)), T)
    torch.testing.assert_close(other, whole)
    for row in range(3):
        alone = network(batch.select(slice(row, row + 1)), T[row : row + 1])
        free = ~pad[row]
        torch.testing.assert_close(alone[0][free], whole[row][free])
    cut = Batch.of(batch.tokens[1:2, :7])
    torch.testing.assert_close(network(cut, T[1:2])[0], whole[1, :7])


def test_it_sees_the_time_and_the_other_tokens():
    network, batch = new(), rows()
    assert (network(batch, T) - network(batch, T.flip(0))).abs()[0].max() > 1e-4
    tokens = batch.tokens.clone()
    tokens[:, 0] = (tokens[:, 0] + 1) % V
    moved = (network(batch.with_tokens(tokens), T) - network(batch, T)).abs()
    assert (moved[:, 1:].amax(1) > 1e-6).all()


def test_it_reads_masks_other_lengths_and_float64_times():
    network = new()
    canvas = rows(length=17).with_tokens(torch.full((3, 17), MASK))
    found = network(canvas, T.double())
    assert found.shape == (3, 17)
    assert found.isfinite().all()


def test_under_autocast_the_answer_is_float32():
    with torch.autocast("cpu", torch.bfloat16):
        found = new()(rows(), T)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, new()(rows(), T), atol=0.02, rtol=0)


def test_it_learns_which_tokens_are_important():
    network = new(blocks=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    tokens = (Noise(2).uniform(torch.arange(16), L) * V).long()
    batch, t = Batch.of(tokens), torch.linspace(0.1, 0.9, 16)
    goal = (tokens % 3).float() / 2
    for _ in range(60):
        loss = (network(batch, t) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
