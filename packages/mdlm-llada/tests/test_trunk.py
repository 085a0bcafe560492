"""The trunk computes what transformers' models of the same kind compute."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_llada.architecture import Architecture
from mdlm_llada.backbone import build
from mdlm_llada.config import ExpertsConfig, LLaDAConfig
from mdlm_llada.nn.key_values import KeyValues
from mdlm_llada.nn.trunk import LLaDA

from .peers import peer, peer_logits
from .trunks import MASK, tokens, trunk


def logits(model: LLaDA, batch: Batch) -> Tensor:
    with torch.no_grad():
        states = model.hidden(batch)
        return model.logits(states.flatten(0, 1)).view(*states.shape[:2], -1)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_a_dense_llada_is_a_llama_that_sees_both_ways(
    kv_heads: int, tied: bool
) -> None:
    model = trunk(kv_heads=kv_heads, tied=tied)
    canvas = tokens(length=23)
    expected = peer_logits(peer(model), canvas)
    found = logits(model, Batch.of(canvas))
    assert expected.std() > 0.5
    assert (found - expected).abs().max() == 0.0


def test_dream_is_a_qwen2_whose_logits_are_moved_by_one() -> None:
    model = trunk("dream")
    canvas = tokens()
    plain = peer_logits(peer(model), canvas)
    expected = torch.cat((plain[:, :1], plain[:, :-1]), dim=1)
    assert (logits(model, Batch.of(canvas)) - expected).abs().max() == 0.0


@pytest.mark.parametrize("normed", [False, True])
def test_llada_moe_has_the_router_of_qwen3_with_its_norm_or_without(
    normed: bool,
) -> None:
    built = trunk("llada-moe")
    config = {**built.architecture.to_json(), "norm_topk_prob": normed}
    model = LLaDA(Architecture.from_json(config, "config.json"), mask_id=MASK).eval()
    model.load_state_dict(built.state_dict())
    canvas = tokens()
    expected = peer_logits(peer(model), canvas)
    torch.testing.assert_close(
        logits(model, Batch.of(canvas)), expected, atol=2e-5, rtol=1e-5
    )


def test_llada2_is_a_grouped_mixture_with_a_block_causal_mask() -> None:
    model = trunk("llada2")
    canvas = tokens(length=10)
    block = torch.arange(10) // 4
    see = (block[:, None] >= block)[None, None]
    expected = peer_logits(peer(model), canvas, see)
    found = logits(model, Batch.of(canvas))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_padding_is_not_seen() -> None:
    model = trunk()
    canvas = tokens(rows=1, length=9)
    wide = torch.cat((canvas, tokens(rows=1, length=5, seed=1)), dim=1)
    pad = (torch.arange(14) >= 9)[None]
    found = logits(model, Batch.of(wide, pad=pad))[:, :9]
    torch.testing.assert_close(found, logits(model, Batch.of(canvas)))


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe", "llada2"])
def test_rows_do_not_depend_on_each_other_or_on_padding(family: str) -> None:
    model = trunk(family)
    canvas = tokens(rows=3)
    lengths = torch.tensor([14, 9, 5])
    pad = torch.arange(14) >= lengths[:, None]
    found = logits(model, Batch.of(canvas, pad=pad))
    for row, length in enumerate(lengths.tolist()):
        alone = logits(model, Batch.of(canvas[row : row + 1, :length]))[0]
        torch.testing.assert_close(found[row, :length], alone, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llada", "dream", "llada2"])
def test_documents_are_rows_of_their_own(family: str) -> None:
    model = trunk(family)
    canvas = tokens(rows=1, length=13)
    documents = (torch.arange(13) >= 8).long()[None]
    positions = torch.cat((torch.arange(8), torch.arange(5)))[None, :, None]
    packed = logits(model, Batch.of(canvas, documents=documents, positions=positions))[
        0
    ]
    first = logits(model, Batch.of(canvas[:, :8]))[0]
    second = logits(model, Batch.of(canvas[:, 8:]))[0]
    torch.testing.assert_close(packed, torch.cat((first, second)), atol=3e-5, rtol=1e-5)


def test_left_padding_does_not_reach_dreams_first_token() -> None:
    model = trunk("dream")
    canvas = tokens(rows=1, length=9)
    wide = torch.cat((tokens(rows=1, length=3, seed=1), canvas), dim=1)
    pad = (torch.arange(12) < 3)[None]
    positions = (torch.arange(12) - 3).clamp(min=0)[None, :, None]
    found = logits(model, Batch.of(wide, pad=pad, positions=positions))[:, 3:]
    torch.testing.assert_close(
        found, logits(model, Batch.of(canvas)), atol=3e-5, rtol=1e-5
    )


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe"])
@torch.no_grad()
def test_a_fresh_cache_changes_nothing(family: str) -> None:
    model = trunk(family)
    canvas = tokens()
    everywhere = torch.arange(14).expand(2, -1)
    plain = model.states(canvas, positions=everywhere)
    cache = KeyValues.empty(model.architecture, 2, 14)
    filled = model.states(canvas, positions=everywhere, cache=cache)
    assert torch.equal(filled, plain)
    # A part of the same canvas, around which everything is kept.
    part = model.states(canvas[:, 4:8], positions=everywhere[:, 4:8], cache=cache)
    torch.testing.assert_close(part, plain[:, 4:8], atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_may_write_to_slots_of_their_own() -> None:
    model = trunk()
    canvas = tokens()
    everywhere = torch.arange(14).expand(2, -1)
    plain = model.states(canvas, positions=everywhere)
    cache = KeyValues.empty(model.architecture, 2, 14)
    model.states(canvas, positions=everywhere, cache=cache)
    for kept in (*cache.keys, *cache.values):
        kept[0, :, 2:5] = 9.0  # to be written again
        kept[1, :, 7:10] = 9.0
    where = torch.tensor([[2, 3, 4], [7, 8, 9]])
    found = model.states(
        canvas.gather(1, where), positions=where, cache=cache, keep=slice(1, 3)
    )
    expected = torch.stack((plain[0, 3:5], plain[1, 8:10]))
    # Blocks above the first see what was written before: only the first block's
    # inputs are those of the whole pass, and with a canvas unchanged so are all.
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cache_of_block_diffusion_is_exact() -> None:
    model = trunk("llada2")
    canvas = tokens(length=10)
    whole = model.hidden(Batch.of(canvas))
    cache = KeyValues.empty(model.architecture, 2, 12)
    parts = []
    for start in range(0, 10, 4):
        end = min(start + 4, 10)
        positions = torch.arange(start, end).expand(2, -1)
        parts.append(
            model.states(
                canvas[:, start:end], positions=positions, cache=cache.upto(end)
            )
        )
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_noisy_blocks_see_the_clean_ones_before_them() -> None:
    model = trunk("llada2")
    clean = tokens(length=10)
    pad = torch.arange(10) >= torch.tensor([[10], [7]])
    noisy = clean.masked_fill(tokens(length=10, seed=3) % 2 == 0, MASK)
    batch = Batch.of(noisy, pad=pad, condition={"clean": clean})
    found = model.hidden(batch)
    assert found.shape == (2, 10, 32)
    for start in range(0, 10, 4):  # decoding: the block on top of what is settled
        block = slice(start, min(start + 4, 10))
        canvas = torch.cat((clean[:, :start], noisy[:, block]), dim=1)
        ends = pad[:, : canvas.shape[1]]
        expected = model.hidden(Batch.of(canvas, pad=ends))[:, start:]
        there = ~pad[:, block]
        torch.testing.assert_close(
            found[:, block][there], expected[there], atol=3e-5, rtol=1e-5
        )


@torch.no_grad()
def test_kept_states_are_the_same_under_any_mask() -> None:
    model = trunk()
    canvas = tokens()
    positions = torch.arange(14).expand(2, -1)
    for see in (None, torch.ones(14, 14, dtype=torch.bool).tril()[None, None]):
        whole = model.states(canvas, positions=positions, see=see)
        part = model.states(canvas, positions=positions, see=see, keep=slice(3, 7))
        torch.testing.assert_close(part, whole[:, 3:7], atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_masks_hide() -> None:
    model = trunk()
    canvas = tokens(rows=1, length=8)
    other = canvas.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 50
    positions = torch.arange(8)[None]
    see = (torch.arange(8) < 5)[None, None, None]
    one, two = (model.states(x, positions=positions, see=see) for x in (canvas, other))
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.equal(one[:, 5:], two[:, 5:])


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe", "llada2"])
def test_recomputed_blocks_have_the_same_gradients(family: str) -> None:
    model = trunk(family).train()
    batch = Batch.of(tokens())
    gradients = []
    for again in (False, True):
        model.zero_grad()
        model.gradient_checkpointing = again
        model.logits(model.hidden(batch).flatten(0, 1)).logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(g is not None and torch.isfinite(g).all() for g in gradients[0])
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe", "llada2"])
def test_mixed_precision_trains_every_weight(family: str) -> None:
    model = trunk(family).train()
    batch = Batch.of(tokens(), condition={"clean": tokens(seed=2)})
    exact = model.hidden(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = model.hidden(batch)
        model.logits(states.flatten(0, 1)).float().logsumexp(-1).sum().backward()
    assert states.dtype == torch.float32  # the stream is never rounded
    assert (states - exact).abs().mean() < 0.1 * exact.abs().mean()
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all()
        for parameter in model.parameters()
    )


@torch.no_grad()
def test_a_traced_trunk_computes_the_same() -> None:
    model = trunk(blocks=2)
    batch = Batch.of(tokens())
    expected = model.hidden(batch)
    traced = torch.compile(model.hidden, backend="eager")
    assert torch.equal(traced(batch), expected)


@pytest.mark.parametrize("rows_of_see", [1, 6])
def test_bfloat16_on_a_cpu_is_near_float32(rows_of_see: int) -> None:
    model = trunk()
    canvas = tokens(length=6)
    see = tokens(rows=2 * rows_of_see, length=6).view(2, 1, rows_of_see, 6) > 20
    see[..., 0] = True
    positions = torch.arange(6).expand(2, -1)
    with torch.no_grad():
        exact = model.states(canvas, positions=positions, see=see)
        low = model.bfloat16().states(canvas, positions=positions, see=see)
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_the_routers_correction_stays_exact() -> None:
    model = trunk("llada2")
    biases = [b.clone() for n, b in model.named_buffers() if n.endswith("bias")]
    model = model.bfloat16()
    kept = [b for n, b in model.named_buffers() if n.endswith("bias")]
    assert len(kept) == 2
    assert all(torch.equal(a, b) for a, b in zip(kept, biases, strict=True))


def test_copies_do_without_tables_and_compute_the_same() -> None:
    model = trunk()
    batch = Batch.of(tokens())
    expected = logits(model, batch)
    size = len(pickle.dumps(model))
    assert size < 4 * sum(p.numel() for p in model.parameters()) + 60_000
    assert torch.equal(logits(copy.deepcopy(model), batch), expected)
    assert "rotary" not in " ".join(model.state_dict())


def test_rows_longer_than_the_first_table() -> None:
    model = trunk(blocks=1, width=8, heads=1, kv_heads=1)
    far = torch.tensor([[4095, 4096, 9000]])
    near = far - 4095
    expected, found = (
        model.states(tokens(rows=1, length=3), positions=p) for p in (near, far)
    )
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_a_new_model_is_small_where_it_adds_to_the_stream() -> None:
    model = build(
        LLaDAConfig(blocks=8, width=64), vocab_size=300, mask_id=299, length=8
    )
    assert abs(model.blocks[0].q.weight.std().item() - 0.02) < 1e-3
    for layer in (model.blocks[3].out, model.blocks[3].down):
        assert abs(layer.weight.std().item() - 0.02 / 4) < 3e-4


def test_the_published_8b_has_the_published_size() -> None:
    config = LLaDAConfig(
        blocks=32, width=4096, heads=32, mlp_width=12288, rope_theta=5e5
    )
    architecture = Architecture.from_settings(config, 126464, 126336)
    with torch.device("meta"):
        model = LLaDA(architecture, mask_id=126336)
    sizes = [parameter.numel() for parameter in model.parameters()]
    assert len(sizes) == 291
    assert sum(sizes) == 8_015_581_184  # 8.016 billion (arXiv 2502.09992)


def test_what_cannot_be_is_refused() -> None:
    model = trunk()
    batch = Batch.of(tokens())
    two = torch.zeros(2, 14, 2, dtype=torch.long)
    with pytest.raises(UsageError, match="one position axis, not 2"):
        model.hidden(replace(batch, positions=two))
    cache = KeyValues.empty(model.architecture, 2, 14)
    with pytest.raises(UsageError, match="no gradients"):
        model.states(batch.tokens, positions=two[..., 0], cache=cache)
    with pytest.raises(ConfigError, match="the mask of the tokenizer is 3"):
        build(LLaDAConfig(mask_token_id=4), vocab_size=9, mask_id=3, length=8)
    shared = LLaDAConfig(family="llada-moe", experts=ExpertsConfig(shared=1))
    with pytest.raises(ConfigError, match=r"experts\.shared is 1"):
        build(shared, vocab_size=9, mask_id=3, length=8)
