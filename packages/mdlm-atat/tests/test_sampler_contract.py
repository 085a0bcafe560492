"""The sampler keeps core's laws in every order, and with a bound on entropy."""

import pytest
import torch

from mdlm_core.catalog import load_catalog
from mdlm_core.config.components import DiTConfig
from mdlm_core.nn.dit import DiT
from mdlm_core.samplers import Denoiser
from mdlm_core.testing.contract import cases
from mdlm_core.testing.tiny import LENGTH, MASK_ID, VOCAB_SIZE

SETTINGS = {
    "confident": {},
    "uncertain": {"order": "uncertain_first", "score": "confidence"},
    "importance": {"order": "importance", "score": "margin"},
    "left": {"order": "left_to_right"},
    "random": {"order": "random"},
    "bound": {"entropy_bound": 1.0},
    "bound-random": {"order": "random", "entropy_bound": 3.0},
}
SEES_T = ("confident", "random")


class ByToken:
    """A policy with an opinion on every canvas."""

    def rates(self, batch, t, schedule):
        raise AssertionError("a sampler does not mask")

    def importance(self, batch, t):
        table = torch.linspace(0, 1, VOCAB_SIZE)[batch.tokens.masked_fill(batch.pad, 0)]
        return (table + table.roll(1, 1) * t[:, None]).sin().square()


def model(time_conditioned):
    config = DiTConfig(
        blocks=1, width=32, heads=2, cond_width=16, time_conditioned=time_conditioned
    )
    backbone = DiT(config, vocab_size=VOCAB_SIZE, mask_id=MASK_ID, length=LENGTH)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            size = parameter.shape[-1] if parameter.dim() > 1 else 25
            step = torch.randn(parameter.shape, generator=generator)
            parameter.add_(step / size**0.5)
    return backbone.eval()


def denoise(time_conditioned=False):
    backbone = model(time_conditioned)
    return lambda **settings: Denoiser(backbone, policy=ByToken(), **settings)


def laws():
    catalog = load_catalog()
    for name, settings in SETTINGS.items():
        for timed in [False, True][: 1 + (name in SEES_T)]:
            for case in cases(
                "atat",
                catalog=catalog,
                given={"denoise": lambda timed=timed: denoise(timed)},
                settings={"sampler-uncertainty": settings},
            ):
                if case.id.startswith("sampler-"):
                    suffix = "-t" * timed
                    yield pytest.param(case, id=f"{name}{suffix}-{case.law.name}")


@pytest.mark.parametrize("case", list(laws()))
def test_laws(case):
    case.run()
