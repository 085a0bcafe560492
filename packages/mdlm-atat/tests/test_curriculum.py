"""The bias over a run, by hand; focus and early ends; the memory of it all."""

import copy
from itertools import pairwise

import pytest
import torch

from mdlm_atat.config import CurriculumConfig
from mdlm_atat.curriculum import BINS, CurriculumScheduler
from mdlm_core.errors import ConfigError, UnknownNameError


def curriculum(strategy="balanced", temperature=2.0, **settings):
    return CurriculumScheduler(
        CurriculumConfig(**settings), strategy=strategy, temperature=temperature
    )


def over(scheduler, steps, at):
    """Return kappa at the steps `at` of a run of `steps`."""
    found = []
    for step in at:
        scheduler.advance(step, steps)
        found.append(scheduler.kappa)
    return found


def approx(*values):
    return pytest.approx(list(values), abs=1e-12)


# ---- the shape of a run: 1000 steps, of which 100 are warm-up ----------------

WARM = (0, 50, 99, 100)  # the ramp starts at 0 when the warm-up ends


@pytest.mark.parametrize(("strategy", "sign"), [("proportional", 1), ("inverse", -1)])
@pytest.mark.parametrize("preset", ["default", "early", "late", "none"])
def test_proportional_and_inverse_are_constant_between_ramp_and_anneal(
    strategy, sign, preset
):
    scheduler = curriculum(strategy, preset=preset)
    assert over(scheduler, 1000, WARM) == [0.0, 0.0, 0.0, 0.0]
    found = over(scheduler, 1000, (125, 150, 200, 450, 700))
    assert found == approx(*(sign * x for x in (0.125, 0.25, 0.5, 0.5, 0.5)))
    # the fall goes from 1 at step 700 to 0 at step 999
    found = over(scheduler, 1000, (800, 998, 999))
    assert found == approx(sign * 0.5 * 199 / 299, sign * 0.5 / 299, 0.0)
    assert scheduler.kappa == 0.0


def test_balanced_by_the_default_preset():
    # p = (step - 100) / 900: p = 0.3 at step 370, 0.5 at 550, 0.7 at 730
    scheduler = curriculum(easy=0.4, hard=1.0, final_uniform=0.1)
    assert over(scheduler, 1000, WARM) == [0.0, 0.0, 0.0, 0.0]
    found = over(scheduler, 1000, (150, 200, 369, 370, 460, 550, 640, 730, 900))
    assert found == approx(-0.1, -0.2, -0.2, -0.2, -0.025, 0.15, 0.325, 0.5, 0.5)
    assert over(scheduler, 1000, (950, 999)) == approx(0.5 * 49 / 99, 0.0)


def test_balanced_by_the_early_preset():
    # p = 0.2 at step 280, 0.4 at 460, 0.6 at 640
    scheduler = curriculum(preset="early", easy=0.4, hard=1.0, final_uniform=0.0)
    found = over(scheduler, 1000, (200, 279, 280, 460, 640, 999))
    assert found == approx(-0.2, -0.2, -0.2, 0.15, 0.5, 0.5)


def test_balanced_by_the_late_preset():
    # p = 0.35 at step 415, 0.575 at 617.5, 0.8 at 820
    scheduler = curriculum(preset="late", easy=0.4, hard=1.0, final_uniform=0.0)
    found = over(scheduler, 1000, (200, 414, 415, 820, 999))
    assert found == approx(-0.2, -0.2, -0.2, 0.5, 0.5)
    low, high = over(scheduler, 1000, (617, 618))
    assert low < 0.15 < high
    assert low + high == pytest.approx(0.3)


def test_balanced_without_stages_is_the_hard_bias():
    scheduler = curriculum(preset="none", easy=0.4, hard=0.8, final_uniform=0.0)
    assert over(scheduler, 1000, WARM) == [0.0, 0.0, 0.0, 0.0]
    assert over(scheduler, 1000, (150, 200, 999)) == approx(0.2, 0.4, 0.4)
    assert scheduler.stage == "hard"


def test_by_default_the_easy_stage_leaves_masks_uniform():
    scheduler = curriculum()
    assert over(scheduler, 1000, (0, 150, 300, 369)) == [0.0] * 4
    assert over(scheduler, 1000, (550, 999)) == approx(0.25, 0.0)


