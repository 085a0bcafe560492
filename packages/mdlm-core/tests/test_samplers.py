"""What every sampler keeps, whatever the model: constraints, keys, counts, shapes."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mdlm_core.config.components import (
    SamplerConfig,
)
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.categorical import truncate
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import (
    Denoiser,
    ancestral,
    confidence,
    ddpm,
    ddpm_cache,
)
from mdlm_core.samplers import denoiser as denoiser_module
from mdlm_core.samplers.ancestral import build as build_ancestral
from mdlm_core.samplers.denoiser import implied_time

from .fake_sampling import EVENT, MASK, NAMES, SCHEDULE, VOCAB, Fake, blank, run


@pytest.mark.parametrize("steps", [1, 3, 17, 200])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_stays_and_the_rest_is_filled(name, steps):
    canvas = blank()
    before = canvas.tokens.clone()
    (tokens, nfe), denoiser = run(name, canvas, steps=steps)
    assert torch.equal(canvas.tokens, before)  # the argument is not written to
    todo = canvas.free & (before == MASK)
    assert torch.equal(tokens[~todo], before[~todo])
    assert (tokens[todo] != MASK).all()
    assert nfe[4] == 0
    assert (nfe[[0, 1, 2, 3, 5]] > 0).all()
    assert nfe.sum() == denoiser.count.rows
    assert (nfe <= todo.sum(1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_banned_tokens_never_appear(name):
    banned = [0, 1, 2, 4, 6, 7, 8, 9]  # 3, 5 and 10 remain
    (tokens, _), _ = run(name, banned=banned)
    canvas = blank()
    drawn = tokens[canvas.free & (canvas.tokens == MASK)]
    assert set(drawn.tolist()) <= {3, 5, 10}
    assert len(set(drawn.tolist())) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name):
    one, again, other = (run(name, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one.tokens, again.tokens)
    assert torch.equal(one.nfe, again.nfe)
    assert not torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_the_others(name):
    canvas = blank()
    whole, _ = run(name, canvas, steps=12)
    for batch_size in (1, 4):
        part, _ = run(name, canvas, steps=12, batch_size=batch_size)
        assert torch.equal(part.tokens, whole.tokens)
        assert torch.equal(part.nfe, whole.nfe)
    for rows in ([5, 2, 3], [3]):
        part, _ = run(name, canvas.select(torch.tensor(rows)), steps=12)
        assert torch.equal(part.tokens, whole.tokens[rows])
        assert torch.equal(part.nfe, whole.nfe[rows])


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name):
    canvas = blank()
    whole, _ = run(name, canvas)
    for filler in (0, MASK):  # also if a mask stands where nothing is
        extra = torch.full((6, 6), filler)
        wide = Batch.of(
            torch.cat([canvas.tokens, extra], dim=1),
            frozen=torch.cat([canvas.frozen, torch.ones(6, 6).bool()], dim=1),
            pad=torch.cat([canvas.pad, torch.ones(6, 6).bool()], dim=1),
            sample_id=canvas.sample_id,
        )
        padded, _ = run(name, wide)
        assert torch.equal(padded.tokens[:, :17], whole.tokens)
        assert torch.equal(padded.tokens[:, 17:], extra)
        assert torch.equal(padded.nfe, whole.nfe)


@pytest.mark.parametrize("name", NAMES)
def test_the_callback_sees_every_change_once(name):
    trace = []
    canvas = blank()
    (tokens, _), denoiser = run(
        name, canvas, callback=lambda step, now: trace.append((step, now))
    )
    assert [step for step, _ in trace] == list(range(1, denoiser.count.calls + 1))
    states = [canvas.tokens, *(now for _, now in trace)]
    for before, after in itertools.pairwise(states):
        changed = before != after
        assert changed.any()
        assert (before[changed] == MASK).all()  # what is committed stays
    assert torch.equal(states[-1], tokens)
    assert torch.equal(tokens, run(name, canvas)[0].tokens)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_zero_takes_the_most_probable_token(name):
    backbone = Fake(context=False)
    canvas = Batch.of(torch.full((3, 9), MASK))
    (tokens, _), _ = run(name, canvas, backbone=backbone, temperature=0.0)
    logits = backbone.logits(backbone.hidden(canvas)[0])
    logits[:, MASK] = -torch.inf
    assert torch.equal(tokens, logits.argmax(-1).expand(3, 9))


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.5}])
@pytest.mark.parametrize("name", NAMES)
def test_truncation_limits_what_is_drawn(name, settings):
    backbone = Fake(context=False)
    canvas = Batch.of(torch.full((40, 9), MASK))
    (tokens, _), denoiser = run(name, canvas, backbone=backbone, **settings)
    law = denoiser.log_probs(canvas.select(slice(1)), torch.ones(1, 9).bool())
    allowed = torch.isfinite(law)  # (L, V)
    assert allowed.gather(1, tokens.T).all()
    drawn = torch.zeros_like(allowed).scatter_(1, tokens.T, True)
    assert (drawn.sum(1) > 1).any()  # and it is still a draw


@pytest.mark.parametrize("name", EVENT)
def test_truncation_does_not_touch_the_times(name):
    def reveals(**settings):
        trace = []
        (_, nfe), _ = run(
            name, callback=lambda _, now: trace.append(now == MASK), **settings
        )
        return torch.stack(trace), nfe

    masks, nfe = reveals()
    for settings in ({"top_k": 2}, {"top_p": 0.3}, {"temperature": 0.0}):
        other, same = reveals(**settings)
        assert torch.equal(masks, other)
        assert torch.equal(nfe, same)


# ---- counts -------------------------------------------------------------------


def reveal_steps(canvas, seed, rates):
    """Return when each position is revealed, walking the grid step by step."""
    u = Noise(seed).child("when").uniform(canvas.sample_id, canvas.length)
    todo = canvas.free & (canvas.tokens == MASK)
    step = torch.zeros_like(canvas.tokens)
    for i in range(len(rates) - 1, 0, -1):
        falls = todo & (u >= rates[i - 1] / rates[-1])  # masked at t_i, not at t_{i-1}
        step[falls] = i
        todo = todo & ~falls
    assert not todo.any()
    return step


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("name", ["ancestral", "analytic"])
def test_a_row_is_evaluated_once_for_each_step_with_an_event(name, steps):
    canvas = blank()
    (_, nfe), denoiser = run(name, canvas, steps=steps, seed=3)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if name == "analytic":
        grid = torch.linspace(1e-5, 1, steps + 1, dtype=torch.float64)
        times = torch.cat([torch.zeros(1), grid])
    rates = SCHEDULE.mask_rate(times)
    step = reveal_steps(canvas, 3, rates)
    distinct = [len(set(row.tolist()) - {0}) for row in step]
    assert nfe.tolist() == distinct
    assert denoiser.count.calls == max(distinct)  # six rows go together
    assert denoiser.count.head_rows == (step > 0).sum()


@pytest.mark.parametrize("name", [*EVENT, "semi-ar-first-hitting"])
def test_the_head_runs_once_for_each_position(name):
    backbone = Fake()
    canvas = blank()
    _, denoiser = run(name, canvas, backbone=backbone)
    todo = (canvas.free & (canvas.tokens == MASK)).sum()
    assert sum(backbone.heads) == todo == denoiser.count.head_rows
    assert sum(len(batch) for batch, _ in backbone.calls) == denoiser.count.rows


def test_first_hitting_evaluates_a_row_for_each_of_its_positions():
    canvas = blank()
    (_, nfe), _ = run("first-hitting", canvas)
    assert torch.equal(nfe, (canvas.free & (canvas.tokens == MASK)).sum(1))


def test_rows_are_not_synchronised():
    """With room for two rows, a finished one makes room for the next at once."""
    tokens = torch.full((3, 6), MASK)
    tokens[0, 1:] = 0  # one event, then the third row takes its place
    backbone = Fake()
    run("first-hitting", Batch.of(tokens), backbone=backbone, batch_size=2)
    assert [len(batch) for batch, _ in backbone.calls] == [2] * 6 + [1]


def test_guidance_with_two_passes_counts_twice():
    denoiser = Denoiser(Fake())
    denoiser.passes = 2
    for sampler in (ancestral, confidence):
        double = sampler(denoiser, blank(), schedule=SCHEDULE, noise=Noise(0), steps=4)
        single = sampler(
            Denoiser(Fake()), blank(), schedule=SCHEDULE, noise=Noise(0), steps=4
        )
        assert torch.equal(double.nfe, 2 * single.nfe)


class Largest(TorchDispatchMode):
    """Watch the size of every tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor):
                self.size = max(self.size, item.numel())
        return result


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_over_positions_and_vocabulary(name, monkeypatch):
    vocab, rows, length = 1500, 4, 24
    canvas = Batch.of(torch.full((rows, length), vocab - 1))
    for steps in (1, 40):
        whole, _ = run(name, canvas, backbone=Fake(vocab, vocab - 1), steps=steps)
        with monkeypatch.context() as patch, Largest() as watch:
            patch.setitem(denoiser_module._PIECE, "cpu", 6 * vocab)
            part, _ = run(name, canvas, backbone=Fake(vocab, vocab - 1), steps=steps)
        assert watch.size <= 8 * vocab < rows * length * vocab
        assert torch.equal(whole.tokens, part.tokens)


