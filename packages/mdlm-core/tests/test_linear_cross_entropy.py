"""The fused head and loss against the plain one, and what it never makes."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mdlm_core.kernels import linear_cross_entropy as public
from mdlm_core.kernels import linear_log_prob
from mdlm_core.nn import DiT

D = 8
SIZES = [  # rows, vocabulary, mask
    (1, 2, 0),
    (7, 5, 4),
    (300, 11, 3),
    (31, 1000, 999),
]


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of 8 rows, so that small sizes have many, and an odd last one."""
    import sys

    module = sys.modules[public.__module__]
    monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(module, "ENTRIES", 0)
    monkeypatch.setattr(module, "BLOCK", 300)


def problem(rows, vocabulary, mask, *, dtype=torch.float32, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.to(dtype).requires_grad_()

    hidden, weight = draw(rows, D), draw(vocabulary, D)
    offset = draw(vocabulary) if bias else None
    others = [v for v in range(vocabulary) if v != mask]
    choice = torch.randint(0, len(others), (rows,), generator=generator)
    targets = torch.tensor(others)[choice]
    row_weights = torch.rand(rows, generator=generator) * 3
    return hidden, weight, offset, targets, row_weights, mask


def plain(hidden, weight, bias, targets, row_weights, mask_id):
    """All logits at once, the mask's column at minus infinity."""
    column = torch.zeros(len(weight), dtype=hidden.dtype).index_fill(
        0, torch.tensor([mask_id]), -torch.inf
    )
    logits = F.linear(hidden, weight, bias) + column
    nll = F.cross_entropy(logits, targets, reduction="none")
    return (row_weights.to(nll.dtype) * nll).sum(), nll.detach()


def compare(arguments, factor=0.3):
    """Yield relative distances to the plain path in float64: loss, nll, gradients."""
    results = []
    for function, dtype in ((public, torch.float32), (plain, torch.float64)):
        leaves = [None if x is None else x.detach().to(dtype) for x in arguments[:3]]
        present = [x.requires_grad_() for x in leaves if x is not None]
        total, nll = function(*leaves, *arguments[3:])
        gradients = torch.autograd.grad(total * factor, present)
        results.append((total.detach(), nll, *gradients))
    for one, other in zip(*results, strict=True):
        yield ((one - other).norm() / other.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradients_equal_the_plain_path(size, bias):
    for difference in compare(problem(*size, bias=bias)):
        assert difference < 1e-6


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 17, 40])
def test_chunks_meet_without_a_seam(chunks, rows):
    for difference in compare(problem(rows, 1000, 17)):
        assert difference < 1e-6


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_gradients_are_derivatives(leaf):
    """Against central differences in float64, in random directions."""
    arguments = list(problem(11, 6, 2, dtype=torch.float64))
    gradient = torch.autograd.grad(public(*arguments)[0], arguments[leaf])[0]
    generator = torch.Generator().manual_seed(leaf)
    point, step = arguments[leaf].detach(), 1e-5
    for _ in range(5):
        way = torch.randn(point.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            arguments[leaf] = point + sign * step * way
            ends.append(public(*arguments)[0].item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx((gradient * way).sum().item(), rel=1e-7, abs=1e-8)


def test_the_mask_has_no_probability_and_no_gradient():
    arguments = problem(50, 9, 4)
    _, weight, bias = arguments[:3]
    with torch.no_grad():
        bias[4] = 100.0  # would win everything
    total, nll = public(*arguments)
    assert nll.max() < 50
    grad_weight, grad_bias = torch.autograd.grad(total, (weight, bias))
    assert torch.equal(grad_weight[4], torch.zeros(D))
    assert grad_bias[4] == 0


def test_an_empty_selection_is_zero_and_goes_backward():
    arguments = problem(0, 9, 4)
    total, nll = public(*arguments)
    assert total.item() == 0
    assert nll.shape == (0,)
    total.backward()
    assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in arguments[:3])
    assert linear_log_prob(*arguments[:4], 4).shape == (0,)


def test_rows_without_weight_count_for_nothing():
    hidden, weight, bias, targets, row_weights, mask = problem(20, 9, 4)
    some = row_weights * (torch.arange(20) < 12)
    part = (hidden[:12], weight, bias, targets[:12], row_weights[:12], mask)
    whole, half = public(hidden, weight, bias, targets, some, mask), public(*part)
    assert whole[0].item() == pytest.approx(half[0].item(), rel=1e-6)
    gradients = [torch.autograd.grad(x[0], weight)[0] for x in (whole, half)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5
    total, _ = public(hidden, weight, bias, targets, 0 * row_weights, mask)
    assert torch.equal(torch.autograd.grad(total, hidden)[0], torch.zeros(20, D))


def test_large_weights_and_logits_stay_finite():
    hidden, weight, bias, targets, row_weights, mask = problem(20, 9, 4)
    total, nll = public(hidden * 1e3, weight * 10, bias, targets, row_weights, mask)
    assert nll.isfinite().all()
    total.backward()
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("need", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_what_is_needed_gets_a_gradient(need):
    arguments = problem(20, 9, 4)
    for i, x in enumerate(arguments[:3]):
        x.requires_grad_(i in need)
    public(*arguments)[0].backward()
    assert tuple(i for i in range(3) if arguments[i].grad is not None) == need
    twin = problem(20, 9, 4)
    plain(*twin)[0].backward()
    for i in need:
        assert (arguments[i].grad - twin[i].grad).abs().max() < 1e-5


def test_nll_is_detached_and_a_second_pass_is_refused():
    total, nll = public(*problem(5, 9, 4))
    assert not nll.requires_grad
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        total.backward()


def test_gradients_accumulate_over_calls():
    arguments = problem(5, 9, 4)
    for _ in range(2):
        public(*arguments)[0].backward()
    twin = problem(5, 9, 4)
    (2 * plain(*twin)[0]).backward()
    assert (arguments[1].grad - twin[1].grad).abs().max() < 1e-5


def test_log_prob_is_minus_the_loss_of_each_row():
    arguments = problem(30, 9, 4)
    log_prob = linear_log_prob(*arguments[:4], 4)
    assert log_prob.dtype == torch.float32
    assert not log_prob.requires_grad
    assert (log_prob + plain(*arguments)[1]).abs().max() < 1e-5
    hidden, weight, bias = arguments[:3]
    sums = torch.stack(
        [
            linear_log_prob(hidden, weight, bias, torch.full((30,), v), 4).exp()
            for v in range(9)
            if v != 4
        ]
    ).sum(0)
    assert (sums - 1).abs().max() < 1e-6


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_products_in_its_type(dtype):
    arguments = problem(30, 1000, 4)
    exact = compare_total(arguments, contextlib.nullcontext())
    low = compare_total(arguments, torch.autocast("cpu", dtype))
    total, nll, *gradients = low
    assert total.dtype == nll.dtype == torch.float32
    for gradient, leaf in zip(gradients, arguments[:3], strict=True):
        assert gradient.dtype == leaf.dtype
    for one, other in zip(low, exact, strict=True):
        difference = (one - other).norm() / other.norm()
        assert 1e-7 < difference < 1e-2


def compare_total(arguments, context):
    with context:
        total, nll = public(*arguments)
    return total.detach(), nll, *torch.autograd.grad(total, arguments[:3])


def test_float16_survives_large_row_weights():
    hidden, weight, bias, targets, row_weights, mask = problem(300, 11, 3)
    with torch.autocast("cpu", torch.float16):
        total, _ = public(hidden, weight, bias, targets, row_weights * 1e5, mask)
    gradient = torch.autograd.grad(total, weight)[0] / 1e5
    twin = problem(300, 11, 3)
    plain(*twin)[0].backward()
    assert (gradient - twin[1].grad).norm() / twin[1].grad.norm() < 1e-2


def test_a_low_precision_head_gets_gradients_of_its_type():
    arguments = problem(20, 9, 4, dtype=torch.bfloat16)
    total, nll = public(*arguments)
    total.backward()
    assert total.dtype == nll.dtype == torch.float32
    assert all(x.grad.dtype == torch.bfloat16 for x in arguments[:3])


class Largest(TorchDispatchMode):
    """Remembers the most entries of a tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.entries = max([self.entries, *sizes])
        return out


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("autocast", [False, True])
def test_the_logits_of_all_rows_are_never_there(autocast):
    rows, vocabulary = 200, 1000
    arguments = problem(rows, vocabulary, 4)
    with Largest() as seen, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        public(*arguments)[0].backward()
        linear_log_prob(*arguments[:4], 4)
    assert seen.entries <= 8 * vocabulary  # a chunk, or the gradient of the head
    with Largest() as seen:
        plain(*arguments)
    assert seen.entries == rows * vocabulary  # the counter counts


def test_a_chunk_has_256_rows_at_a_large_vocabulary():
    rows, vocabulary = 600, 50258
    hidden, weight = torch.zeros(rows, 1), torch.zeros(vocabulary, 1)
    targets, ones = torch.zeros(rows, dtype=torch.int64), torch.ones(rows)
    with Largest() as seen:
        _, nll = public(hidden, weight, None, targets, ones, 50257)
    assert seen.entries == 256 * vocabulary
    assert (nll - torch.tensor(50257.0).log()).abs().max() < 1e-5


def test_a_new_model_loses_the_logarithm_of_the_words():
    from mdlm_core.config.components import DiTConfig

    config = DiTConfig(blocks=1, width=8, heads=1, cond_width=4)
    model = DiT(config, vocab_size=258, mask_id=257, length=4)
    targets = torch.arange(16)
    hidden = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    head = model.head
    log_prob = linear_log_prob(hidden, head.weight, head.bias, targets, 257)
    assert (log_prob + torch.tensor(257.0).log()).abs().max() < 1e-6


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_residual_is_the_distance_to_the_target(size, autocast, chunks):
    hidden, weight, bias, targets, row_weights, mask = problem(*size)
    norms = torch.empty(len(hidden))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        public(hidden, weight, bias, targets, row_weights, mask, residual=norms)
    logits = F.linear(hidden.double(), weight.double(), bias.double())
    p = logits.index_fill(1, torch.tensor([mask]), -torch.inf).softmax(1)
    expected = (p - F.one_hot(targets, len(weight))).norm(dim=1)
    assert torch.allclose(norms.double(), expected, atol=0.05 if autocast else 1e-3)
