"""The pretraining task, and the held-out bound that it reports."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.diffusion import Cosine, Draw, LogLinear, likelihood, nelbo
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.protocols import Rates
from mdlm_core.tasks import Bound, MaskedDiffusion, bound, held_out, measure
from mdlm_core.train import train

from .tiny_run import TinyBackbone, TinySource, config


def learned(seed=0):
    """Return a tiny backbone that does not say the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    backbone = TinyBackbone(dropout=0.0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return backbone


class Weighted(nn.Module):
    """A masking policy with a parameter, an auxiliary loss and a memory."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.heard = []

    def rates(self, batch, t, schedule):
        rates = UniformMasking().rates(batch, t, schedule)
        return Rates(rates.mask_prob, rates.weight)

    def auxiliary_loss(self, corrupted, nll):
        assert len(nll) == int(corrupted.masked.sum())
        return self.scale.square()

    def advance(self, step, steps):
        self.heard.append((step, steps))


def one_batch():
    return next(TinySource().batches("train", size=4, seed=0))


DRAW = Draw(Noise(5), torch.arange(4), 4, step=2)


@pytest.mark.parametrize("t_sampling", ["stratified", "bell", "counts"])
def test_the_loss_is_the_objective(t_sampling):
    backbone, batch = learned(), one_batch()
    module = MaskedDiffusion(
        backbone,
        schedule=LogLinear(),
        policy=UniformMasking(),
        t_sampling=t_sampling,
        t_min=0.01,
    )
    expected = nelbo(
        backbone,
        batch,
        schedule=LogLinear(),
        draw=DRAW,
        t_sampling=t_sampling,
        t_min=0.01,
    )
    found = module(batch, DRAW)
    assert torch.equal(found.total, expected.total)
    assert torch.equal(found.masked, expected.masked)
    assert int(found.count) == int(batch.free.sum())


class Choosy(Weighted):
    """A policy that cannot work with most schedules."""

    def check(self, schedule, t_sampling):
        if not isinstance(schedule, Cosine) or t_sampling != "bell":
            raise ConfigError("only cosine")


def test_a_policy_can_refuse_a_schedule_before_training():
    def build(schedule, t_sampling):
        MaskedDiffusion(
            learned(), schedule=schedule, policy=Choosy(), t_sampling=t_sampling
        )

    build(Cosine(), "bell")
    with pytest.raises(ConfigError, match="only cosine"):
        build(LogLinear(), "bell")
    with pytest.raises(ConfigError, match="only cosine"):
        build(Cosine(), "counts")


class Curious(Weighted):
    """A policy that wants to know how wrong the model is."""

    needs_residual = True

    def auxiliary_loss(self, corrupted, nll, *, residual):
        self.residual = residual
        return super().auxiliary_loss(corrupted, nll)


@pytest.mark.parametrize("fused", [True, False])
def test_a_policy_can_ask_for_the_residual(fused):
    backbone, policy = learned(), Curious()
    if not fused:  # a subclass of Linear, which goes through `logits`
        backbone.head.__class__ = type("Own", (nn.Linear,), {})
    module = MaskedDiffusion(backbone, schedule=LogLinear(), policy=policy)
    nll = module(one_batch(), DRAW).nll
    p = torch.exp(-nll)
    assert policy.residual.shape == nll.shape
    assert not policy.residual.requires_grad
    assert (policy.residual >= 1 - p - 1e-3).all()  # its target's part alone
    assert (policy.residual <= math.sqrt(2) * (1 - p) + 1e-3).all()


def test_a_policy_that_learns_is_part_of_the_module():
    module = MaskedDiffusion(learned(), schedule=LogLinear(), policy=Weighted())
    assert "policy.scale" in module.state_dict()
    plain = MaskedDiffusion(
        module.backbone, schedule=LogLinear(), policy=UniformMasking()
    )
    batch = one_batch()
    loss, base = module(batch, DRAW), plain(batch, DRAW)
    # One number, added to the loss per token.
    extra = (loss.total - base.total) / loss.count
    assert extra.item() == pytest.approx(0.25, abs=1e-5)
    (loss.total / loss.count).backward()
    assert module.policy.scale.grad.item() == pytest.approx(1.0)
    module.advance(3, 10)
    plain.advance(3, 10)  # has nobody to tell
    assert module.policy.heard == [(3, 10)]


def test_a_policy_is_told_before_every_step_and_is_saved(tmp_path):
    from mdlm_core.train import checkpoint

    from .tiny_run import TinyTask

    class Task(TinyTask):
        def build(self, source):
            self.module = MaskedDiffusion(
                TinyBackbone(), schedule=LogLinear(), policy=Weighted()
            )
            return self.module

    task = Task()
    settings = config(steps=3, save_every=3)
    train(settings, out=tmp_path, device="cpu", source=TinySource(), task=task)
    assert task.module.policy.heard == [(0, 3), (1, 3), (2, 3)]
    saved = checkpoint.read_tensors(tmp_path / "checkpoints" / "step-00000003", "ema")
    assert saved["policy.scale"] < 0.5


# ---- the bound --------------------------------------------------------------


def whole_split():
    source = TinySource()
    return next(source.batches("validation", size=100, seed=0))


def test_measure_is_the_estimator_over_the_split():
    backbone, noise = learned(), Noise(1)
    expected = likelihood.exact_counts(backbone, whole_split(), draws=3, noise=noise)
    found = measure(backbone, TinySource(), draws=3, noise=noise)
    mean, error = expected.per_token()
    assert found.nats == pytest.approx(mean, rel=1e-6)
    assert found.nats_se == pytest.approx(error, rel=1e-6)
    assert found.rows == 6
    assert found.tokens == int(whole_split().free.sum())
    assert found.evaluations == 18


def test_it_does_not_matter_how_many_rows_go_together(monkeypatch):
    backbone = learned()
    found = set()
    for size in (1, 2, 4, 16):
        monkeypatch.setattr(bound, "ROWS_AT_ONCE", size)
        result = measure(backbone, TinySource(), draws=2, rows=5, noise=Noise(1))
        assert result.rows == 5
        found.add(round(result.nats, 5))
    assert len(found) == 1


def test_rows_are_spread_over_the_split():
    backbone = learned()
    batch = whole_split().select(torch.tensor([1, 3, 5]))
    expected = likelihood.exact_counts(backbone, batch, draws=2, noise=Noise(1))
    found = measure(backbone, TinySource(), draws=2, rows=3, noise=Noise(1))
    assert found.nats == pytest.approx(expected.per_token()[0], rel=1e-6)


class Streamed(TinySource):
    """The same rows, of which nobody knows how many there are."""

    def size(self, split):
        return None


def test_a_stream_gives_its_first_rows():
    backbone = learned()
    batch = whole_split().select(slice(3))
    expected = likelihood.exact_counts(backbone, batch, draws=2, noise=Noise(1))
    found = measure(backbone, Streamed(), draws=2, rows=3, noise=Noise(1))
    assert found.nats == pytest.approx(expected.per_token()[0], rel=1e-6)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_rows(monkeypatch, world):
    def ids(rank, world):
        state = SimpleNamespace(process_index=rank, num_processes=world)
        monkeypatch.setattr(held_out, "PartialState", lambda: state)
        batches = held_out.held_out(TinySource(), 5, at_once=1)
        return [int(i) for batch in batches for i in batch.sample_id]

    alone = ids(0, 1)
    assert alone == [0, 1, 3, 4, 5]
    assert sorted(i for rank in range(world) for i in ids(rank, world)) == alone


def test_rows_of_several_shapes_and_conditions_are_measured():
    class Ragged(TinySource):
        def rows(self, split, ids, epoch):
            batch = super().rows(split, ids, epoch)
            whole = len(ids) > 1 or int(ids[0]) < 3
            return batch if whole else cut(batch)

    def cut(batch):
        return Batch.of(
            batch.tokens[:, :7],
            frozen=batch.frozen[:, :7],
            pad=batch.pad[:, :7],
            sample_id=batch.sample_id,
            condition={"label": batch.sample_id},
        )

    found = measure(learned(), Ragged(), draws=2, rows=5, noise=Noise(1))
    assert found.rows == 5


def test_a_size_that_is_not_true_is_told():
    class Boasting(TinySource):
        def size(self, split):
            return 60

    with pytest.raises(DataError, match="validation split of 60 rows has no row"):
        measure(learned(), Boasting(), draws=2, rows=3, noise=Noise(1))


class Heavy:
    """Bytes of which every other id stands for two."""

    def __init__(self, tells=True):
        self.inner = ByteTokenizer()
        self.tells = tells

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def token_bytes(self):
        return [1 + i % 2 for i in range(258)] if self.tells else None


@pytest.mark.parametrize("rows", [0, 3])
def test_bytes_are_those_of_the_rows_that_are_scored(rows):
    source = TinySource()
    source.tokenizer = Heavy()
    found = measure(learned(), source, draws=2, rows=rows, noise=Noise(1))
    batch = whole_split()
    batch = batch.select(torch.tensor([1, 3, 5])) if rows else batch
    counted = sum(1 + int(token) % 2 for token in batch.tokens[batch.free])
    assert found.bytes_per_token == pytest.approx(counted / int(batch.free.sum()))


def test_bytes_that_nobody_can_count_are_not_known():
    source, stream = TinySource(), Streamed()
    source.tokenizer = stream.tokenizer = Heavy(tells=False)
    settings = {"draws": 2, "noise": Noise(1)}
    assert measure(learned(), source, **settings).bytes_per_token == 1.0  # the card's
    some = measure(learned(), source, rows=3, **settings)
    assert some.bytes_per_token is None
    assert math.isnan(some.bits_per_byte)
    assert measure(learned(), stream, **settings).bytes_per_token is None


def test_a_model_that_sees_the_time_is_given_the_schedules():
    seen = []

    class Timed(TinyBackbone):
        time_conditioned = True

        def hidden(self, batch, t=None):
            masked = ((batch.tokens == self.mask_id) & batch.free).sum(1)
            seen.append((masked / batch.free.sum(1), t))
            return super().hidden(batch, t)

    schedule = Cosine()
    for estimator in ("exact-counts", "any-order"):
        measure(
            Timed(),
            TinySource(),
            draws=2,
            noise=Noise(1),
            estimator=estimator,
            schedule=schedule,
        )
    for share, t in seen:
        torch.testing.assert_close(
            schedule.mask_rate(t.double()), share.double(), atol=2e-3, rtol=0
        )


@pytest.mark.parametrize("estimator", bound.ESTIMATORS)
def test_every_estimator_agrees_within_its_error(estimator):
    backbone = learned()
    found = measure(
        backbone,
        TinySource(),
        draws=100,
        noise=Noise(2),
        estimator=estimator,
        schedule=LogLinear(),
    )
    reference = measure(backbone, TinySource(), draws=200, noise=Noise(3))
    # The rows are the same, so that only the draws differ.
    assert found.nats == pytest.approx(reference.nats, abs=0.1)
    each = found.tokens if estimator == "any-order" else found.rows
    assert found.evaluations == 100 * each


def test_a_model_that_knows_nothing_is_at_ln_v_minus_1():
    found = measure(TinyBackbone(), TinySource(), draws=2, noise=Noise(0))
    assert found.nats == pytest.approx(math.log(257), abs=1e-5)
    assert found.nats_se < 1e-6


def test_units():
    found = Bound(
        nats=math.log(2) * 3,
        nats_se=math.log(2) * 0.3,
        bytes_per_token=1.5,
        rows=2,
        tokens=10,
        draws=4,
        estimator="exact-counts",
    )
    assert found.bits_per_byte == pytest.approx(2.0)
    assert found.bits_per_byte_se == pytest.approx(0.2)
    assert found.perplexity == pytest.approx(8.0)
    assert found.perplexity_se == pytest.approx(8.0 * math.log(2) * 0.3)


def test_what_cannot_be_measured_is_told():
    class Empty(TinySource):
        def batches(self, split, **rest):
            return iter(())

    with pytest.raises(DataError, match="no rows to score"):
        measure(learned(), Empty(), draws=2, noise=Noise(0))
    with pytest.raises(ConfigError, match="estimator is 'exact'; it must be one of"):
        measure(learned(), TinySource(), draws=2, noise=Noise(0), estimator="exact")
    with pytest.raises(ConfigError, match="continuous-time needs a schedule"):
        measure(
            learned(),
            TinySource(),
            draws=2,
            noise=Noise(0),
            estimator="continuous-time",
        )


def test_float32_even_under_autocast():
    backbone = learned()
    plain = measure(backbone, TinySource(), draws=2, noise=Noise(0))
    with torch.autocast("cpu", torch.bfloat16):
        under = measure(backbone, TinySource(), draws=2, noise=Noise(0))
    assert under.nats == plain.nats


# ---- the task of the catalog ------------------------------------------------


def test_the_catalogs_task_builds_measures_and_samples():
    catalog = load_catalog()
    run = resolve(catalog, tiny=True).config
    task = catalog.build("task", run.task, run=run, catalog=catalog)
    source = TinySource()
    module = task.build(source)
    assert module.t_sampling == run.task.config.t_sampling
    numbers = task.evaluate(module, source)
    assert numbers["loss"] == pytest.approx(math.log(257), abs=1e-5)
    assert numbers["bits_per_byte"] == pytest.approx(math.log2(257), abs=1e-4)
    assert {"loss_se", "bits_per_byte_se", "perplexity_se"} <= numbers.keys()
    assert numbers == task.evaluate(module, source)
    texts = task.samples(module, source, seed=1)
    assert len(texts) == run.task.config.sample_count
    assert texts == task.samples(module, source, seed=1)


def test_batches_go_through_unchanged():
    batch = one_batch()
    seen = []

    class Watching(TinyBackbone):
        def hidden(self, batch, t=None):
            seen.append((batch, t))
            return super().hidden(batch, t)

    module = MaskedDiffusion(Watching(), schedule=LogLinear(), policy=UniformMasking())
    module(batch, DRAW)
    [(canvas, t)] = seen
    assert isinstance(canvas, Batch)
    assert torch.equal(canvas.tokens[batch.frozen], batch.tokens[batch.frozen])
    assert t.shape == (4,)