def test_time_only_has_no_bias():
    scheduler = curriculum("time_only")
    assert over(scheduler, 1000, range(0, 1000, 37)) == [0.0] * 28


def test_the_names_of_the_stages():
    names = {}
    scheduler = curriculum(final_uniform=0.1)
    for step in range(1000):
        scheduler.advance(step, 1000)
        names.setdefault(scheduler.stage, step)
    assert names == {
        "warm-up": 0,
        "easy": 100,
        "medium": 370,
        "hard": 730,
        "anneal": 901,  # at 900 the fall begins, with the factor 1
    }


def test_the_warm_up_is_at_most_a_tenth_of_the_run():
    scheduler = curriculum("proportional", warmup=20, final_uniform=0.0)
    assert over(scheduler, 1000, (19, 20, 30, 40)) == approx(0, 0, 0.25, 0.5)
    assert over(scheduler, 100, (9, 10, 15, 20)) == approx(0, 0, 0.25, 0.5)
    none = curriculum("proportional", warmup=0, final_uniform=0.0)
    assert over(none, 1000, (0, 999)) == approx(0.5, 0.5)


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 100])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("strategy", ["balanced", "inverse"])
def test_runs_of_any_length_end_without_bias(steps, share, strategy):
    scheduler = curriculum(strategy, easy=1.0, final_uniform=share)
    found = over(scheduler, steps, range(steps + 2))
    assert all(abs(kappa) <= 0.5 for kappa in found)
    if share:
        assert found[steps - 1 :] == [0.0, 0.0, 0.0]


def test_before_the_first_advance_it_is_as_at_step_zero():
    for warmup in (1000, 0):
        for strategy in ("balanced", "proportional", "inverse", "time_only"):
            fresh = curriculum(strategy, warmup=warmup, easy=0.4)
            before = (fresh.kappa, fresh.stage)
            fresh.advance(0, 1000)
            assert (fresh.kappa, fresh.stage) == before


# ---- focus -------------------------------------------------------------------


def told(scheduler, step, importance):
    """Advance to `step` of 1000 and show it some importance on the way."""
    scheduler.observe_importance(importance, torch.ones_like(importance).bool())
    scheduler.advance(step, 1000)
    return scheduler


def evenly(count=1000):
    """Importance with the quantiles 0.03 and 0.07."""
    return (torch.arange(count) + 0.5)[None] / count / 10


@pytest.mark.parametrize(
    ("step", "inside"),
    [
        (300, [True, False, False, False, False]),
        (500, [False, False, True, False, False]),
        (800, [False, False, False, False, True]),
    ],
)
def test_focus_is_on_the_band_of_the_stage(step, inside):
    scheduler = told(curriculum(focus=3.0, final_uniform=0.1), step, evenly())
    importance = torch.tensor([[0.01, 0.029, 0.05, 0.071, 0.09]])
    importance[0, 1] = 0.031 if inside[0] else 0.029
    importance[0, 3] = 0.069 if inside[4] else 0.071
    free = torch.ones(1, 5, dtype=torch.bool)
    found = scheduler.focus(importance, free)
    assert (found == torch.tensor([[3.0 if x else 1.0 for x in inside]])).all()
    free[:] = False
    assert (scheduler.focus(importance, free) == 1).all()


def test_focus_follows_ramp_and_fall():
    scheduler = curriculum(focus=3.0)
    low, free = torch.tensor([[0.0]]), torch.ones(1, 1, dtype=torch.bool)
    seen = {}
    for step in (0, 99, 100, 150, 200, 999):
        found = told(scheduler, step, evenly()).focus(low, free)
        seen[step] = None if found is None else float(found)
    assert seen == {0: None, 99: None, 100: None, 150: 2.0, 200: 3.0, 999: None}
    scheduler = told(curriculum(focus=3.0), 800, evenly())
    high = scheduler.focus(torch.tensor([[1.0]]), free)
    assert float(high) == pytest.approx(1 + 2 * 199 / 299)


def test_there_is_no_focus_by_default():
    scheduler = told(curriculum(), 500, evenly())
    assert scheduler.focus(evenly(), torch.ones(1, 1000).bool()) is None
    assert not scheduler.histogram.any()


