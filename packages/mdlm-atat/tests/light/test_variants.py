"""Variants are settings, and nothing but the variant differs between them."""

import subprocess
import sys
from dataclasses import replace

import pytest

from mdlm_atat.ablation.plan import Phase, config_hash, make_jobs, matched_steps
from mdlm_atat.datasets import get_dataset_manager
from mdlm_atat.variants import ALIASES, VARIANTS, find_variant, sets_data, settings_of
from mdlm_core import ConfigError, UnknownNameError, UsageError, load_catalog
from mdlm_core.config import resolve, to_dict
from mdlm_core.config.layers import leaves


def settled(name, preset="atat/books-cpu", sets=()):
    settings = settings_of(find_variant(name), sets)
    return resolve(load_catalog(), preset=preset, sets=settings).config


@pytest.mark.parametrize("preset", ["atat/books-cpu", "atat/default", "default"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_nothing_but_masking_and_times(name, preset):
    own = dict(leaves(to_dict(settled(name, preset))))
    plain = dict(leaves(to_dict(settled("uniform", preset))))
    paths = own.keys() | plain.keys()
    changed = {path for path in paths if own.get(path) != plain.get(path)}
    allowed = ("masking.", "task.t_sampling")
    assert all(path.startswith(allowed) for path in changed)


def test_what_the_variants_of_the_first_phase_are():
    full = settled("full").masking
    assert full.name == "atat"
    assert (full.config.importance.learned, full.config.importance.frequency) == (
        0.7,
        0.3,
    )
    assert (full.config.ht_power, full.config.strategy) == (1, "balanced")
    frequency = settled("frequency_only").masking.config.importance
    assert (frequency.learned, frequency.frequency) == (0, 1)
    learned = settled("learned_only").masking.config.importance
    assert (learned.learned, learned.frequency) == (1, 0)
    naive = settled("frequency_naive").masking.config
    assert (naive.ht_power, naive.importance.frequency) == (0, 1)
    assert settled("uniform").masking.name == settled("bell").masking.name == "uniform"
    for name in VARIANTS:
        bell = settled(name, "atat/default").task.config.t_sampling == "bell"
        assert bell == name.endswith("bell")
    assert settled("frequency_inverse").masking.config.strategy == "inverse"
    for name in ("proportional", "inverse", "balanced", "time_only"):
        assert settled(name).masking.config.strategy == name
    for name in ("default", "early", "late", "none"):
        curriculum = settled(f"curriculum_{name}").masking.config.curriculum
        assert curriculum.preset == name


def test_the_original_spellings_are_the_same_variants():
    assert find_variant("importance_ablation_full") is VARIANTS["full"]
    assert find_variant("frequency-only") is VARIANTS["frequency_only"]
    assert set(ALIASES.values()) == set(VARIANTS)


def test_a_second_reference_is_a_variant_that_says_what_the_bias_adds():
    found = {name: v.against for name, v in VARIANTS.items() if v.against}
    assert found == {"full": "uniform_time_matched", "full_bell": "bell"}
    assert set(found.values()) <= VARIANTS.keys()


def test_an_unknown_variant_is_refused_with_near_misses():
    with pytest.raises(UnknownNameError, match="did you mean 'frequency_only'"):
        find_variant("importance_ablation_frequncy_only")


def test_the_phases_of_the_registry_name_variants_that_exist():
    manager = get_dataset_manager()
    for name in manager.list_phases():
        variants = manager.get_phase_config(name).variants
        assert "uniform" in variants
        assert all(find_variant(variant).name == variant for variant in variants)


def test_phases_that_are_run_one_by_one_compare_at_equal_time():
    manager = get_dataset_manager()
    for name in ("A1_IMPORTANCE_ESTIMATOR_ABLATION", "GPU_IMPORTANCE_ABLATION"):
        phase = manager.get_phase_config(name)
        assert "uniform_time_matched" in phase.variants
        jobs = make_jobs(
            load_catalog(),
            Phase(name=name, preset=phase.preset, variants=phase.variants),
        )
        assert [j.variant.name for j in jobs if j.waits] == ["uniform_time_matched"]
    cpu = manager.get_phase_config("CPU_IMPORTANCE_ABLATION")
    assert "uniform_time_matched" not in cpu.variants


def test_settings_of_the_policy_go_to_the_variants_that_have_it():
    sets = ("masking.temperature=3", "train.lr=1e-3")
    assert settled("full", sets=sets).masking.config.temperature == 3
    uniform = settled("uniform", sets=sets)
    assert uniform.masking.name == "uniform"
    assert uniform.train.lr == 1e-3


@pytest.mark.parametrize(
    "text",
    ["task.t_sampling=bell", "masking.name=uniform", "masking=uniform"],
)
def test_a_setting_that_a_variant_stands_for_is_refused(text):
    with pytest.raises(UsageError, match="stands for its own"):
        settings_of(find_variant("full"), (text,))


# ---- the plan --------------------------------------------------------------------

PHASE = Phase(
    name="P",
    preset="atat/books-cpu",
    sets=("train.steps=70", "train.batch_size=8"),
    variants=("uniform", "full", "balanced"),
    seeds=(3, 4),
)


def jobs(**changes):
    return make_jobs(load_catalog(), PHASE, **changes)


def test_every_variant_has_every_seed_and_the_phases_settings():
    planned = jobs()
    assert [(job.variant.name, job.seed) for job in planned] == [
        (name, seed) for seed in (3, 4) for name in PHASE.variants
    ]
    assert {job.config.train.steps for job in planned} == {70}
    assert [job.config.seed for job in planned] == [3, 3, 3, 4, 4, 4]


def test_a_hash_is_the_settings_and_nothing_else():
    first, again = jobs(), jobs()
    assert [job.hash for job in first] == [job.hash for job in again]
    uniform, full, balanced = (job.hash for job in first[:3])
    assert full == balanced != uniform  # one run for the two names of one thing
    other = jobs(sets=("train.lr=1e-3",))
    assert not {job.hash for job in first} & {job.hash for job in other}
    assert config_hash(first[0].config) == first[0].hash


def test_the_text_of_training_is_in_the_hash_and_its_path_is_not():
    def hashes(path, text):
        sets = ("data.name=jsonl", f"data.path={path}")
        phase = replace(PHASE, sets=sets, text_sha256=text)
        return [job.hash for job in make_jobs(load_catalog(), phase)]

    known = hashes("old/train.jsonl", "aa")
    assert hashes("new/train.jsonl", "aa") == known
    assert not set(hashes("old/train.jsonl", "bb")) & set(known)
    # Where the text is not known, the path is all there is.
    assert not set(hashes("old/x", "")) & set(hashes("new/x", ""))


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("data=python-docs", True),
        ("data.name = jsonl", True),
        ("data.path=a.jsonl", True),
        ("data.length=64", False),
        ("data.tokenizer=byte", False),
        ("train.data=1", False),
    ],
)
def test_what_are_other_data_than_those_of_the_phase(text, own):
    assert sets_data(["train.lr=1", text]) == own


