"""Learning from rewards: formulas, gradients, rounds of inner steps."""

import math
from dataclasses import replace

import pytest
import torch

from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.state import named_tensors
from mdlm_llada.preference import rollouts
from mdlm_llada.preference.mean_field import views, written
from mdlm_llada.preference.objective import advantages, clipped_terms

from .preference_toy import (
    END,
    SIZE,
    draw,
    fives,
    groups,
    length,
    moved,
    plain_log_probs,
    prompts,
    weighed,
)
from .sft_toy import MASK, ToyBackbone


def gradient(module):
    """Return the gradient of the backbone as one vector, and clear it."""
    found = torch.cat([p.grad.flatten() for p in module.backbone.parameters()])
    module.zero_grad()
    return found


# ---- formulas ----------------------------------------------------------------


def test_advantages_are_above_the_mean_of_the_group():
    rewards = torch.tensor([[1.0, 0.0, 0.5], [2.0, 2.0, 2.0]])
    found = advantages(rewards, scaled=False)
    assert found.tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    scaled = advantages(rewards, scaled=True)
    assert torch.allclose(scaled[0], torch.tensor([1.0, -1.0, 0.0]), atol=1e-3)
    assert scaled[1].tolist() == [0, 0, 0]


def test_the_objective_is_the_formula_token_by_token():
    generator = torch.Generator().manual_seed(0)
    new, old, reference = (-torch.rand(3, 6, 5, generator=generator) * 3).unbind()
    advantage = torch.tensor([1.0, -1.0, 0.5, -0.2, 0.0, 2.0])
    counted = torch.arange(5) < torch.tensor([5, 3, 1, 4, 5, 2])[:, None]
    new[1, 4] = 200.0  # does not count, and must not overflow
    new.requires_grad_()
    terms = clipped_terms(new, old, reference, advantage, counted, clip=0.3, beta=0.07)
    seen = set()
    for r in range(6):
        for k in range(5):
            if not counted[r, k]:
                for values in terms:
                    assert values[r, k] == 0
                continue
            lp, before, base = (float(x[r, k].detach()) for x in (new, old, reference))
            a, ratio = float(advantage[r]), math.exp(lp - before)
            kl = math.exp(base - lp) - (base - lp) - 1
            gain = min(ratio * a, min(max(ratio, 0.7), 1.3) * a)
            goal = -(gain - 0.07 * kl)
            assert terms.loss[r, k].item() == pytest.approx(goal, rel=1e-4, abs=1e-6)
            assert terms.kl[r, k].item() == pytest.approx(kl, rel=1e-4, abs=1e-6)
            assert kl >= 0
            cut = (a > 0 and ratio > 1.3) or (a < 0 and ratio < 0.7)
            assert bool(terms.clipped[r, k]) == cut
            seen.add((cut, a > 0))
    assert len(seen) == 4
    terms.loss.sum().backward()
    assert new.grad.isfinite().all()
    assert (new.grad[~counted] == 0).all()
    only = clipped_terms(new, old, None, advantage, counted, clip=0.3, beta=0.07)
    moving = (only.loss != 0) & ~only.clipped.bool()
    new.grad = None
    only.loss.sum().backward()
    assert torch.equal(new.grad != 0, moving)


# ---- the module --------------------------------------------------------------


def test_answers_end_and_are_rewarded():
    module, batch = groups(group=6), prompts()
    held = module.write(batch, Noise(0))
    assert held.answers.shape == (3, 6, SIZE)
    ended = 0
    for row, (ids, worth) in enumerate(
        zip(held.answers.tolist(), held.rewards.tolist(), strict=True)
    ):
        for answer, reward in zip(ids, worth, strict=True):
            assert MASK not in answer
            if END in answer:
                ended += 1
                assert set(answer[answer.index(END) :]) == {END}
            sample = int(batch.sample_id[row])
            assert reward == pytest.approx(weighed(sample, answer))
    assert 0 < ended < 18
    assert len({tuple(a) for a in held.answers[0].tolist()}) > 1


def test_answers_do_not_depend_on_the_other_prompts():
    module, batch = groups(), prompts()
    whole = module.write(batch, Noise(0))
    part = module.write(batch.select(torch.tensor([2, 0])), Noise(0))
    for one, other in zip(whole, part, strict=True):
        assert torch.allclose(one[[2, 0]], other, atol=1e-5)


