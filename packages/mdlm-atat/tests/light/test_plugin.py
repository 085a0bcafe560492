"""What mdlm-atat declares, checked without torch."""

import subprocess
import sys

import pytest

from mdlm_atat import plugin
from mdlm_atat.config import AtatConfig
from mdlm_core import ConfigError


def test_policy_is_declared():
    (spec,) = plugin.mdlm_masking_policies()
    assert spec.name == "atat"
    assert spec.config.load() is AtatConfig


def test_preset_is_declared():
    (spec,) = plugin.mdlm_presets()
    assert spec.name == "atat/default"


@pytest.mark.parametrize("strength", [-0.1, 1.0, 2.0])
def test_strength_out_of_range_is_refused(strength):
    with pytest.raises(ConfigError, match="strength"):
        AtatConfig(strength=strength)


def test_declaration_is_light():
    modules = f"{plugin.__name__}, {AtatConfig.__module__}"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