def test_the_first_quantiles_are_those_of_the_first_step():
    scheduler = told(curriculum(focus=2.0), 1, evenly())
    expected = torch.tensor([0.03, 0.07], dtype=torch.float64)
    torch.testing.assert_close(scheduler.quantiles, expected, rtol=0, atol=1 / BINS)


def test_later_quantiles_move_slowly():
    scheduler = curriculum(focus=2.0)
    for step in range(1, 101):
        told(scheduler, step, evenly())
    before = scheduler.quantiles.clone()
    told(scheduler, 101, evenly() + 0.5)  # by 0.02 of the way
    moved = scheduler.quantiles - before
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=0.1, atol=0)
    scheduler.advance(102, 1000)  # nothing new, nothing moves
    torch.testing.assert_close(scheduler.quantiles, before + moved, rtol=0, atol=0)


def test_frozen_tokens_do_not_count():
    importance = torch.cat([evenly(), evenly() + 0.5], 1)
    free = torch.arange(2000)[None] < 1000
    scheduler = curriculum(focus=2.0)
    scheduler.observe_importance(importance, free)
    scheduler.advance(1, 1000)
    assert float(scheduler.quantiles.max()) < 0.08


def test_importance_at_the_ends_and_beyond_float_noise_counts():
    scheduler = curriculum(focus=2.0)
    value = torch.tensor([[0.0, 1.0, 1.0 + 1e-6, -1e-6]])
    scheduler.observe_importance(value, torch.ones(1, 4).bool())
    assert scheduler.histogram[[0, -1]].tolist() == [2.0, 2.0]


# ---- early ends --------------------------------------------------------------


def train(scheduler, losses, steps=1000, start=0, parts=1):
    """Run with the given losses, in equal parts; return (stage, kappa) per step."""
    seen = []
    for step, loss in enumerate(losses, start):
        scheduler.advance(step, steps)
        seen.append((scheduler.stage, scheduler.kappa))
        for _ in range(parts):
            scheduler.observe(torch.tensor(loss))
    return seen


def starts(seen):
    first = {}
    for step, (stage, _) in enumerate(seen):
        first.setdefault(stage, step)
    return first


def test_stages_end_early_when_the_loss_stands_still():
    scheduler = curriculum(dynamic=True, easy=0.4, final_uniform=0.1)
    seen = train(scheduler, [3.0] * 1000)
    # windows of 50 steps from 100 on: the second is no better than the first
    assert starts(seen) == {
        "warm-up": 0,
        "easy": 100,
        "medium": 200,
        "hard": 300,
        "anneal": 901,
    }
    kappa = [k for _, k in seen]
    assert kappa[199] == pytest.approx(-0.2 * 99 / 100)  # still in the ramp
    assert kappa[200] == pytest.approx(-0.2)
    assert kappa[299] == pytest.approx(-0.2 + 0.7 * (99 / 900) / 0.4)
    assert kappa[300] == kappa[900] == 0.5


def test_stages_end_at_their_boundaries_while_the_loss_falls():
    falling = [3.0 * 0.999**step for step in range(1000)]  # 5 % in a window
    scheduler = curriculum(dynamic=True, final_uniform=0.1)
    plain = curriculum(final_uniform=0.1)
    assert train(scheduler, falling) == train(plain, falling)


def test_a_fall_of_half_a_percent_in_a_window_is_the_limit():
    for factor, early in ((0.994, False), (0.996, True)):
        losses = [3.0 * factor ** (step / 50) for step in range(400)]
        seen = train(curriculum(dynamic=True, final_uniform=0.1), losses)
        assert (starts(seen)["medium"] == 200) == early


def test_a_stage_without_a_loss_lasts_to_its_boundary():
    scheduler = curriculum(dynamic=True, final_uniform=0.1)
    for step in range(371):
        scheduler.advance(step, 1000)
        assert (scheduler.stage == "medium") == (step == 370)


def test_stages_do_not_end_early_in_the_anneal():
    scheduler = curriculum(dynamic=True, easy=0.4, final_uniform=1.0)
    kappa = [k for _, k in train(scheduler, [3.0] * 1000)]
    assert max(abs(a - b) for a, b in pairwise(kappa)) < 0.01


