"""Log-probabilities in one step, and those of complementary masks."""

from dataclasses import replace

import pytest
import torch

from mdlm_core.kernels.noise import Noise
from mdlm_llada.preference.mean_field import log_probs, views, written

from .preference_toy import PROMPTS, SIZE, plain_log_probs, prompts
from .sft_toy import MASK, ToyBackbone, V


def answers(copies=1):
    """Return two answers to each prompt."""
    generator = torch.Generator().manual_seed(3)
    found = torch.randint(0, V - 1, (3 * copies, 2, SIZE), generator=generator)
    return found + (found >= MASK)


def several(copies):
    batch = prompts()
    return replace(
        batch.select(torch.arange(3).repeat(copies)),
        sample_id=torch.arange(3 * copies),
    )


def test_answers_stand_behind_their_prompts():
    rows = written(prompts(), answers())
    assert rows.batch.sample_id.tolist() == [22, 8, 14, 23, 9, 15]
    for r, ids in enumerate(rows.batch.tokens.tolist()):
        prompt, answer = PROMPTS[r % 3], answers()[r % 3, r // 3].tolist()
        size = len(prompt) + SIZE
        assert ids[:size] == prompt + answer
        assert rows.batch.free[r].nonzero()[:, 0].tolist() == [
            *range(len(prompt), size)
        ]
        assert rows.batch.pad[r].tolist() == [False] * size + [True] * (8 - size)
    assert torch.equal(rows.answers, answers().transpose(0, 1).reshape(6, SIZE))


def test_one_step_log_probabilities_hide_the_whole_answer():
    backbone = ToyBackbone()
    rows = written(prompts(), answers())
    counted = torch.ones(6, SIZE, dtype=torch.bool)
    counted[4, 2:] = False
    found = log_probs(
        backbone, rows, counted, noise=Noise(0), prompt_mask=0.0, coupled=False
    )
    for r in range(6):
        goal = torch.stack(
            plain_log_probs(backbone, r % 3, answers()[r % 3, r // 3].tolist())
        )
        goal = goal.detach().float().where(counted[r], 0.0)
        assert torch.allclose(found[r].detach(), goal, atol=1e-5)


def test_coupled_masks_score_every_token_once():
    rows = written(several(300), answers(300))
    every, first, second = views(
        rows, noise=Noise(0), mask_id=MASK, prompt_mask=0.3, coupled=True
    )
    prompt = rows.batch.frozen & ~rows.batch.pad
    for look in (every, first, second):
        hidden = (look.tokens == MASK) & rows.batch.free
        assert torch.equal(hidden, rows.spread(look.scored))
        assert torch.equal(look.tokens[prompt], every.tokens[prompt])
        shown = ~hidden & rows.batch.free
        assert torch.equal(look.tokens[shown], rows.batch.tokens[shown])
    assert every.scored.all()
    assert torch.equal(first.scored, ~second.scored)
    assert torch.allclose(first.share + second.share, torch.ones(1800))
    assert float(first.share.min()) > 0.2
    assert float(first.share.max()) < 0.8
    share = first.scored.float().mean(1) - first.share
    assert abs(float(share.mean())) < 4 * float(share.std()) / 1800**0.5


def test_coupled_log_probabilities_are_means_of_two():
    backbone = ToyBackbone()
    rows = written(prompts(), answers())
    counted = torch.ones(6, SIZE, dtype=torch.bool)
    settings = {"noise": Noise(0), "prompt_mask": 0.4, "coupled": True}
    looks = views(rows, mask_id=MASK, **settings)
    found = log_probs(backbone, rows, counted, **settings)
    for r in range(6):
        prompt, answer = PROMPTS[r % 3], answers()[r % 3, r // 3].tolist()
        start = looks[0].tokens[r].tolist()
        holes = [i for i in range(len(prompt)) if start[i] == MASK]
        whole = plain_log_probs(backbone, r % 3, answer, holes=holes)
        parts = [
            plain_log_probs(
                backbone,
                r % 3,
                answer,
                hidden=look.scored[r].nonzero()[:, 0].tolist(),
                holes=holes,
            )
            for look in looks[1:]
        ]
        for k in range(SIZE):
            pair = parts[0 if looks[1].scored[r, k] else 1][k]
            goal = float((whole[k] + pair).detach()) / 2
            assert found[r, k].item() == pytest.approx(goal, abs=1e-5)


def test_prompts_have_holes_by_chance():
    rows = written(several(400), answers(400))
    prompt = rows.batch.frozen & ~rows.batch.pad
    [look] = views(rows, noise=Noise(1), mask_id=MASK, prompt_mask=0.15, coupled=False)
    share = (look.tokens[prompt] == MASK).float().mean()
    assert abs(float(share) - 0.15) < 4 * (0.15 * 0.85 / int(prompt.sum())) ** 0.5
