"""Spec records and the hooks that yield them."""

import dataclasses
import inspect

import pytest

from mdlm_core import builtin, hooks, specs
from mdlm_core.errors import PluginError
from mdlm_core.refs import Ref
from mdlm_core.specs import CommandSpec, PresetSpec, SamplerSpec


def sampler(**changes):
    values = {
        "name": "greedy",
        "summary": "Surest first.",
        "factory": Ref("a.b:c"),
        "config": Ref("a.b:d"),
    }
    return SamplerSpec(**{**values, **changes})


def test_spec_is_frozen_and_takes_keywords_only():
    spec = sampler()
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"
    with pytest.raises(TypeError):
        SamplerSpec("greedy")


@pytest.mark.parametrize(
    "name", ["", "Greedy", "two words", "under_score", "-a", "a--b"]
)
def test_name_is_kebab_case(name):
    with pytest.raises(PluginError, match="kebab-case"):
        sampler(name=name)


@pytest.mark.parametrize("summary", ["", "two\nlines", "x" * 73])
def test_summary_is_one_short_line(summary):
    with pytest.raises(PluginError, match="summary"):
        sampler(summary=summary)


@pytest.mark.parametrize(
    "path", ["default.yaml", "a:b.yml", "a:b c.yaml", "a-b:c.yaml"]
)
def test_preset_path_names_a_package_and_a_yaml_file(path):
    with pytest.raises(PluginError, match="package:folder"):
        PresetSpec(name="x/default", summary="One.", path=path)


@pytest.mark.parametrize("name", ["default", "atat/small", "dit-tiny"])
def test_preset_name_may_have_a_plugin_in_front(name):
    assert PresetSpec(name=name, summary="One.", path="a.b:c/d.yaml").name == name


@pytest.mark.parametrize("name", ["a/b/c", "/a", "a/"])
def test_preset_name_has_one_slash_at_most(name):
    with pytest.raises(PluginError, match="kebab-case"):
        PresetSpec(name=name, summary="One.", path="a:b.yaml")


def test_kinds_are_different_and_each_has_a_hook():
    classes = [
        value
        for value in vars(specs).values()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__name__.endswith("Spec")
        and value is not specs.ComponentSpec
    ]
    kinds = [value.kind for value in classes]
    assert len(kinds) == len(set(kinds)) == 8
    assert set(kinds) == set(hooks.HOOK_OF_KIND)
    assert CommandSpec.kind == "command"


def test_every_hook_has_a_text_and_takes_no_argument():
    for name in hooks.HOOK_OF_KIND.values():
        hook = getattr(hooks, name)
        assert inspect.getdoc(hook).startswith("Yield ")
        assert not inspect.signature(hook).parameters


def test_builtin_implements_every_hook_but_commands():
    for kind, name in hooks.HOOK_OF_KIND.items():
        assert hasattr(builtin, name) is (kind != "command")
