"""The original's spelling becomes our settings, or is refused with a reason."""

import subprocess
import sys
from itertools import chain

import pytest

from mdlm_atat.original import translate
from mdlm_atat.original_keys import DECLINED, KEYS, NEEDS
from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.config.describe import describe_run
from mdlm_core.errors import UsageError


def sets_of(*arguments):
    return translate(arguments).sets


def test_phase_variant_and_preset_are_no_settings():
    found = translate(["phase=A1", "variant=importance_ablation_full", "preset=debug"])
    assert (found.phase, found.variant, found.preset) == (
        "A1",
        "importance_ablation_full",
        "debug",
    )
    assert found.sets == ()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("dim=256", "model.width=256"),
        ("model.dim=256", "model.width=256"),
        ("n_layers=8", "model.blocks=8"),
        ("model.n_layers=8", "model.blocks=8"),
        ("n_heads=4", "model.heads=4"),
        ("model.name=atat_dit", "model.name=atat-dit"),
        ("model.importance_hidden_dim=128", "masking.importance.width=128"),
        ("importance_hidden_dim=128", "masking.importance.width=128"),
        ("importance_estimator.num_layers=2", "masking.importance.blocks=2"),
        ("importance_estimator.num_heads=4", "masking.importance.heads=4"),
        ("model.masking_strategy=balanced", "masking.strategy=balanced"),
        ("model.masking_strategy=importance", "masking.strategy=proportional"),
        ("masking_temperature=1.5", "masking.temperature=1.5"),
        ("position_bias=false", "masking.position_bias=0"),
        ("position_bias=True", "masking.position_bias=0.1"),
        ("position_bias=0.4", "masking.position_bias=0.4"),
        ("use_adaptive_masking=false", "masking.strategy=time_only"),
        ("use_curriculum=False", "masking.curriculum.preset=none"),
        ("use_curriculum=0", "masking.curriculum.preset=none"),
        ("curriculum.warmup_steps=1000", "masking.curriculum.warmup=1000"),
        ("curriculum.dynamic_adjustment=true", "masking.curriculum.dynamic=true"),
        ("training.importance_loss_weight=0.1", "masking.importance.loss_weight=0.1"),
        ("trainer.max_steps=500000", "train.steps=500000"),
        ("loader.global_batch_size=512", "train.batch_size=512"),
        ("loader.batch_size=64", "train.micro_batch=64"),
        ("batch_size=64", "train.batch_size=64"),
        ("optim.lr=3e-4", "train.lr=3e-4"),
        ("trainer.precision=bf16", "train.precision=bf16"),
        ("training.antithetic_sampling=False", "task.t_sampling=uniform"),
        ("noise=loglinear", "schedule.name=loglinear"),
        ("sampling.predictor=ddpm_cache", "sampler.name=ddpm-cache"),
        ("seed=42", "seed=42"),
        ("+seed=42", "seed=42"),
    ],
)
def test_one_setting(argument, expected):
    assert sets_of(argument) == (expected,)


@pytest.mark.parametrize(
    ("mode", "learned", "frequency"),
    [
        ("full", "0.7", "0.3"),
        ("learned_only", "1", "0"),
        ("frequency_only", "0", "1"),
        ("none", "0", "0"),
    ],
)
def test_importance_modes(mode, learned, frequency):
    assert sets_of(f"model.importance_mode={mode}") == (
        f"masking.importance.learned={learned}",
        f"masking.importance.frequency={frequency}",
    )


@pytest.mark.parametrize(
    ("easy", "hard", "preset"),
    [("0.3", "0.3", "default"), ("0.2", "0.4", "early"), ("0.35", "0.20", "late")],
)
def test_fractions_name_a_curriculum(easy, hard, preset):
    found = sets_of(
        f"curriculum.easy_fraction={easy}", f"curriculum.hard_fraction={hard}"
    )
    assert found == (f"masking.curriculum.preset={preset}",)


