"""What mdlm-atat declares, checked without torch."""

import subprocess
import sys

import pytest

from mdlm_atat import plugin
from mdlm_atat.config import (
    AtatConfig,
    ATATDiTConfig,
    CurriculumConfig,
    GenMD4Config,
    ImportanceConfig,
    UncertaintyConfig,
)
from mdlm_core import ConfigError, load_catalog
from mdlm_core.config import resolve
from mdlm_core.plugins import Plugins

DECLARED = {
    plugin.mdlm_backbones: {"atat-dit": ATATDiTConfig},
    plugin.mdlm_masking_policies: {"atat": AtatConfig},
    plugin.mdlm_samplers: {"uncertainty": UncertaintyConfig},
    plugin.mdlm_tasks: {"genmd4": GenMD4Config},
}


@pytest.mark.parametrize("hook", DECLARED, ids=lambda hook: hook.__name__)
def test_components_are_declared_with_their_settings(hook):
    assert {spec.name: spec.config.load() for spec in hook()} == DECLARED[hook]


@pytest.mark.parametrize(
    "spec", list(plugin.mdlm_presets()), ids=lambda spec: spec.name
)
def test_every_preset_can_be_read(spec):
    run = resolve(load_catalog(), preset=spec.name).config
    assert run.masking.name == "atat"
    assert run.model.name == "atat-dit"


def test_the_plugin_loads_beside_core_alone():
    record = Plugins().add("atat", plugin)
    assert (record.name, record.status) == ("atat", "loaded")


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (AtatConfig, {"temperature": 0.0}, "time_only"),
        (AtatConfig, {"temperature": -1.0}, "must be positive"),
        (AtatConfig, {"clip": 0.5}, "clip is 0.5"),
        (AtatConfig, {"ht_power": 1.5}, "ht_power is 1.5"),
        (AtatConfig, {"objective": "nelbo", "shape": "rescale"}, "kink"),
        (ImportanceConfig, {"learned": 0.9, "frequency": 0.3}, "add up to at most 1"),
        (ImportanceConfig, {"learned": -0.1}, "learned is -0.1"),
        (ImportanceConfig, {"bins": 0}, "bins is 0"),
        (CurriculumConfig, {"final_uniform": 1.5}, "final_uniform is 1.5"),
        (CurriculumConfig, {"focus": 0.5}, "focus is 0.5"),
        (UncertaintyConfig, {"steps": 0}, "steps is 0"),
        (GenMD4Config, {"w_init": 0.0}, "w_init is 0.0"),
        (GenMD4Config, {"t_sampling": "bell"}, "t_sampling is bell"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings, told):
    with pytest.raises(ConfigError, match=told):
        kind(**settings)


def test_declarations_and_commands_are_light():
    heavy = "{'torch', 'numpy', 'scipy', 'transformers', 'accelerate', 'matplotlib'}"
    code = (
        "import sys, mdlm_atat.plugin, mdlm_atat.config, mdlm_atat.variants, "
        "mdlm_atat.datasets, mdlm_atat.cli, mdlm_atat.original; "
        f"found = {heavy} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