@pytest.mark.parametrize("coupled", [False, True])
def test_the_first_inner_step_has_the_gradient_of_the_plain_policy(coupled):
    """The ratio is 1 and the divergence 0, whatever the clip and beta are."""
    module, batch = groups(prompt_mask=0.0, coupled=coupled, clip=0.1), prompts()
    loss = module(batch, draw(batch))
    loss.total.backward()
    found = gradient(module)
    held = module.rollouts.of(torch.arange(3))
    total = 0.0
    for row in range(3):
        ids, worth = held.answers[row].tolist(), held.rewards[row].tolist()
        for j, answer in enumerate(ids):
            above = worth[j] - sum(worth) / 3
            if coupled:
                # The masks are the module's; that they are right is tested above.
                rows = written(batch, held.answers)
                looks = views(
                    rows,
                    noise=Noise(4).child("round", 0).child("inner", 0),
                    mask_id=MASK,
                    prompt_mask=0.0,
                    coupled=True,
                )
                r = 3 * j + row
                whole, first, second = (
                    plain_log_probs(
                        module.backbone,
                        row,
                        answer,
                        hidden=look.scored[r].nonzero()[:, 0].tolist(),
                    )
                    for look in looks
                )
                logs = [
                    (whole[k] + (first if looks[1].scored[r, k] else second)[k]) / 2
                    for k in range(SIZE)
                ]
            else:
                logs = plain_log_probs(module.backbone, row, answer)
            total = total - above * sum(logs[: length(answer)])
    total.backward()
    goal = gradient(module)
    assert float(goal.norm()) > 0.1
    assert torch.allclose(found, goal, atol=1e-5 * float(goal.abs().max()))
    assert float(loss.extra["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(loss.extra["clipped"]) == 0
    sizes = [length(a) for ids in held.answers.tolist() for a in ids]
    assert int(loss.count) == sum(sizes)
    assert float(loss.extra["answer_tokens"]) == pytest.approx(sum(sizes) / 9)
    assert float(loss.extra["reward"]) == pytest.approx(float(held.rewards.mean()))
    assert loss.masked.sum() == len(loss.nll) == sum(sizes)


@pytest.mark.parametrize("coupled", [False, True])
def test_model_and_reference_are_scored_under_the_same_holes(coupled):
    """Without a step between them, every inner step has ratio 1 and divergence 0."""
    module = groups(prompt_mask=0.5, inner_steps=4, coupled=coupled)
    batch = prompts()
    first = module(batch, draw(batch))
    seen = set()
    for step in range(4):
        loss = module(batch, draw(batch, step=step))
        assert loss.total.item() == pytest.approx(first.total.item(), abs=1e-6)
        assert float(loss.extra["kl"]) == pytest.approx(0, abs=1e-9)
        seen.add(float(loss.nll.sum()))
    assert len(seen) == 4  # other holes in every inner step
    assert int(module.rollouts.keys[0]) == Noise(4).child("round", 0).integer()


def test_a_later_inner_step_is_the_formula():
    """The ratio and the divergence are those from the model that wrote the answers."""
    module, batch = groups(prompt_mask=0.0, clip=0.2, beta=0.5), prompts()
    module(batch, draw(batch))
    writer = ToyBackbone()
    moved(module.backbone, 0.2)
    loss = module(batch, draw(batch, step=1))
    held = module.rollouts.of(torch.arange(3))
    total = kl = 0.0
    cut = []
    for row in range(3):
        worth = held.rewards[row].tolist()
        for j, answer in enumerate(held.answers[row].tolist()):
            above, size = worth[j] - sum(worth) / 3, length(answer)
            new = plain_log_probs(module.backbone, row, answer)
            old = plain_log_probs(writer, row, answer)
            for a, b in zip(new[:size], old[:size], strict=True):
                d = float((b - a).detach())
                ratio = math.exp(-d)
                gain = min(ratio * above, min(max(ratio, 0.8), 1.2) * above)
                total -= gain - 0.5 * (math.exp(d) - d - 1)
                kl += math.exp(d) - d - 1
                cut.append(gain != ratio * above)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert any(cut)
    assert 0 < float(loss.extra["clipped"]) < 1
    assert kl > 0.1


def test_a_round_keeps_its_answers_and_the_next_has_new_ones():
    module, batch = groups(), prompts()
    module(batch, draw(batch))
    before = module.rollouts.answers.clone()
    moved(module.backbone, 1.0)
    module(batch, draw(batch, step=1))
    assert torch.equal(module.rollouts.answers, before)
    module(batch, draw(batch, step=2))
    assert not torch.equal(module.rollouts.answers, before)


def test_parts_of_a_batch_add_up():
    whole, parts, batch = groups(), groups(), prompts()
    loss = whole(batch, draw(batch))
    found = [
        parts(batch.select(cut), replace(draw(batch), rows=torch.arange(3)[cut]))
        for cut in (slice(0, 1), slice(1, 3))
    ]
    total = sum(part.total.item() for part in found)
    assert total == pytest.approx(loss.total.item(), abs=1e-5)
    assert sum(int(part.count) for part in found) == int(loss.count)
    for name in ("answers", "rewards", "keys", "asked"):
        one, other = (getattr(m.rollouts, name) for m in (whole, parts))
        assert torch.equal(one, other), name
    assert int(whole.count(batch)) == 9 * SIZE


def test_processes_end_up_with_the_answers_of_all(monkeypatch):
    """Two processes, played one after the other: what each sums up is recorded."""
    batch, sent = prompts(), []
    whole = groups()
    whole(batch, draw(batch))
    halves = (slice(0, 1), slice(1, 3))

    def run(module, cut, summed):
        monkeypatch.setattr(rollouts, "_summed", summed)
        module(batch.select(cut), replace(draw(batch), rows=torch.arange(3)[cut]))
        return module.rollouts

    for cut in halves:
        sent.append([])
        run(groups(), cut, lambda value: sent[-1].append(value.clone()) or value)
    for rank, cut in enumerate(halves):
        other = iter(sent[1 - rank])
        found = run(groups(), cut, lambda value, other=other: value + next(other))
        for name, value in found.state_dict().items():
            goal = whole.rollouts.state_dict()[name]
            assert torch.allclose(value, goal, atol=1e-5), name


def test_a_larger_batch_than_there_is_room_for_is_refused():
    module, batch = groups(room=2), prompts()
    with pytest.raises(UsageError, match=r"room for train\.batch_size=2 rows"):
        module(batch, draw(batch))


def test_the_reference_follows_when_it_is_time_to():
    module = groups(moves=True, sync_reference=4)
    held = {name for name in named_tensors(module) if name.startswith("reference.")}
    assert held  # it is saved: nobody could build it again
    start = [p.clone() for p in module.reference.parameters()]
    moved(module.backbone, 0.5)
    for step in (0, 1, 3):
        module.advance(step, 100)
    for value, before in zip(module.reference.parameters(), start, strict=True):
        assert torch.equal(value, before)
    module.advance(4, 100)
    for value, now in zip(
        module.reference.parameters(), module.backbone.parameters(), strict=True
    ):
        assert torch.equal(value, now)
        assert not value.requires_grad


def test_without_a_pull_there_is_no_reference():
    module, batch = groups(beta=0.0), prompts()
    loss = module(batch, draw(batch))
    assert "kl" not in loss.extra
    assert module.reference is None
    assert module.rollouts.reference.numel() == 0


@pytest.mark.parametrize("coupled", [False, True])
def test_rewards_are_learned(coupled):
    """Answers of four tokens; a 5 is worth a quarter. Chance is about 1 / 6."""
    module = groups(reward=fives, group=6, beta=0.01, coupled=coupled)
    batch = prompts()
    optimizer = torch.optim.Adam(module.backbone.parameters(), lr=0.05)
    rewards = []
    for step in range(60):
        optimizer.zero_grad()
        loss = module(batch, draw(batch, step=step))
        (loss.total / loss.count).backward()
        optimizer.step()
        rewards.append(float(loss.extra["reward"]))
    bonus = (11 + 4 + 7) / 300
    assert rewards[0] - bonus < 0.4
    assert rewards[-1] - bonus > 0.7