# ---- the same draws, written plainly ---------------------------------------------


def textbook(backbone, canvas, *, noise, steps, **settings):
    """Walk over all T steps with the full (B, L, V), and draw by a plain CDF."""
    tokens = canvas.tokens
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    rates = SCHEDULE.mask_rate(times)
    when = noise.child("when").uniform(canvas.sample_id, canvas.length)
    what = noise.child("what").uniform(canvas.sample_id, canvas.length)
    survival = 1.0
    for i in range(steps, 0, -1):
        survival = survival * rates[i - 1] / rates[i]
        masked = canvas.free & (tokens == backbone.mask_id)
        logits = backbone.logits(backbone.hidden(canvas.with_tokens(tokens)))
        logits[..., backbone.mask_id] = -torch.inf
        law = truncate(logits.log_softmax(-1).flatten(0, 1), **settings)
        edges = law.double().exp().cumsum(-1).view(logits.shape)
        drawn = (edges <= (what.unsqueeze(-1) * edges[..., -1:])).sum(-1)
        tokens = torch.where(masked & (when >= survival), drawn, tokens)
    return tokens


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_p": 0.8}])
@pytest.mark.parametrize("steps", [1, 6, 300])
def test_ancestral_equals_the_walk_over_all_steps(steps, settings):
    plain = textbook(Fake(), blank(), noise=Noise(2), steps=steps, **settings)
    (tokens, _), _ = run("ancestral", seed=2, steps=steps, **settings)
    assert torch.equal(tokens, plain)