@pytest.mark.parametrize("easy", ["0.5", "many"])
def test_other_fractions_are_refused(easy):
    with pytest.raises(UsageError, match=r"0\.2 and 0\.4 \(early\)"):
        translate([f"curriculum.easy_fraction={easy}"])


def test_no_curriculum_wins_over_its_fractions():
    found = sets_of("use_curriculum=false", "curriculum.easy_fraction=0.3")
    assert found[-1] == "masking.curriculum.preset=none"


def test_what_is_on_is_as_the_variant_says():
    found = translate(["use_importance=true", "use_curriculum=false"])
    assert found.needs == ("use_importance",)
    assert found.sets == ("masking.curriculum.preset=none",)
    assert set(NEEDS) <= set(KEYS)


def test_what_is_always_so_is_taken_and_does_nothing():
    assert sets_of("parameterization=subs", "T=0", "data.wrap=True") == ()
    with pytest.raises(UsageError, match="must be 0, which is always so"):
        translate(["T=1000"])


def test_later_settings_stand_behind_earlier_ones():
    assert sets_of("dim=64", "dim=128") == ("model.width=64", "model.width=128")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("data.train=openwebtext", "the phase names the data"),
        ("wandb.project=x", r"report_to"),
        ("trainer.devices=2", "accelerate launch"),
        ("checkpointing.resume_from_ckpt=true", "--resume"),
        ("adaptive_masking.sharpness=2.0", "masking_temperature"),
    ],
)
def test_what_is_not_taken_says_why(argument, reason):
    with pytest.raises(UsageError, match=reason):
        translate([argument])


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("dmi=2", "'dim'"),
        ("use_importence=true", "'use_importance'"),
        ("model.importance_hiden_dim=2", "'model.importance_hidden_dim'"),
        ("optimizer.lr=2", "'optim.lr'"),
        ("varient=full", "'variant'"),
        ("model.blockz=3", "'model.blocks'"),
    ],
)
def test_unknown_keys_get_near_misses(argument, near):
    with pytest.raises(UsageError, match="there is no setting") as error:
        translate([argument], ours=["model.blocks", "train.lr"])
    assert near in str(error.value)


def test_a_value_gets_near_misses():
    with pytest.raises(UsageError, match="did you mean 'proportional'"):
        translate(["masking_strategy=propotional"])


@pytest.mark.parametrize("argument", ["phase", "=3", "dim=", "--dim"])
def test_what_is_no_assignment_is_refused(argument):
    with pytest.raises(UsageError, match="no assignment"):
        translate([argument])


def test_our_settings_are_taken_as_well():
    ours = ["train.steps", "masking.curriculum.focus"]
    assert translate(["train.steps=5"], ours).sets == ("train.steps=5",)
    with pytest.raises(UsageError, match=r"train\.steps"):
        translate(["train.stesp=5"], ours)


def test_every_row_is_a_setting_of_ours():
    """What the table says is there, whichever preset and sampler is chosen."""
    paths = set()
    for sampler in ("ancestral", "uncertainty"):
        sets = [f"sampler.name={sampler}"]
        run = resolve(load_catalog(), plugin="atat", sets=sets).config
        paths |= {setting.path for setting in describe_run(run)}
    for rule in KEYS.values():
        lists = [(rule,)] if isinstance(rule, str) else rule.values()
        for text in chain(*lists):
            assert text.partition("=")[0] in paths


def test_every_fixed_value_resolves():
    catalog = load_catalog()
    for name, rule in KEYS.items():
        if not isinstance(rule, str):
            for value in set(rule) - {"*"}:
                resolve(catalog, plugin="atat", sets=sets_of(f"{name}={value}"))


def test_a_key_is_either_taken_or_declined():
    exact = {name for name in DECLINED if not name.endswith(".")}
    assert not exact & set(KEYS)


def test_translation_is_light():
    code = "import sys, mdlm_atat.original; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
