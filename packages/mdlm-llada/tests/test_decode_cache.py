"""Caches: approximate ones against their published loops, the exact one against none.

The oracle of the approximate caches is a Llama written plainly, which is given keys
and values of other positions from an earlier evaluation. V = 40.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig
from mdlm_llada.decode import loop
from mdlm_llada.decode.states import Whole
from mdlm_llada.nn.trunk import LLaDA

from .decode_toy import MASK, PROMPTS, canvas, model, run

G, S = 16, 8
Kept = list[tuple[Tensor, Tensor]]
"""Keys and values ``(L, H, K)`` of every layer."""


def plain(
    trunk: LLaDA, tokens: Tensor, first: int, kept: Kept | None
) -> tuple[Tensor, Kept]:
    """Return logits ``(N, V)`` of `tokens` at `first`, ...; and all keys and values."""
    a = trunk.architecture
    end = first + len(tokens)
    turns = torch.arange(first, end)[:, None] * a.rope_theta ** (
        -torch.arange(0, a.head_size, 2) / a.head_size
    )
    cos, sin = turns.cos()[:, None], turns.sin()[:, None]

    def normed(x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + a.norm_eps).rsqrt() * weight

    def turned(x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

    x = trunk.embed.weight[tokens]
    found: Kept = []
    for number, block in enumerate(trunk.blocks):
        n = normed(x, block.attention_norm.weight)
        q, k, v = (
            (n @ linear.weight.T).view(len(tokens), -1, a.head_size)
            for linear in (block.q, block.k, block.v)
        )
        q, k = turned(q), turned(k)
        if kept is not None:
            k, v = (
                torch.cat([old[:first], new, old[end:]])
                for old, new in zip(kept[number], (k, v), strict=True)
            )
        found.append((k, v))
        scores = torch.einsum("nhk,mhk->hnm", q, k) * a.head_size**-0.5
        mixed = torch.einsum("hnm,mhk->nhk", scores.softmax(-1), v)
        x = x + mixed.flatten(1) @ block.out.weight.T
        n = normed(x, block.mlp_norm.weight)
        gate = n @ block.gate.weight.T
        x = x + (gate * gate.sigmoid() * (n @ block.up.weight.T)) @ block.down.weight.T
    return normed(x, trunk.norm.weight) @ trunk.head.weight.T, found


def fast(trunk: LLaDA, prompt: list[int], *, dual: bool, refresh: int) -> list[int]:
    """Decode one token a step with Fast-dLLM's caches (arXiv 2505.22618)."""
    x = torch.tensor([*prompt, *[MASK] * G])
    for first in range(len(prompt), len(x), S):
        kept: Kept = []
        for step in range(S):
            begin, end = (first, first + S) if dual else (first, len(x))
            if step == 0 or (refresh and step % refresh == 0):
                begin, end = 0, len(x)
                logits, kept = plain(trunk, x, 0, None)
            else:
                before = None if not dual else kept
                if not dual:  # what is behind the prefix is computed anew
                    before = [(k[:first], v[:first]) for k, v in kept]
                logits, _ = plain(trunk, x[begin:end], begin, before)
            logits = logits[first - begin : first - begin + S]
            logits[:, MASK] = -torch.inf
            sure, best = logits.softmax(-1).max(-1)
            sure[x[first : first + S] != MASK] = -1
            place = int(sure.argmax())
            x[first + place] = best[place]
    return x.tolist()


@pytest.mark.parametrize("refresh", [0, 3])
@pytest.mark.parametrize("cache", ["approx-prefix", "approx-dual"])
def test_caches_decode_as_published(cache: str, refresh: int) -> None:
    trunk = model()
    settings = DecodeConfig(steps=G, block=S, cache=cache, refresh=refresh)
    found = run(trunk, canvas(PROMPTS, G), settings).tokens
    exact = run(trunk, canvas(PROMPTS, G), DecodeConfig(steps=G, block=S)).tokens
    for row, prompt in zip(found, PROMPTS, strict=True):
        expected = fast(trunk, prompt, dual=cache == "approx-dual", refresh=refresh)
        assert row[: len(expected)].tolist() == expected
    assert (found != exact).any()  # they are approximations