# ---- times --------------------------------------------------------------------


def test_ancestral_gives_each_row_its_own_time():
    backbone = Fake(time_conditioned=True)
    canvas = blank()
    steps = 5
    run("ancestral", canvas, backbone=backbone, steps=steps, seed=3)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    step = reveal_steps(canvas, 3, SCHEDULE.mask_rate(times))
    for row, ident in enumerate(canvas.sample_id.tolist()):
        given = [
            float(t[batch.sample_id == ident])
            for batch, t in backbone.calls
            if ident in batch.sample_id
        ]
        distinct = sorted(set(step[row].tolist()) - {0}, reverse=True)
        assert given == pytest.approx([i / steps for i in distinct])
    assert all(t.dtype == torch.float32 for _, t in backbone.calls)


def test_first_hitting_time_is_that_of_the_level():
    backbone = Fake(time_conditioned=True)
    canvas = Batch.of(torch.full((1, 6), MASK))
    run("first-hitting", canvas, backbone=backbone, seed=4)
    u = Noise(4).child("when").uniform(canvas.sample_id, 6)[0].sort(descending=True)
    assert [float(t) for _, t in backbone.calls] == pytest.approx(u.values.tolist())


@pytest.mark.parametrize("name", ["confidence", "semi-ar", "semi-ar-confidence"])
def test_samplers_by_steps_or_blocks_give_the_time_the_canvas_implies(name):
    backbone, canvas = Fake(time_conditioned=True), blank()
    run(name, canvas, backbone=backbone)
    for batch, t in backbone.calls:
        rows = (batch.sample_id[:, None] == canvas.sample_id).long().argmax(1)
        free = canvas.free[rows]  # of the canvas, whatever a block freezes
        masked = ((batch.tokens == MASK) & free).sum(1) / free.sum(1)
        torch.testing.assert_close(SCHEDULE.mask_rate(t), masked.clamp(max=0.999))