def test_micro_batches_do_not_matter():
    losses = [3.0 + (step * 37 % 11) / 100 for step in range(120)]
    one, four = (curriculum(dynamic=True, focus=2.0) for _ in range(2))
    importance = torch.rand(8, 50, generator=torch.Generator().manual_seed(0))
    free = torch.ones_like(importance).bool()
    for step, loss in enumerate(losses):
        one.advance(step, 200)
        four.advance(step, 200)
        one.observe(torch.tensor(loss), count=400)
        one.observe_importance(importance, free)
        for part in range(4):
            four.observe(torch.tensor(loss), count=100)
            rows = slice(2 * part, 2 * part + 2)
            four.observe_importance(importance[rows], free[rows])
        assert one.kappa == four.kappa
    for name, value in one.state_dict().items():
        torch.testing.assert_close(four.state_dict()[name], value, rtol=1e-12, atol=0)


def test_means_are_weighted_by_their_counts():
    scheduler = curriculum(dynamic=True)
    for step in (100, 101):
        scheduler.advance(step, 1000)
    scheduler.observe(torch.tensor(1.0), count=30)
    scheduler.observe(torch.tensor(5.0), count=torch.tensor(10))
    scheduler.advance(102, 1000)
    assert float(scheduler.pending.abs().sum()) == 0
    mean, weight, _ = scheduler.losses.tolist()
    assert mean / weight == pytest.approx(2.0)


def test_sums_go_over_all_processes(monkeypatch):
    def with_another(values):
        values *= 2  # another process that saw the same

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", with_another)
    scheduler = curriculum(dynamic=True, focus=2.0)
    scheduler.observe(torch.tensor(1.5), count=10)
    scheduler.observe_importance(evenly(), torch.ones(1, 1000).bool())
    assert scheduler.pending.tolist() == [30.0, 20.0]
    assert float(scheduler.histogram.sum()) == 2000


# ---- memory ------------------------------------------------------------------


def by_state_dict(source, target):
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    return target


def in_place(source, target):
    """As a run resumes: values are copied into live tensors."""
    target.advance(3, 10)
    for name, value in target.state_dict().items():
        value.copy_(source.state_dict()[name])
    return target


def by_copy(source, target):
    del target
    return copy.deepcopy(source)


@pytest.mark.parametrize("move", [by_state_dict, in_place, by_copy])
@pytest.mark.parametrize("at", [5, 15, 24, 47, 95])
def test_a_run_continues_to_the_bit(move, at):
    losses = [2.0 + (step * 37 % 11) / 100 for step in range(100)]

    def build():
        return curriculum(dynamic=True, focus=2.0, easy=0.3, final_uniform=0.1)

    def run(scheduler, start, end):
        seen = []
        for step in range(start, end):
            seen += train(scheduler, [losses[step]], steps=100, start=step)
            value = evenly(50) * (1 + step % 5)
            free = torch.ones_like(value).bool()
            scheduler.observe_importance(value, free)
            found = scheduler.focus(value, free)
            seen.append(0.0 if found is None else float(found.sum()))
        return seen

    whole, first = build(), build()
    expected = run(whole, 0, 100)
    assert int(whole.clock[3]) >= 0  # a stage did end early
    seen = run(first, 0, at)
    second = move(first, build())
    assert (second.kappa, second.stage) == (first.kappa, first.stage)
    assert seen + run(second, at, 100) == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_another_run_begins_anew():
    scheduler = curriculum(dynamic=True, easy=0.4, final_uniform=0.1)
    first = train(scheduler, [3.0] * 400)
    scheduler.observe(torch.tensor(1.0))
    scheduler.advance(0, 1000)  # and what is pending belongs to the last one
    assert scheduler.pending.tolist() == scheduler.losses[:2].tolist() == [0.0, 0.0]
    assert train(scheduler, [3.0] * 400) == first


# ---- settings that contradict each other -------------------------------------


@pytest.mark.parametrize("wrong", [{"focus": 2.0}, {"dynamic": True}])
def test_without_stages_there_is_neither_focus_nor_an_early_end(wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=rf"curriculum\.{name} is .*no stages"):
        curriculum(preset="none", **wrong)


def test_an_unknown_strategy_is_named_with_its_near_miss():
    with pytest.raises(UnknownNameError, match="did you mean 'proportional'"):
        curriculum("proportionate")
