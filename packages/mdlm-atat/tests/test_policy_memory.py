"""What the policy remembers: not how a batch is cut, nor when a run was stopped."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from mdlm_atat.config import CurriculumConfig
from mdlm_atat.curriculum import BINS
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.diffusion import Draw, LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.tasks import MaskedDiffusion
from mdlm_core.testing import tiny_source
from mdlm_core.train import checkpoint, train
from mdlm_core.train.precision import measure_step

from .test_policy import denoiser, noised, policy, rows

TARGETS = ("loss_rank", "loss_ema", "excess")
EVERYTHING = CurriculumConfig(warmup=2, focus=2.0, dynamic=True)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def new(target="loss_rank", **changes):
    ours = policy(
        target=target, strategy="balanced", curriculum=EVERYTHING, bins=4, **changes
    )
    return MaskedDiffusion(denoiser(), schedule=LogLinear(), policy=ours)


def learn(module, step, optimizer=None, parts=None):
    """Do one step of a run of ten, in the given parts of the batch."""
    module.advance(step, 10)
    batch = rows(8)
    for part in parts or [slice(0, 8)]:
        draw = Draw(Noise(7), torch.arange(8)[part], 8, step=step)
        loss = module(batch.select(part), draw)
        (loss.total / batch.free.sum()).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


# ---- what leaves no trace ---------------------------------------------------


def test_a_run_may_measure_its_speed_before_it_begins():
    module = new()
    before = state(module)
    measure_step(module, rows(), seed=3)
    after = state(module)
    counted = {name for name in before if ".frequency." in name}
    same(*({k: v for k, v in s.items() if k not in counted} for s in (before, after)))


@pytest.mark.parametrize("how", ["evaluation", "no gradients"])
@pytest.mark.parametrize("target", TARGETS)
def test_only_training_changes_the_memory(how, target):
    ours = new(target).policy
    ours.advance(0, 10)
    ours.importance(rows(), torch.ones(4) / 2)
    corrupted = noised(ours, rows())
    nll = torch.linspace(0, 3, int(corrupted.masked.sum()))
    before = state(ours)
    ours.train(how != "evaluation")
    with torch.set_grad_enabled(how == "evaluation"):
        ours.auxiliary_loss(corrupted, nll)
    same(before, state(ours))
    ours.train()
    ours.auxiliary_loss(corrupted, nll)
    assert ours.targets.loss.pending.abs().max() > 0


def test_tokens_are_counted_as_training_begins_and_never_again():
    ours = new().policy
    assert not ours.frequency.counted
    ours.advance(0, 100)  # a warm-up without a bias, in which nobody asks for ranks
    assert ours.frequency.counted
    ranks = ours.frequency.rank.clone()
    assert ranks.unique().numel() > 2
    resumed = new().policy
    resumed.load_state_dict(ours.state_dict())
    resumed.frequency._source = None  # it would fail to count
    resumed.advance(50, 100)
    assert torch.equal(resumed.frequency.rank, ranks)


def test_the_first_step_forgets_what_came_before():
    ours = new().policy
    ours.advance(5, 10)
    corrupted = noised(ours, rows())
    ours.auxiliary_loss(corrupted, torch.ones(int(corrupted.masked.sum())))
    ours.advance(0, 10)
    assert ours.targets.loss.pending.abs().max() == 0
    assert ours.targets.loss.running.abs().max() == 0


# ---- how a step is cut ------------------------------------------------------


@pytest.mark.parametrize("context", ["clean", "visible"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_cut_of_a_batch_does_not_matter(target, context):
    whole, cut = new(target, context=context), new(target, context=context)
    for step in range(4):
        for module in (whole, cut):
            module.zero_grad()
        learn(whole, step)
        learn(cut, step, parts=[slice(0, 1), slice(1, 4), slice(4, 8)])
        ours, theirs = state(whole.policy), state(cut.policy)
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5)
    # By now all bins were seen, so that the targets are the same as well.
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


# ---- a run that was stopped -------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_module_that_was_saved_goes_on_bit_for_bit(target):
    def optimizer(module):
        return torch.optim.SGD(module.parameters(), lr=0.1)

    whole = new(target)
    sgd = optimizer(whole)
    for step in range(3):
        learn(whole, step, sgd)
    saved = state(whole)
    for step in range(3, 6):
        learn(whole, step, sgd)
    resumed = new(target)
    with torch.no_grad():
        for name, value in resumed.state_dict().items():
            value.copy_(saved[name])
    sgd = optimizer(resumed)
    for step in range(3, 6):
        learn(resumed, step, sgd)
    same(state(whole), state(resumed))


SETTINGS = (
    "model.blocks=1",
    "model.width=16",
    "model.heads=2",
    "model.cond_width=8",
    "model.dropout=0.0",
    "task.eval_draws=2",
    "task.eval_rows=4",
    "task.sample_count=0",
    "masking.name=atat",
    "masking.importance.width=16",
    "masking.importance.heads=2",
    "masking.importance.blocks=1",
    "masking.importance.bins=3",
    "masking.importance.frequency_tokens=300",
    "masking.curriculum.focus=2.0",
    "train.steps=10",
    "train.batch_size=6",
    "train.optimizer=adamw",
    "train.lr=0.01",
    "train.warmup=2",
    "train.save_every=0",
)


class Stopping:
    """The tiny source, which asks the run to stop at the sixth step."""

    def __init__(self, stop):
        self.source, self.stop = tiny_source(), stop

    def __getattr__(self, name):
        return getattr(self.source, name)

    def batches(self, split, *, start=0, **how):
        for index, batch in enumerate(
            self.source.batches(split, start=start, **how), start
        ):
            if self.stop and split == "train" and index == 5 and how["size"] == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def run(out, *, stop=False, resume=False, precision="fp32", **settings):
    sets = [*SETTINGS, f"train.precision={precision}"]
    sets += [f"train.{name}={value}" for name, value in settings.items()]
    config = resolve(load_catalog(), preset="default", sets=sets).config
    train(config, out=out, resume=resume, device="cpu", source=Stopping(stop))
    [last] = checkpoint.checkpoints(out / "checkpoints")[-1:]
    return last, load_file(last / "model.safetensors")


def test_a_run_that_was_stopped_is_the_run_that_was_not(tmp_path):
    _, whole = run(tmp_path / "whole")
    place, _ = run(tmp_path / "parts", stop=True)
    assert checkpoint.step_of(place) == 6
    _, resumed = run(tmp_path / "parts", resume=True)
    same(whole, resumed)
    assert any("targets.loss.running" in name for name in whole)


def test_a_run_does_not_depend_on_its_micro_batches(tmp_path):
    _, whole = run(tmp_path / "whole", lr=1e-3)
    _, cut = run(tmp_path / "cut", lr=1e-3, micro_batch=2)
    compared = 0
    for name, value in whole.items():
        if "running" in name:
            torch.testing.assert_close(cut[name], value, rtol=1e-4, atol=1e-6)
            compared += 1
        if "quantiles" in name:  # rounding may move a token to the next bin
            torch.testing.assert_close(cut[name], value, rtol=0, atol=1 / BINS)
            compared += 1
    assert compared == 2
    assert whole["policy.targets.loss.running"][:, 0].min() > 0


def test_a_run_that_measures_its_precision_is_the_same(tmp_path):
    _, plain = run(tmp_path / "plain", steps=3)
    place, measured = run(tmp_path / "measured", steps=3, precision="auto")
    if checkpoint.read_state(place)["precision"] == "fp32":
        same(plain, measured)
    else:  # bf16 was faster here: the numbers differ, the counts do not
        name = "policy.targets.loss.running"
        assert torch.equal(plain[name][:, 0], measured[name][:, 0])