def test_other_data_drop_all_that_is_said_of_the_phases():
    sets = ("data.name=jsonl", "data.path=a.jsonl", "data.tokenizer=gpt2")
    phase = replace(PHASE, sets=sets)
    for user in (("data=python-docs",), ("data.name=python-docs",)):
        data = make_jobs(load_catalog(), phase, sets=user)[0].config.data
        assert (data.name, data.config.tokenizer) == ("python-docs", "char")
    # A path alone is one of the preset's data, as for mdlm atat train.
    with pytest.raises(ConfigError, match="path"):
        make_jobs(load_catalog(), phase, sets=("data.path=b.jsonl",))


def test_a_user_wins_over_the_phase_and_tiny_over_its_sizes():
    user = jobs(sets=("train.steps=9",))
    assert {job.config.train.steps for job in user} == {9}
    tiny = jobs(tiny=True)
    assert {job.config.train.steps for job in tiny} == {5}
    assert {job.config.train.batch_size for job in tiny} == {4}


def test_a_time_matched_variant_needs_the_times():
    phase = Phase(name="P", preset="atat/books-cpu", variants=("uniform_time_matched",))
    with pytest.raises(UsageError, match="full and uniform"):
        make_jobs(load_catalog(), phase)


def test_matched_steps_fill_the_time_of_the_other_run():
    slow = {"steps": 100, "steps_per_second": 4.0}  # 25 s
    fast = {"steps": 100, "steps_per_second": 10.0}
    assert matched_steps(fast, slow) == 250
    assert matched_steps(slow, fast) == 40


def test_variants_plan_and_commands_are_light():
    modules = (
        "mdlm_atat.variants, mdlm_atat.ablation.plan, mdlm_atat.cli.ablate, "
        "mdlm_atat.cli.evaluate"
    )
    heavy = "{'torch', 'numpy', 'scipy', 'matplotlib'}"
    code = f"import sys, {modules}; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
