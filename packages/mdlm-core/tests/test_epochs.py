"""A run said in epochs; what a task counts, tells, and leaves out of a checkpoint."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.masking import UniformMasking
from mdlm_core.tasks import MaskedDiffusion
from mdlm_core.train import checkpoint, load_run
from mdlm_core.train.epochs import in_steps
from mdlm_core.train.metrics import read_metrics

from .tiny_run import TinyBackbone, TinySource, TinyTask, config, run

EPOCH = 5  # 20 rows in batches of 4


def kinds(folder, kind):
    lines = read_metrics(folder / "metrics.jsonl")
    return [line["step"] for line in lines if line["kind"] == kind]


def test_epochs_measured_and_saved_after_each(tmp_path):
    outcome = run(tmp_path, epochs=3, eval_every="epoch", save_every="epoch")
    assert outcome.step == outcome.steps == 3 * EPOCH
    assert kinds(tmp_path, "validation") == [EPOCH, 2 * EPOCH, 3 * EPOCH]
    written = read_run(tmp_path, load_catalog()).train
    assert (written.steps, written.eval_every, written.epochs) == (15, 5, 3)


def test_a_part_of_an_epoch(tmp_path):
    assert run(tmp_path, epochs=0.5).step == 2  # half of 5, rounded to even


def test_a_run_of_epochs_goes_on(tmp_path):
    run(tmp_path / "a", epochs=2)
    run(tmp_path / "b", epochs=1)
    outcome = run(tmp_path / "b", epochs=2, resume=True)
    assert outcome.step == 2 * EPOCH
    ends = [checkpoint.checkpoints(tmp_path / n / "checkpoints")[-1] for n in "ab"]
    one, other = (checkpoint.read_tensors(end, checkpoint.MODEL) for end in ends)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stream_has_no_epochs():
    class Stream(TinySource):
        def size(self, split):
            return None

    for setting in ({"epochs": 1}, {"eval_every": "epoch"}, {"save_every": "epoch"}):
        with pytest.raises(ConfigError, match=f"train.{next(iter(setting))}"):
            in_steps(config(**setting), Stream())
    assert in_steps(config(), Stream()) == config()


def test_a_source_may_count_the_steps_of_an_epoch_itself():
    class Repeated(TinySource):
        def steps_per_epoch(self, batch):
            return 12 * (5 // batch)

    counted = in_steps(config(epochs=2, eval_every="epoch"), Repeated()).train
    assert (counted.steps, counted.eval_every) == (24, 12)  # batches of 4


# ---- what a task counts and tells ---------------------------------------------


class ByRow(MaskedDiffusion):
    """The loss of each row over its own length, and the mean of that over rows."""

    def forward(self, batch, draw):
        loss = super().forward(batch, draw)
        free = batch.free.sum(1)
        value = (loss.masked.sum(1) / free).mean()
        rows = torch.tensor(len(batch))
        return replace(loss, count=rows, extra={"hidden": value})

    def count(self, batch):
        return torch.tensor(len(batch))


class ByRowTask(TinyTask):
    def build(self, source):
        return ByRow(
            TinyBackbone(dropout=0.0), schedule=LogLinear(), policy=UniformMasking()
        )


def final(folder):
    last = checkpoint.checkpoints(folder / "checkpoints")[-1]
    return checkpoint.read_tensors(last, checkpoint.MODEL)


@pytest.mark.parametrize("micro", [1, 3])
def test_a_count_of_its_own_is_exact_under_accumulation(tmp_path, micro):
    run(tmp_path / "whole", task=ByRowTask(), steps=4)
    run(tmp_path / "cut", task=ByRowTask(), steps=4, micro_batch=micro)
    whole, cut = final(tmp_path / "whole"), final(tmp_path / "cut")
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name], rtol=1e-4, atol=1e-6)


def test_numbers_of_a_task_stand_in_the_metrics(tmp_path):
    run(tmp_path / "whole", task=ByRowTask(), steps=3)
    run(tmp_path / "cut", task=ByRowTask(), steps=3, micro_batch=1)
    shown = [
        [line["hidden"] for line in read_metrics(tmp_path / name / "metrics.jsonl")
         if line["kind"] == "train"]
        for name in ("whole", "cut")
    ]  # fmt: skip
    assert len(shown[0]) == 3
    assert all(0 <= value <= 1 for value in shown[0])
    assert shown[0] == pytest.approx(shown[1])


# ---- weights from outside -------------------------------------------------------


class Adapted(TinyBackbone):
    """Its embedding comes from elsewhere and stays as it is."""

    external_tensors = frozenset({"embed.weight"})

    def __init__(self):
        super().__init__(dropout=0.0)
        nn.init.constant_(self.embed.weight, 0.25)
        self.embed.weight.requires_grad_(False)


class AdaptedTask(TinyTask):
    def build(self, source):
        return MaskedDiffusion(Adapted(), schedule=LogLinear(), policy=UniformMasking())


def test_weights_from_outside_are_in_no_checkpoint(tmp_path):
    run(tmp_path, task=AdaptedTask(), steps=4)
    saved = final(tmp_path)
    assert "backbone.embed.weight" not in saved
    assert "backbone.mix.weight" in saved
    loaded = load_run(tmp_path, task=AdaptedTask(), source=TinySource(), weights="raw")
    assert torch.equal(loaded.backbone.mix.weight, saved["backbone.mix.weight"])
    assert bool((loaded.backbone.embed.weight == 0.25).all())
    assert run(tmp_path, task=AdaptedTask(), steps=6, resume=True).step == 6


def test_a_checkpoint_without_them_is_of_another_model_for_one_that_needs_them(
    tmp_path,
):
    run(tmp_path, task=AdaptedTask(), steps=2)
    with pytest.raises(CheckpointError, match=r"lacks 'backbone\.embed\.weight'"):
        load_run(tmp_path, task=TinyTask(), source=TinySource())
