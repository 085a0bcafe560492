"""Attention: every backend against a loop over positions, and who sees whom."""

import importlib.machinery
import itertools
import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.errors import ConfigError, MissingExtraError
from mdlm_core.nn import attention
from mdlm_core.nn.attention import attend, resolve_backend
from mdlm_core.nn.packed import sequences

B, H, L, K = 3, 2, 11, 16
CPU = torch.device("cpu")

PAD = torch.zeros(B, L, dtype=torch.bool)
PAD[0, 8:] = True
PAD[1, :3] = True
DOCUMENTS = torch.tensor(
    [
        [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
        [5, 5, 5, 5, 7, 7, 7, 7, 7, 7, 7],
        [1, 2, 1, 2, 1, 2, 3, 3, 1, 1, 1],  # one document in several pieces
    ]
)
WALLS = {
    "open": (None, None),
    "padded": (PAD, None),
    "packed": (None, DOCUMENTS),
    "both": (PAD, DOCUMENTS),
}


def qkv(dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(1)
    shape = (3, B, H, L, K)
    return torch.randn(shape, generator=generator).to(device, dtype).unbind()


def by_hand(q, k, v, pad, documents):
    """One position at a time, in float64; rows where nothing is seen stay zero."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(q)
    for b, h, i in itertools.product(range(B), range(H), range(L)):
        seen = [
            j
            for j in range(L)
            if (pad is None or not pad[b, j])
            and (documents is None or documents[b, i] == documents[b, j])
        ]
        if seen:
            scores = torch.stack([q[b, h, i] @ k[b, h, j] for j in seen])
            weights = (scores / math.sqrt(K)).softmax(0)
            out[b, h, i] = sum(
                w * v[b, h, j] for w, j in zip(weights, seen, strict=True)
            )
    return out


def difference(out, expected, pad):
    """Padded positions have no defined result and are left out."""
    there = slice(None) if pad is None else ~pad
    gap = (out.double().cpu() - expected).transpose(1, 2)[there]
    return gap.abs().max().item()


@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("backend", ["auto", "sdpa", "flex", "eager"])
def test_backends_equal_a_loop(backend, walls):
    pad, documents = WALLS[walls]
    q, k, v = qkv()
    out = attend(q, k, v, pad=pad, documents=documents, backend=backend)
    assert difference(out, by_hand(q, k, v, pad, documents), pad) < 2e-6


@pytest.fixture
def fake_flash(monkeypatch):
    """The interface of flash-attn in plain torch, so that the packing is tested."""

    def dense(q, k, v):  # (B, L, H, K)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return ((q @ k.mT / math.sqrt(K)).softmax(-1) @ v).transpose(1, 2)

    def varlen(q, k, v, bounds_q, bounds_k, longest_q, longest_k):  # (N, H, K)
        assert bounds_q.dtype == bounds_k.dtype == torch.int32
        assert int(bounds_q.diff().max()) == longest_q == longest_k
        parts = [
            dense(*(x[None, a:b] for x in (q, k, v)))[0]
            for a, b in itertools.pairwise(bounds_q.tolist())
        ]
        return torch.cat(parts)

    module = types.ModuleType("flash_attn")
    module.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
    module.flash_attn_func, module.flash_attn_varlen_func = dense, varlen
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    monkeypatch.setattr(attention, "resolve_backend", lambda *_, **__: "flash")


@pytest.mark.parametrize("walls", WALLS)
def test_flash_packing_equals_a_loop(fake_flash, walls):
    pad, documents = WALLS[walls]
    q, k, v = qkv()
    out = attend(q, k, v, pad=pad, documents=documents, backend="flash")
    assert difference(out, by_hand(q, k, v, pad, documents), pad) < 2e-6


@pytest.mark.gpu
@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("backend", ["auto", "sdpa", "flex", "flash"])
def test_backends_equal_a_loop_on_an_accelerator(backend, walls):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if backend == "flash":
        pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    pad, documents = WALLS[walls]
    q, k, v = qkv(torch.bfloat16, "cuda")
    there = [None if x is None else x.cuda() for x in (pad, documents)]
    out = attend(q, k, v, pad=there[0], documents=there[1], backend=backend)
    expected = by_hand(q.cpu(), k.cpu(), v.cpu(), pad, documents)
    assert difference(out, expected, pad) < 2e-2  # bf16


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize("walls", ["padded", "both"])
def test_what_stands_in_padding_is_never_seen(backend, walls):
    pad, documents = WALLS[walls]
    q, k, v = qkv()
    hole = pad[:, None, :, None]
    other = [x.masked_fill(hole, 1e4) for x in (q, k, v)]
    first = attend(q, k, v, pad=pad, documents=documents, backend=backend)
    second = attend(*other, pad=pad, documents=documents, backend=backend)
    assert torch.equal(first.masked_fill(hole, 0), second.masked_fill(hole, 0))


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
def test_a_row_of_padding_alone_stays_finite(backend, documents, monkeypatch):
    """Some kernels divide zero by zero where nothing is seen: the mask avoids it."""
    masks, kernel = [], F.scaled_dot_product_attention

    def spy(*args, attn_mask):
        masks.append(attn_mask)
        return kernel(*args, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    pad = PAD.clone()
    pad[2] = True
    training = backend == "sdpa"
    q, k, v = (x.requires_grad_(training) for x in qkv())
    out = attend(q, k, v, pad=pad, documents=documents, backend=backend)
    assert out.isfinite().all()
    if training:
        assert masks[0].any(dim=-1).all()
        out.sum().backward()
        assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_gradients_of_the_dense_mask_equal_those_of_separate_rows():
    q, k, v = (x[:1].requires_grad_() for x in qkv())
    documents = torch.tensor([[0] * 4 + [1] * 7])
    attend(q, k, v, documents=documents, backend="sdpa").square().sum().backward()
    apart = [x.detach().requires_grad_() for x in (q, k, v)]
    for part in (slice(0, 4), slice(4, None)):
        attend(*(x[:, :, part] for x in apart)).square().sum().backward()
    for one, other in zip((q, k, v), apart, strict=True):
        assert (one.grad - other.grad).abs().max() < 1e-5


@pytest.mark.parametrize("documents", [False, True])
def test_auto_on_a_cpu(documents):
    for dtype, name in ((torch.float32, "sdpa"), (torch.bfloat16, "eager")):
        assert resolve_backend("auto", CPU, dtype, documents=documents) == name


@pytest.mark.parametrize("length", [attention.EAGER_LENGTH, 513])
def test_short_and_long_rows_of_bfloat16(length):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, length, K, generator=generator)
    documents = (torch.arange(length) > 100)[None].long()
    exact = attend(q, k, v, documents=documents, backend="sdpa")
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), documents=documents)
    assert low.dtype == torch.bfloat16
    assert (low - exact).norm() / exact.norm() < 1e-2


def test_flash_says_what_to_install():
    if importlib.util.find_spec("flash_attn"):
        pytest.skip("flash-attn is installed")
    with pytest.raises(MissingExtraError, match=r"mdlm-core\[flash-attn\]"):
        resolve_backend("flash", CPU, torch.bfloat16)


def test_flash_needs_half_precision_on_cuda(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    resolve = resolve_backend.__wrapped__
    for device, dtype in (("cpu", torch.bfloat16), ("cuda", torch.float32)):
        with pytest.raises(ConfigError, match="bfloat16 on CUDA"):
            resolve("flash", torch.device(device), dtype)
    assert resolve("flash", torch.device("cuda"), torch.bfloat16) == "flash"


def test_flash_scores_in_float32_by_sdpa(monkeypatch):
    cuda = torch.device("cuda")
    for found in (object(), None):  # installed or not
        monkeypatch.setattr(attention, "find_spec", lambda name, found=found: found)
        resolve = resolve_backend.__wrapped__
        assert resolve("flash", cuda, torch.float32, gradients=False) == "sdpa"
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    assert resolve("flash", cuda, torch.bfloat16, gradients=False) == "flash"
    with pytest.raises(ConfigError, match="bfloat16 on CUDA"):
        resolve("flash", cuda, torch.float32)
    q, k, v = qkv()
    resolve_backend.cache_clear()
    with torch.no_grad():
        out = attend(q, k, v, backend="flash")
    assert torch.equal(out, attend(q, k, v, backend="sdpa"))
    with pytest.raises(ConfigError, match="bfloat16 on CUDA"):
        attend(q, k, v, backend="flash")
    resolve_backend.cache_clear()


def test_auto_takes_the_fused_block_mask_for_documents_on_cuda(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    resolve, cuda = resolve_backend.__wrapped__, torch.device("cuda")
    assert resolve("auto", cuda, torch.bfloat16, documents=True) == "flex"
    assert resolve("auto", cuda, torch.bfloat16, documents=False) == "sdpa"
    monkeypatch.setattr(attention, "find_spec", lambda name: None)  # no Triton
    assert resolve("auto", cuda, torch.bfloat16, documents=True) == "sdpa"


def test_unknown_backend():
    with pytest.raises(ConfigError, match=r"'xformers'.*auto, sdpa, flex or flash"):
        resolve_backend("xformers", CPU, torch.float32)


def test_flex_says_that_it_cannot_train_on_a_cpu():
    q, k, v = (x.requires_grad_() for x in qkv())
    with pytest.raises(ConfigError, match=r"model\.attention=sdpa"):
        attend(q, k, v, documents=DOCUMENTS, backend="flex")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_sequences_are_the_documents_of_the_rows(data):
    rows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    cells = st.lists(st.integers(0, 2), min_size=length, max_size=length)
    table = st.lists(cells, min_size=rows, max_size=rows)
    documents = torch.tensor(data.draw(table)) if data.draw(st.booleans()) else None
    pad = torch.tensor(data.draw(table)) == 0
    order, bounds, longest = sequences(pad, documents)

    expected = {}
    for b, i in itertools.product(range(rows), range(length)):
        if not pad[b, i]:
            name = (b, 0 if documents is None else int(documents[b, i]))
            expected.setdefault(name, []).append(b * length + i)
    starts = bounds.tolist()
    found = [order[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert sorted(found) == sorted(expected.values())
    assert longest == max(map(len, expected.values()), default=0)
