"""Decoding against the published loop, written plainly. V = 40."""

from typing import Any

import pytest
import torch

from mdlm_core.errors import MdlmError, UsageError
from mdlm_core.nn.dit import DiT
from mdlm_core.samplers import Denoiser
from mdlm_llada.config import DecodeConfig
from mdlm_llada.decode import PromptGuidance

from .decode_toy import MASK, PROMPTS, Table, V, canvas, logits_of, model, run
from .textbook import textbook

G, S = 16, 8
SETTINGS = DecodeConfig(steps=16, block=S)


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize(("steps", "scale"), [(16, 0.0), (6, 0.0), (32, 0.0), (8, 0.7)])
def test_decodes_as_published(family: str, steps: int, scale: float) -> None:
    trunk = model(family)
    settings = DecodeConfig(steps=steps, block=S, cfg_scale=scale)
    found = run(trunk, canvas(PROMPTS, G), settings)
    for row, prompt in zip(found.tokens, PROMPTS, strict=True):
        expected = textbook(
            logits_of(trunk),
            torch.tensor([prompt]),
            mask_id=MASK,
            answer=G,
            block=S,
            steps=steps,
            cfg_scale=scale,
        )
        assert row[: len(prompt) + G].tolist() == expected[0].tolist()
    evaluations = min(steps, G) * (2 if scale else 1)
    assert found.nfe.tolist() == [evaluations] * len(PROMPTS)


def test_head_runs_on_masked_positions_of_the_block_alone() -> None:
    trunk = model()
    denoiser = Denoiser(trunk, temperature=0.0)
    run(trunk, canvas([[1, 2, 3]], G), SETTINGS, denoiser=denoiser)
    assert denoiser.count.head_rows == 2 * sum(range(1, S + 1))
    assert denoiser.count.rows == denoiser.count.calls == G


@pytest.mark.parametrize(
    ("temperature", "rule"),
    [
        (0.0, {}),
        (0.7, {}),
        (1.0, {"remasking": "random"}),
        (0.0, {"threshold": 0.4}),
        (1.0, {"threshold": 0.4}),
        (0.0, {"factor": 1.0, "remasking": "margin"}),
        (1.0, {"entropy_bound": 1.5, "remasking": "entropy"}),
    ],
)
def test_batches_change_nothing(temperature: float, rule: dict[str, Any]) -> None:
    trunk, rows = model(), canvas([*PROMPTS, [5], [6, 6]], G)
    settings = {"temperature": temperature, **rule}
    together = run(trunk, rows, DecodeConfig(steps=8, block=S, **settings))
    for size in (1, 4):
        config = DecodeConfig(steps=8, block=S, batch_size=size, **settings)
        alone = run(trunk, rows, config)
        assert (alone.tokens == together.tokens).all()
        assert (alone.nfe == together.nfe).all()
    known = rows.tokens != MASK
    assert (together.tokens[known] == rows.tokens[known]).all()
    if set(rule) & {"threshold", "factor", "entropy_bound"}:
        assert len(set(together.nfe.tolist())) > 1  # rows at their own pace
    else:
        assert together.nfe.tolist() == [8] * len(rows)


def test_no_guidance_is_guidance_by_zero() -> None:
    trunk, rows = model(), canvas(PROMPTS, G)
    where = rows.tokens == MASK
    plain = Denoiser(trunk, banned=[4])
    guided = PromptGuidance(plain, 0.0)
    with torch.no_grad():
        expected = torch.cat(list(plain.laws(rows, where)))
        found = torch.cat(list(guided.laws(rows, where)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    a = run(trunk, rows, SETTINGS)
    b = run(trunk, rows, DecodeConfig(steps=16, block=S, cfg_scale=0.0))
    assert (a.tokens == b.tokens).all()
    assert (a.nfe == G).all()
    assert (b.nfe == G).all()


def test_guidance_is_linear_in_the_logits() -> None:
    trunk, rows = model(), canvas([[1, 2, 3]], 4)
    where = rows.tokens == MASK
    without = rows.tokens.masked_fill(rows.frozen, MASK)
    c, u = logits_of(trunk)(torch.cat([rows.tokens, without]))
    logits = (u + 2.5 * (c - u))[where[0]]
    logits[:, MASK] = -torch.inf
    guided = PromptGuidance(Denoiser(trunk), 1.5)
    found = torch.cat(list(guided.laws(rows, where)))
    torch.testing.assert_close(found, logits.log_softmax(-1), atol=2e-5, rtol=1e-5)


def test_draws_follow_the_tempered_law() -> None:
    rows, temperature = 4000, 0.7
    logits = 1.5 * torch.sin(torch.arange(float(V)))[None]
    found = run(
        Table(logits),
        canvas([[]] * rows, 1),
        DecodeConfig(steps=1, block=1, temperature=temperature, batch_size=rows),
    ).tokens[:, 0]
    law = (logits[0, :MASK] / temperature).softmax(-1) * rows
    seen = torch.bincount(found, minlength=V)[:MASK]
    chi_square = float(((seen - law) ** 2 / law).sum())
    assert len(seen) - 1 - 4 * 8.7 < chi_square < len(seen) - 1 + 4 * 8.7


def test_random_order_is_uniform() -> None:
    rows, first = 3000, []

    def note(step: int, tokens: torch.Tensor) -> None:
        if step == 1:
            first.append((tokens != MASK).float().argmax(1))

    settings = DecodeConfig(steps=4, block=4, remasking="random", batch_size=rows)
    run(Table(torch.zeros(4, V)), canvas([[]] * rows, 4), settings, callback=note)
    seen = torch.bincount(first[0], minlength=4)
    assert float(((seen - rows / 4) ** 2 / (rows / 4)).sum()) < 16.3  # p = 0.001


def test_every_evaluation_has_draws_of_its_own() -> None:
    rows = 1000
    settings = DecodeConfig(steps=2, block=1, temperature=1.0, batch_size=rows)
    found = run(Table(torch.zeros(2, V)), canvas([[]] * rows, 2), settings).tokens
    equal = (found[:, 0] == found[:, 1]).float().mean()  # 1 / 39 by chance
    assert 0.0 < equal < 0.05
    assert len(found[:, 0].unique()) == V - 1


def test_core_backbones_decode() -> None:
    from mdlm_core.config.components import DiTConfig

    config = DiTConfig(blocks=1, width=16, heads=2, cond_width=8, dropout=0.0)
    backbone = DiT(config, vocab_size=V, mask_id=MASK, length=24).eval()
    found = run(backbone, canvas(PROMPTS, G), SETTINGS)
    assert not (found.tokens[canvas(PROMPTS, G).free] == MASK).any()
    with pytest.raises(UsageError, match=r"cache=approx-dual needs .* DiT"):
        run(backbone, canvas(PROMPTS, G), DecodeConfig(cache="approx-dual"))


def test_refuses_guidance_of_guidance() -> None:
    trunk = model()
    guided = PromptGuidance(Denoiser(trunk), 1.0)
    settings = DecodeConfig(steps=16, block=S, cfg_scale=1.0)
    with pytest.raises(UsageError, match="PromptGuidance, which guides by itself"):
        run(trunk, canvas(PROMPTS, G), settings, denoiser=guided)


@pytest.mark.parametrize("remasking", ["low_confidence", "margin", "entropy"])
def test_a_model_that_has_diverged_is_refused(remasking: str) -> None:
    backbone = Table(torch.full((16, V), torch.nan))
    settings = DecodeConfig(steps=16, block=S, remasking=remasking)
    with pytest.raises(MdlmError, match="not finite"):
        run(backbone, canvas([[]], 16), settings)
