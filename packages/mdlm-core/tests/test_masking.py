"""The uniform policy is the schedule itself."""

import torch

from mdlm_core.config.components import UniformMaskingConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Cosine, Draw, LogLinear, Times, corrupt, nelbo
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking, build_uniform
from mdlm_core.protocols import MaskingPolicy

from .toy import Toy


def test_rates_are_the_schedules():
    batch = Batch.of(torch.zeros(3, 5, dtype=torch.long))
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    for schedule in (LogLinear(), Cosine(0.0)):
        rates = UniformMasking().rates(batch, t, schedule)
        assert rates.mask_prob.shape == rates.weight.shape == (3, 1)
        assert torch.equal(rates.mask_prob[:, 0], schedule.mask_rate(t))
        assert torch.equal(rates.weight[:, 0], schedule.weight(t))


def test_build_returns_a_policy():
    policy = build_uniform(UniformMaskingConfig(), source=None)
    assert isinstance(policy, MaskingPolicy)
    assert isinstance(policy, UniformMasking)


def test_no_policy_means_the_uniform_one():
    batch = Batch.of(torch.randint(0, 2, (64, 3), generator=torch.Generator()))
    times = Times(torch.full((64,), 0.4).double(), torch.ones(64).double())
    settings = {"schedule": LogLinear(), "noise": Noise(1), "mask_id": 2}
    first = corrupt(batch, times, **settings)
    second = corrupt(batch, times, policy=UniformMasking(), **settings)
    assert torch.equal(first.masked, second.masked)
    assert torch.equal(first.weight, second.weight)
    draw = Draw(Noise(0), torch.arange(64), 64)
    for kind in ("stratified", "counts"):
        losses = [
            nelbo(
                Toy(3),
                batch,
                schedule=LogLinear(),
                draw=draw,
                policy=policy,
                t_sampling=kind,
            )
            for policy in (None, UniformMasking())
        ]
        assert torch.equal(losses[0].total, losses[1].total)