@pytest.mark.parametrize("family", ["llada", "dream", "llada-moe"])
@pytest.mark.parametrize("cache", ["approx-prefix", "approx-dual"])
def test_a_cache_made_anew_at_every_step_is_exact(family: str, cache: str) -> None:
    trunk, rows = model(family), canvas(PROMPTS, G)
    for more in ({}, {"threshold": 0.3, "temperature": 1.0}):
        exact = run(trunk, rows, DecodeConfig(steps=G, block=S, **more))
        settings = DecodeConfig(steps=G, block=S, cache=cache, refresh=1, **more)
        found = run(trunk, rows, settings)
        assert (found.tokens == exact.tokens).all()
        assert (found.nfe == exact.nfe).all()


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("cache", ["approx-prefix", "approx-dual"])
def test_cached_rows_do_not_depend_on_their_batch(family: str, cache: str) -> None:
    trunk, rows = model(family), canvas([*PROMPTS, [5], [6, 6]], G)
    settings: dict[str, Any] = {"steps": G, "block": S, "cache": cache}
    settings |= {"threshold": 0.3, "temperature": 1.0}
    together = run(trunk, rows, DecodeConfig(**settings))
    for size in (1, 2, 4):
        alone = run(trunk, rows, DecodeConfig(batch_size=size, **settings))
        assert (alone.tokens == together.tokens).all()
        assert (alone.nfe == together.nfe).all()
    known = rows.tokens != MASK
    assert (together.tokens[known] == rows.tokens[known]).all()


def test_block_diffusion_computes_a_full_block_once_more_and_never_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trunk, fed = model("llada2", block_size=S), []
    states = trunk.states

    def counted(tokens: Tensor, **rest: Any) -> Tensor:
        fed.append(tokens.numel())
        return states(tokens, **rest)

    monkeypatch.setattr(trunk, "states", counted)
    run(trunk, canvas([[5] * 19], 13), DecodeConfig(steps=13, block=S))
    # The prompt with the first block; the rest of it; both blocks; the second one.
    assert fed == [3 * S, S, S, S, S, 2 * S, *[S] * 7]