def test_a_full_mask_implies_t_1():
    canvas = Batch.of(torch.full((1, 4), MASK))
    assert implied_time(canvas, MASK, SCHEDULE).item() == pytest.approx(1.0)


def test_a_prompt_does_not_count_for_the_time():
    tokens = torch.tensor([[1, 2, 3, 4, MASK, MASK, 5, 6]])
    canvas = Batch.of(tokens, frozen=torch.arange(8)[None] < 4)
    rate = SCHEDULE.mask_rate(implied_time(canvas, MASK, SCHEDULE).double())
    assert rate.item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_does_not_see_t_is_given_none(name):
    backbone = Fake()
    run(name, backbone=backbone)
    assert all(t is None for _, t in backbone.calls)


# ---- the denoiser -------------------------------------------------------------


def test_laws_are_normalised_without_mask_and_banned_tokens():
    canvas = blank()
    where = canvas.free & (canvas.tokens == MASK)
    denoiser = Denoiser(Fake(), banned=[0, 3])
    law = denoiser.log_probs(canvas, where)
    assert law.shape == (int(where.sum()), VOCAB)
    assert law.dtype == torch.float32
    assert (law[:, [0, 3, MASK]] == -torch.inf).all()
    logits = Fake().logits(Fake().hidden(canvas)[where])
    rest = [i for i in range(VOCAB) if i not in (0, 3, MASK)]
    torch.testing.assert_close(law[:, rest], logits[:, rest].log_softmax(-1))


def test_banned_tokens_outside_the_vocabulary_are_an_error():
    with pytest.raises(
        UsageError, match=r"\[-1, 12\] are outside the vocabulary of 12"
    ):
        Denoiser(Fake(), banned=[12, 3, -1])
    with pytest.raises(UsageError, match="every token is banned"):
        Denoiser(Fake(), banned=range(MASK))


def test_dropout_is_off_and_the_mode_comes_back():
    class Module(torch.nn.Module, Fake):
        def __init__(self):
            torch.nn.Module.__init__(self)
            Fake.__init__(self)
            self.one, self.two = torch.nn.Dropout(), torch.nn.Dropout()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def logits(self, hidden):
            assert not (self.training)
            assert not (self.one.training)
            assert not (self.two.training)
            logits = Fake.logits(self, hidden) * self.scale
            assert not logits.requires_grad
            return logits

    backbone = Module()
    backbone.two.eval()
    for name in NAMES:
        run(name, backbone=backbone)
        assert backbone.training
        assert backbone.one.training
        assert not backbone.two.training


def test_the_names_of_the_reference_are_aliases():
    assert ddpm is ancestral
    assert ddpm_cache is ancestral


def test_settings_are_bound_and_can_be_overridden():
    bound = build_ancestral(SamplerConfig(steps=9, batch_size=3))
    given = {"schedule": SCHEDULE, "noise": Noise(0)}
    for steps, override in ((9, {}), (2, {"steps": 2})):
        ours = bound(Denoiser(Fake()), blank(), **given, **override)
        plain = ancestral(Denoiser(Fake()), blank(), **given, steps=steps)
        assert torch.equal(ours.tokens, plain.tokens)
        assert torch.equal(ours.nfe, plain.nfe)


def test_conditions_and_positions_travel_with_their_rows():
    canvas = replace(
        blank(),
        condition={"label": torch.arange(6)},
        positions=torch.arange(17).expand(6, 17).unsqueeze(-1),
    )
    backbone = Fake()
    run("first-hitting", canvas, backbone=backbone, batch_size=2)
    ids = dict(zip(canvas.sample_id.tolist(), range(6), strict=True))
    for batch, _ in backbone.calls:
        rows = [ids[i] for i in batch.sample_id.tolist()]
        assert batch.condition["label"].tolist() == rows
        assert batch.positions.shape == (len(rows), 17, 1)
