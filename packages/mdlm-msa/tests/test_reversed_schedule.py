"""The reader of settings whose time runs the other way."""

from __future__ import annotations

import pytest
import torch

from mdlm_core import load_catalog
from mdlm_core.cli import run
from mdlm_core.config import read_run
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.likelihood import continuous_time, exact_counts
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import ConfigError
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import Denoiser, ancestral
from mdlm_msa import reversed_schedule
from mdlm_msa.config import ReversedConfig
from mdlm_msa.reversed_schedule import ReversedLogLinear, from_original
from mdlm_msa.samplers import remask

EPS = 1e-3


class Uniform:
    """Every one of five tokens alike."""

    vocab_size = 6
    mask_id = 5
    time_conditioned = False

    def hidden(self, batch, t=None):
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, hidden):
        return torch.zeros(len(hidden), self.vocab_size)


def test_it_is_the_original_formula_in_turned_time():
    t = torch.linspace(0, 1, 9, dtype=torch.float64)  # of the original: 1 is clean
    original = 1 - (1 - EPS) * t
    schedule = ReversedLogLinear(EPS)
    tau = from_original(t)
    assert torch.allclose(schedule.mask_rate(tau), original)
    assert torch.allclose(schedule.alpha(tau), 1 - original)
    assert torch.allclose(schedule.time_of(original), tau)
    assert torch.allclose(schedule.weight(tau), (1 - EPS) / original)
    assert torch.allclose(from_original(tau), t)
    assert schedule.time_of(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_weight_and_derivative_are_those_of_the_mask_rate():
    t = torch.linspace(0.01, 0.99, 7, dtype=torch.float64, requires_grad=True)
    schedule = ReversedLogLinear(0.03)
    (slope,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    assert torch.allclose(schedule.dalpha(t), slope)
    assert torch.allclose(schedule.weight(t), -slope / (1 - schedule.alpha(t)))


@pytest.mark.parametrize("sampler", [ancestral, remask], ids=["ddpm", "remask"])
def test_it_samples_what_loglinear_samples_up_to_eps(sampler):
    canvas = Batch.of(torch.full((200, 12), 5))

    def tokens(schedule):
        return sampler(
            Denoiser(Uniform()),
            canvas,
            schedule=schedule,
            noise=Noise(0),
            steps=16,
            batch_size=200,
        ).tokens

    there, here = tokens(ReversedLogLinear(EPS)), tokens(LogLinear(EPS))
    # One number decides each event and each token, so that only events nearer than
    # eps to a step can differ; ancestral draws a token with one number whenever it is.
    assert float((there != here).double().mean()) < 16 * EPS


def test_the_bound_holds_the_piece_below_eps_too():
    batch = Batch.of(torch.randint(0, 5, (4, 7), generator=torch.Generator()))
    truth = 7 * torch.log(torch.tensor(5.0)).item()
    counts = exact_counts(Uniform(), batch, draws=3, noise=Noise(0))
    assert counts.nats.tolist() == pytest.approx([truth] * 4)
    found = continuous_time(
        Uniform(), batch, schedule=ReversedLogLinear(0.2), draws=150, noise=Noise(0)
    )
    assert bool(((found.nats - truth).abs() < 4 * found.se).all())
    # Without the piece below eps a fifth of it would be missing.
    assert float(found.se.max()) * 5 < 0.2 * truth


def test_the_notice_is_said_once_and_the_source_is_kept(capsys):
    reversed_schedule._notice.cache_clear()
    catalog = load_catalog()
    spec = catalog.get("schedule", "loglinear-reversed")
    first = reversed_schedule.build(ReversedConfig(eps=0.01))
    reversed_schedule.build(ReversedConfig(eps=0.01))
    said = capsys.readouterr().err
    assert said.count("note:") == 1
    assert "t = 0 is clean" in said
    assert first.eps == 0.01
    assert spec.name == "loglinear-reversed"


def test_a_run_keeps_what_was_converted(tmp_path, capsys):
    out = tmp_path / "run"
    chosen = ["--set", "schedule.name=loglinear-reversed", "--set", "schedule.eps=0.01"]
    quick = ["--tiny", "--device", "cpu", "--steps", "1"]
    assert run(["msa", "train", *quick, *chosen, "--out", str(out)]) == 0
    kept = read_run(out, load_catalog()).schedule
    assert kept.name == "loglinear-reversed"
    assert kept.config.eps == 0.01
    assert "converted_from: sigma(t) =" in (out / "config.yaml").read_text()
    assert "clean at t = 1" in kept.config.converted_from
    with pytest.raises(ConfigError, match="leave it out"):
        ReversedConfig(converted_from="something else")


def test_eps_outside_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"eps is 1\.0"):
        ReversedLogLinear(1.0)