@pytest.mark.parametrize("answer", [16, 13])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"threshold": 0.3},
        {"temperature": 1.0},
        {"threshold": 0.2, "edit_threshold": 0.3},
    ],
)
def test_the_cache_of_block_diffusion_is_exact(
    answer: int, more: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, rows = model("llada2", block_size=S), canvas(PROMPTS, answer)
    settings = DecodeConfig(steps=answer, block=S, **more)
    fed = 0
    states = trunk.states

    def counted(tokens: Tensor, **rest: Any) -> Tensor:
        nonlocal fed
        fed += tokens.numel()
        return states(tokens, **rest)

    monkeypatch.setattr(trunk, "states", counted)
    found = run(trunk, rows, settings)
    pairs = run(trunk, rows, DecodeConfig(steps=answer, block=S, batch_size=2, **more))
    monkeypatch.setattr(loop, "source", lambda denoiser, *_, **__: Whole(denoiser))
    exact = run(trunk, rows, settings)
    assert (found.tokens == exact.tokens).all()
    assert (found.nfe == exact.nfe).all()
    assert (pairs.tokens == exact.tokens).all()
    assert 0 < fed < 2 * int(exact.nfe.sum()) * rows.length


def test_block_diffusion_decodes_blocks_of_the_model() -> None:
    trunk, seen = model("llada2", block_size=S), []
    rows = canvas([[1, 2, 3]], 2 * S - 3)
    run(
        trunk,
        rows,
        DecodeConfig(steps=2 * S - 3, block=S),
        callback=lambda _, tokens: seen.append(tokens[0] == MASK),
    )
    assert [int(masked[:S].sum()) for masked in seen[: S - 3]] == [4, 3, 2, 1, 0]
    assert all(masked[S:].all() for masked in seen[: S - 3])
    with pytest.raises(UsageError, match=r"block is 4, but the model sees blocks of 8"):
        run(trunk, rows, DecodeConfig(steps=8, block=4))
    with pytest.raises(UsageError, match="has an exact cache"):
        run(trunk, rows, DecodeConfig(steps=8, block=8, cache="approx-dual"))


def test_block_diffusion_keeps_to_its_steps_under_a_threshold() -> None:
    """LLaDA 2 commits a step's count even if nothing reaches the threshold."""
    trunk, seen = model("llada2", block_size=S), []
    rows = canvas([[]], 2 * S)
    settings = DecodeConfig(steps=4, block=S, threshold=1.0)
    found = run(
        trunk,
        rows,
        settings,
        callback=lambda _, tokens: seen.append(int((tokens == MASK).sum())),
    )
    assert found.nfe.tolist() == [4]
    assert seen == [12, 8, 4, 0]
    both_ways = run(model(), rows, settings)
    assert both_ways.nfe.tolist() == [2 * S]  # one at a time


def edited(
    trunk: LLaDA, x: Tensor, first: int, *, steps: int, bound: float, most: int
) -> tuple[list[int], int]:
    """Fill one block ``(1, L)``, by count; replace what is surely another token."""
    size, evaluations, after = x.shape[1] - first, 0, 0
    while True:
        logits = trunk.logits(trunk.hidden(Batch.of(x))[0, first:])
        logits[:, MASK] = -torch.inf
        sure, best = logits.softmax(-1).max(-1)
        now = x[0, first:].clone()
        masked = now == MASK
        full = not masked.any()
        count = size // steps + (evaluations < size % steps)
        order = torch.where(masked, sure, -1).argsort(descending=True)
        chosen = order[: min(count, int(masked.sum()))]
        x[0, first + chosen] = best[chosen]
        replace = ~masked & (sure >= bound) & (best != now)
        x[0, first:] = torch.where(replace, best, x[0, first:])
        evaluations += 1
        if full:
            after += 1
        if not (x == MASK).any() and (after == most or torch.equal(x[0, first:], now)):
            return x[0].tolist(), evaluations


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [0.2, 0.6])
def test_edits_as_written_plainly(seed: int, bound: float) -> None:
    trunk = model("llada2", block_size=S, seed=seed)
    rows = canvas([[1, 2, 3]], S - 3)
    settings = {"steps": 2, "block": S, "edit_steps": 5}
    found = run(trunk, rows, DecodeConfig(edit_threshold=bound, **settings))
    expected, evaluations = edited(
        trunk, rows.tokens.clone(), 3, steps=2, bound=bound, most=5
    )
    assert found.tokens[0].tolist() == expected
    assert found.nfe.tolist() == [evaluations]


def test_editing_changes_something_and_then_nothing() -> None:
    evaluations, changed = set(), False
    for seed in range(4):
        trunk = model("llada2", block_size=S, seed=seed)
        rows = canvas([[1, 2, 3]], S - 3)
        settings = {"steps": 2, "block": S, "edit_steps": 5}
        never = run(trunk, rows, DecodeConfig(**settings))
        for bound in (0.2, 0.6, 0.8):
            found = run(trunk, rows, DecodeConfig(edit_threshold=bound, **settings))
            changed |= bool((found.tokens != never.tokens).any())
            evaluations.add(int(found.nfe))
    assert changed
    assert min(evaluations) == 3  # one more, which finds nothing to replace
    assert max(evaluations) == 7  # as many as allowed


def test_caches_refuse_what_they_do_not_know() -> None:
    trunk, rows = model(), canvas(PROMPTS, G)
    settings = DecodeConfig(steps=G, block=S, cache="approx-dual")
    walls = Batch.of(rows.tokens, documents=torch.zeros_like(rows.tokens))
    with pytest.raises(UsageError, match="no walls between documents"):
        run(trunk, walls, settings)
