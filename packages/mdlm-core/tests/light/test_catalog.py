"""Names to specs: near misses, hints, conflicts, building."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from mdlm_core import hookimpl
from mdlm_core.catalog import FIRST_PARTY, PLURAL, Catalog, load_catalog
from mdlm_core.config.schema import Component
from mdlm_core.errors import MissingExtraError, PluginError, UnknownNameError
from mdlm_core.hooks import HOOK_OF_KIND
from mdlm_core.plugins import PluginRecord, Plugins
from mdlm_core.refs import Ref
from mdlm_core.specs import ComponentSpec, SamplerSpec, ScheduleSpec


@dataclass(frozen=True, kw_only=True)
class Settings:
    size: int = 3


def build(config, **context):
    return config, context


def offers(*names, **more):
    """Return a plugin that yields schedules of these names."""

    class Plugin:
        @hookimpl
        def mdlm_schedules(self):
            for name in names:
                yield ScheduleSpec(
                    name=name,
                    summary="One.",
                    factory=Ref("offered:build"),
                    config=Ref("offered:Settings"),
                    **more,
                )

    return Plugin()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    module = ModuleType("offered")
    module.build, module.Settings = build, Settings
    monkeypatch.setitem(sys.modules, "offered", module)


def catalog_of(**plugins):
    made = Plugins()
    for name, plugin in plugins.items():
        made.add(name, plugin)
    return Catalog(made)


def test_core_offers_what_the_reference_has(catalog):
    assert catalog.names("schedule") == [
        "cosine",
        "cosine-squared",
        "geometric",
        "linear-sigma",
        "loglinear",
    ]
    assert {"ancestral", "ddpm", "ddpm-cache", "analytic"} <= set(
        catalog.names("sampler")
    )
    assert catalog.names("preset") == ["default", "dit-medium", "dit-small", "dit-tiny"]


def test_every_component_of_core_has_usable_settings(catalog):
    for kind in HOOK_OF_KIND:
        for spec in catalog.specs(kind):
            if isinstance(spec, ComponentSpec):
                settings = spec.config.load()
                settings(**dict(spec.tiny))
    assert set(PLURAL) == set(HOOK_OF_KIND)


def test_underscore_finds_the_hyphen(catalog):
    assert catalog.get("sampler", "ddpm_cache").name == "ddpm-cache"
    assert catalog.has("sampler", " first_hitting ")
    assert not catalog.has("sampler", "dit")


def test_unknown_name_has_near_misses_and_the_list(catalog):
    with pytest.raises(UnknownNameError) as error:
        catalog.get("schedule", "cosin")
    text = str(error.value)
    assert "there is no schedule 'cosin' (did you mean 'cosine'" in text
    assert "Installed schedules: cosine, cosine-squared, geometric" in text


@pytest.mark.parametrize("plugin", FIRST_PARTY)
def test_first_party_name_says_what_to_install(catalog, plugin):
    for kind, name in (("masking", plugin), ("preset", f"{plugin}/default")):
        with pytest.raises(UnknownNameError, match=f"pip install mdlm-{plugin}$"):
            catalog.get(kind, name)


def test_name_of_a_plugin_that_failed_says_why():
    plugins = Plugins()
    record = PluginRecord("atat", "mdlm_atat.plugin", "mdlm-atat", "0.1.0")
    record.fail("failed", ImportError("No module named 'Bio'"))
    plugins.records.append(record)
    with pytest.raises(UnknownNameError) as error:
        Catalog(plugins).get("masking", "atat")
    assert "is failed: ImportError: No module named 'Bio'" in str(error.value)
    assert "mdlm plugins doctor atat" in str(error.value)
    assert "pip install" not in str(error.value)


def test_conflict_is_told_when_the_name_is_asked_for():
    catalog = catalog_of(one=offers("wavy", "calm"), two=offers("wavy"))
    assert catalog.get("schedule", "calm").name == "calm"
    assert catalog.provider("schedule", "calm").name == "one"
    assert "wavy" in catalog.names("schedule")
    with pytest.raises(PluginError, match=r"'wavy' is provided by one, two.*DISABLE"):
        catalog.get("schedule", "wavy")


def test_core_cannot_be_overridden():
    catalog = catalog_of(bold=offers("loglinear"))
    assert "mdlm_core" in str(catalog.get("schedule", "loglinear").factory)
    assert catalog.provider("schedule", "loglinear").name == "core"


def test_build_calls_the_factory_with_settings_and_context():
    catalog = catalog_of(one=offers("wavy"))
    settings = Settings(size=5)
    component = Component(name="wavy", config=settings)
    assert catalog.build("schedule", component, source=1) == (settings, {"source": 1})
    assert catalog.build("schedule", Component(name="wavy")) == (Settings(), {})


def test_build_names_the_missing_extra():
    needy = offers("wavy", requires=("there_is_no_such_module",), extra="mdlm-core[hf]")
    with pytest.raises(MissingExtraError, match=r"pip install 'mdlm-core\[hf\]'"):
        catalog_of(one=needy).build("schedule", Component(name="wavy"))


def test_import_registers_a_module(tmp_path, monkeypatch, only_core):
    (tmp_path / "my_hooks.py").write_text(
        "from mdlm_core import SamplerSpec, Ref, hookimpl\n"
        "@hookimpl\n"
        "def mdlm_samplers():\n"
        "    yield SamplerSpec(name='mine', summary='One.', factory=Ref('a:b'),\n"
        "                      config=Ref('a:c'))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    catalog = load_catalog("my_hooks")
    assert isinstance(catalog.get("sampler", "mine"), SamplerSpec)
    assert "mine" not in load_catalog().names("sampler")
    with pytest.raises(PluginError, match="--import no_such_hooks: it does not load"):
        load_catalog("no_such_hooks")
