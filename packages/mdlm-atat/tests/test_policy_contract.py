"""The policy keeps core's laws when its bias is real, not only in the warm-up."""

import pytest

from mdlm_core.testing.contract import cases

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
    "learned": REAL | {"importance.learned": 1.0, "importance.frequency": 0.0},
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
    from mdlm_core.testing.subject import Subject

    [case] = [
        case
        for case in cases("atat", settings={"masking-atat": REAL})
        if case.id == "masking-atat-monotone"
    ]
    subject = Subject(case.catalog, case.plugin, case.spec, case.given, case.settings)
    assert abs(subject.policy.curriculum.kappa) > 1
