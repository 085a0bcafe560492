"""The policy keeps core's laws when its bias is real, not only in the warm-up."""

import pytest
import torch

from mdlm_core.testing.contract import cases
from mdlm_core.testing.subject import Subject

REAL = {
    "strategy": "proportional",
    "temperature": 0.7,
    "curriculum.preset": "none",
    "curriculum.warmup": 0,
    "curriculum.final_uniform": 0.0,
}
SETTINGS = {
    "default": {},
    "real": REAL,
    "inverse": REAL | {"strategy": "inverse"},
    "ema": REAL | {"importance.target": "loss_ema", "importance.conv_kernel": 3},
    "el2n": REAL | {"importance.target": "el2n", "position_bias": 0.5},
    "excess": REAL | {"importance.target": "excess", "ht_power": 0.5},
    "rescale": REAL | {"shape": "rescale"},
    "nelbo": REAL | {"objective": "nelbo"},
    "visible": REAL | {"importance.context": "visible"},
}
ON_AVERAGE = {
    # Masks in two rounds have the schedule's rate over the first round's draw only;
    # test_visible holds it there.
    "visible": {
        "masks_nothing_at_zero_and_all_at_one",
        "mean_rate_follows_the_schedule",
        "monotone",
    }
}


def laws():
    for name, settings in SETTINGS.items():
        for case in cases("atat", settings={"masking-atat": settings}):
            if not case.id.startswith("masking-"):
                continue
            if case.law.name not in ON_AVERAGE.get(name, ()):
                yield pytest.param(case, id=f"{name}-{case.law.name}")


@pytest.mark.parametrize("case", list(laws()))
def test_laws(case):
    case.run()


def test_the_bias_is_real():
    cased = cases("atat", settings={"masking-atat": REAL})
    case = next(case for case in cased if case.id.startswith("masking-"))
    subject = Subject(case.catalog, case.plugin, case.spec, case.given, case.settings)
    t = torch.full((4,), 0.5).double()
    chance = subject.policy.rates(subject.batch, t, subject.schedule).mask_prob
    assert chance.amax(1).min() - chance.amin(1).max() > 0.3
