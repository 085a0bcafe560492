"""From mappings to dataclasses: conversions, errors, rules, resolution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mdlm_core import hookimpl
from mdlm_core.catalog import Catalog
from mdlm_core.config import components, read_run, resolve, schema, to_yaml
from mdlm_core.config.describe import REQUIRED, describe, describe_run, field_texts
from mdlm_core.config.schema import Component, RunConfig, TrainConfig
from mdlm_core.errors import ConfigError, PluginError, UnknownNameError
from mdlm_core.hooks import HOOK_OF_KIND
from mdlm_core.plugins import Plugins
from mdlm_core.refs import Ref
from mdlm_core.specs import ComponentSpec, MaskingPolicySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    """Settings inside settings."""

    depth: int = 1
    """How deep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """One field of each type that a setting can have."""

    needed: int
    """It has no default."""
    whole: int = 1
    """A whole number."""
    number: float = 1.0
    """A number,
    over two lines."""
    text: str = ""
    flag: bool = False
    choice: Literal["red", "green", 1] = "red"
    maybe: int | None = None
    either: int | str = 0
    many: tuple[float, ...] = ()
    pair: tuple[int, str] = (0, "")
    listed: list[str] = field(default_factory=list)
    table: Mapping[str, float] = field(default_factory=dict)
    numbered: dict[int, str] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    optional: Inner | None = None
    path: Path = Path()
    free: Any = None

    def __post_init__(self) -> None:
        if self.whole > 100:
            raise ValueError(f"whole is {self.whole}; it must be at most 100")


class EveryPlugin:
    @hookimpl
    def mdlm_masking_policies(self):
        yield MaskingPolicySpec(
            name="every",
            summary="One.",
            factory=Ref("no.where:build"),
            config=Ref("every_settings:Every"),
            tiny={"whole": 2},
        )


@pytest.fixture
def every(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("every_settings")
    module.Every = Every
    monkeypatch.setitem(sys.modules, "every_settings", module)
    plugins = Plugins()
    plugins.add("every", EveryPlugin())
    catalog = Catalog(plugins)

    def build(**settings):
        import json

        sets = [f"masking.{key}={json.dumps(item)}" for key, item in settings.items()]
        given = [
            "masking=every",
            *([] if "needed" in settings else ["masking.needed=1"]),
        ]
        return resolve(catalog, sets=[*given, *sets]).config.masking.config

    return build


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("whole", 3, 3),
        ("whole", 1e2, 100),
        ("number", 3, 3.0),
        ("number", "1e-4", 1e-4),
        ("number", "inf", float("inf")),
        ("text", "on", "on"),
        ("flag", True, True),
        ("choice", "green", "green"),
        ("choice", 1, 1),
        ("maybe", None, None),
        ("maybe", 4, 4),
        ("either", "4", "4"),
        ("either", 4, 4),
        ("many", [1, "2", 3.5], (1.0, 2.0, 3.5)),
        ("many", [], ()),
        ("pair", [1, "a"], (1, "a")),
        ("listed", ["a"], ["a"]),
        ("table", {"a": 1, "b": "2e3"}, {"a": 1.0, "b": 2000.0}),
        ("numbered", {"1": "a"}, {1: "a"}),
        ("inner", {"depth": 4}, Inner(depth=4)),
        ("optional", None, None),
        ("optional", {"depth": 4}, Inner(depth=4)),
        ("path", "a/b", Path("a/b")),
        ("free", {"x": [1]}, {"x": [1]}),
    ],
)
def test_values_become_their_type(every, key, given, value):
    found = getattr(every(**{key: given}), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("whole", True, "masking.whole is true; it must be a whole number"),
        ("whole", 1.5, "masking.whole is 1.5; it must be a whole number"),
        ("whole", "5", "masking.whole is '5'; it must be a whole number"),
        ("whole", None, "masking.whole is null; it must be a whole number"),
        ("number", True, "masking.number is true; it must be a number"),
        ("number", "many", "masking.number is 'many'; it must be a number"),
        ("text", 5, "masking.text is 5; it must be text; put it in quotes"),
        ("flag", "on", "masking.flag is 'on'; it must be true or false; write true"),
        ("flag", 0, "masking.flag is 0; it must be true or false; write false"),
        ("choice", "gren", "it must be one of 'red', 'green', 1; did you mean 'green'"),
        ("choice", True, "masking.choice is true; it must be one of"),
        ("maybe", "x", "masking.maybe is 'x'; it must be a whole number or null"),
        ("either", 1.5, "masking.either is 1.5; it must be a whole number or text"),
        ("many", 3, "masking.many is 3; it must be a list; each item is a number"),
        ("many", ["x"], r"masking.many is \['x'\]; it must be a list"),
        ("pair", [1], r"it must be a list of a whole number, text"),
        ("table", 3, "masking.table is 3; it must be a mapping"),
        ("table", {"a": "x"}, "masking.table.a is 'x'; it must be a number"),
        ("numbered", {"a": "x"}, "it must be a mapping"),
        ("inner", 3, "masking.inner is 3; it must be a mapping"),
        ("inner", {"deep": 3}, "'masking.inner.deep'.*mean 'masking.inner.depth'"),
        ("whole", 101, "masking: whole is 101; it must be at most 100"),
    ],
)
def test_wrong_values_are_told_with_path_value_rule_and_origin(
    every, key, given, message
):
    with pytest.raises(ConfigError, match=message) as error:
        every(**{key: given})
    assert "(from --set)" in str(error.value)


def test_setting_without_default_must_be_given(catalog, every):
    assert every(needed=3).needed == 3
    with pytest.raises(ConfigError, match=r"masking\.needed is null"):
        every(needed=None)


def test_long_values_are_cut(every):
    with pytest.raises(ConfigError) as error:
        every(whole="x" * 500)
    assert len(str(error.value)) < 150


# ---- unknown names ----------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "train.stesp=1",
            "no setting 'train.stesp' (from --set); did you mean 'train.s",
        ),
        ("trian.steps=1", "no setting 'trian' (from --set); did you mean 'train'?"),
        ("steps=1", "no setting 'steps' (from --set); did you mean 'train.steps'?"),
        (
            "train.width=1",
            "no setting 'train.width' (from --set); did you mean 'model.",
        ),
        ("qqq=1", "a configuration has seed, task, model, schedule"),
        ("masking.zzz=1", "masking has no settings"),
        ("model=dti", "model.name: there is no backbone 'dti' (did you mean 'dit'?)"),
        ("masking=atat", "pip install mdlm-atat (from --set)"),
        ("model=null", "model is null; it must be a name, or a mapping with a name"),
        ("model=[dit]", "model is ['dit']; it must be a name"),
        ("model.name=3", "it must be a name, or a mapping with a name (from --set)"),
        ("train.steps=0", "train.steps is 0; it must be at least 1 (from --set)"),
        ("model.heads=5", "model.heads (5), so that a head has an even size (from pr"),
    ],
)
def test_mistakes_are_answered(catalog, given, message):
    with pytest.raises(ConfigError) as error:
        resolve(catalog, sets=[given])
    assert message in str(error.value)


def test_broken_rule_names_every_file_that_takes_part(catalog, tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("model:\n  width: 60\n")
    two.write_text("\nmodel: {heads: 7}\n")
    with pytest.raises(ConfigError) as error:
        resolve(catalog, files=[one, two])
    assert f"(from {one}:2, {two}:2)" in str(error.value)


def test_wrong_type_names_file_and_line(catalog, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\ntrain:\n  lr: fast\n")
    with pytest.raises(ConfigError, match=re.escape(f"a number (from {file}:3)")):
        resolve(catalog, files=[file])


# ---- resolution -------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "dit-tiny", "dit-small", "dit-medium"])
def test_presets_resolve(catalog, name):
    assert isinstance(resolve(catalog, preset=name).config, RunConfig)


@pytest.mark.parametrize(
    ("name", "width", "blocks", "heads"),
    [("tiny", 512, 8, 8), ("small", 768, 12, 12), ("medium", 1024, 24, 16)],
)
def test_reference_presets_hold_the_published_settings(
    catalog, name, width, blocks, heads
):
    config = resolve(catalog, preset=f"dit-{name}").config
    model, train, data = config.model.config, config.train, config.data.config
    assert (model.width, model.blocks, model.heads) == (width, blocks, heads)
    assert (model.cond_width, model.dropout, model.mlp_ratio) == (128, 0.1, 4)
    assert (model.conv_kernel, model.time_conditioned) == (0, False)
    assert (config.schedule.name, config.schedule.config.eps) == ("loglinear", 1e-3)
    assert (config.sampler.name, config.sampler.config.steps) == ("ddpm-cache", 128)
    assert (train.lr, train.beta1, train.beta2) == (3e-4, 0.9, 0.999)
    assert (train.adam_eps, train.weight_decay, train.clip) == (1e-8, 0, 1)
    assert (train.batch_size, train.steps, train.warmup) == (512, 1_000_000, 2500)
    assert (train.ema, train.lr_schedule) == (0.9999, "constant")
    assert (config.data.name, data.tokenizer, data.length) == ("hf", "gpt2", 1024)
    assert config.task.config.t_sampling == "stratified"
    assert config.task.config.t_min == 1e-3


def test_quick_start_needs_nothing_but_the_core(catalog):
    config = resolve(catalog).config
    assert (config.data.name, config.data.config.tokenizer) == ("python-docs", "byte")


def test_layers_win_in_their_order(catalog, tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("seed: 1\ntrain: {lr: 1e-5, clip: 2}\n")
    two.write_text("seed: 2\ntrain: {lr: 2e-5}\n")
    resolved = resolve(catalog, files=[one, two], sets=["seed=3"])
    assert resolved.config.seed == 3
    assert (resolved.config.train.lr, resolved.config.train.clip) == (2e-5, 2)
    assert resolved.origins["seed"] == "--set"
    assert resolved.origins["train.lr"] == f"{two}:2"
    assert resolved.origins["train.clip"] == f"{one}:2"
    assert resolved.origins["train.warmup"] == "preset default"
    assert resolved.origins["train.beta1"] == "default"


def test_every_leaf_has_an_origin(catalog):
    resolved = resolve(catalog, tiny=True)
    text = to_yaml(resolved.config, resolved.origins)
    settings = [line for line in text.splitlines() if not line.rstrip().endswith(":")]
    assert len(settings) == len(resolved.origins)
    assert all("  # " in line for line in settings)


def test_tiny_shrinks_what_was_chosen_and_set_still_wins(catalog):
    resolved = resolve(
        catalog,
        preset="dit-medium",
        sets=["sampler=confidence", "train.steps=7", "data=python-docs"],
        tiny=True,
    )
    config = resolved.config
    assert config.model.config.width == 64
    assert (config.sampler.name, config.sampler.config.steps) == ("confidence", 8)
    assert (config.train.steps, config.train.batch_size) == (7, 4)
    assert (config.train.warmup, config.train.micro_batch) == (0, 0)
    assert 0 < config.train.eval_every <= 10
    assert (config.data.name, config.data.config.length) == ("python-docs", 64)
    assert resolved.origins["train.steps"] == "--set"
    assert resolved.origins["model.width"] == "--tiny"
    assert resolved.origins["sampler.name"] == "--set"
    assert resolved.origins["model.name"] == "preset dit-medium"


def test_tiny_settings_of_every_core_component_are_valid(catalog):
    for key, kind in schema.KIND_OF_FIELD.items():
        for name in catalog.names(kind):
            resolve(catalog, sets=[f"{key}={name}"], tiny=True)


def test_unknown_component_is_told_in_tiny_too(catalog):
    with pytest.raises(UnknownNameError):
        resolve(catalog, sets=["model=dti"], tiny=True)


def test_plugin_chooses_its_default_preset(catalog):
    assert resolve(catalog, plugin="core") == resolve(catalog)
    with pytest.raises(UnknownNameError, match="pip install mdlm-atat"):
        resolve(catalog, plugin="atat")
    with pytest.raises(UnknownNameError, match="pip install mdlm-atat"):
        resolve(catalog, preset="atat/small")


def test_plugin_without_a_default_preset_says_so():
    plugins = Plugins()
    plugins.add("every", EveryPlugin())
    with pytest.raises(ConfigError, match="plugin 'every' has no preset"):
        resolve(Catalog(plugins), plugin="every")


def test_run_is_read_from_its_folder_or_file(catalog, tmp_path):
    config = resolve(catalog, sets=["seed=9", "sampler=confidence"]).config
    text = to_yaml(config) + "versions: {torch: 2.13.0, mdlm-core: 0.1.0}\n"
    (tmp_path / "config.yaml").write_text(text)
    assert read_run(tmp_path, catalog) == config
    assert read_run(tmp_path / "config.yaml", catalog) == config
    changed = read_run(tmp_path, catalog, sets=["sampler=ancestral", "seed=1"])
    assert (changed.sampler.name, changed.seed) == ("ancestral", 1)
    assert changed.train == config.train


def test_run_that_is_none_is_told(catalog, tmp_path):
    with pytest.raises(ConfigError, match="is no run"):
        read_run(tmp_path, catalog)
    with pytest.raises(ConfigError, match="is no run"):
        read_run(tmp_path / "nowhere", catalog)


# ---- settings classes -------------------------------------------------------


def settings_classes():
    found = [RunConfig, TrainConfig, Component, *vars(components).values()]
    return [cls for cls in found if isinstance(cls, type) and is_dataclass(cls)]


@pytest.mark.parametrize("cls", settings_classes(), ids=lambda cls: cls.__name__)
def test_settings_of_core_are_frozen_documented_and_have_defaults(cls):
    assert cls.__dataclass_params__.frozen
    assert all(entry.kw_only for entry in fields(cls))
    texts = field_texts(cls)
    for entry in fields(cls):
        assert texts.get(entry.name, "").endswith("."), entry.name
    if cls is not Component:
        assert all(s.default != REQUIRED for s in describe(cls))
        cls()


def test_texts_are_one_line_and_inherited():
    assert field_texts(Every)["number"] == "A number, over two lines."
    assert "text" not in field_texts(Every)
    assert "steps" in field_texts(components.ConfidenceConfig)


def test_describe_knows_types_and_defaults():
    found = {setting.path: setting for setting in describe(Every, "masking")}
    assert found["masking.needed"].default == REQUIRED
    assert found["masking.inner.depth"].help == "How deep."
    assert found["masking.maybe"].type == "a whole number or null"
    assert found["masking.choice"].type == "one of 'red', 'green', 1"


def test_describe_run_covers_every_leaf(catalog):
    resolved = resolve(catalog)
    assert [s.path for s in describe_run(resolved.config)] == list(resolved.origins)


def test_classes_that_cannot_hold_settings_are_refused(monkeypatch, every):
    import every_settings

    for value, message in (
        (int, "is no dataclass"),
        (Component, "a setting cannot be called 'name'"),
    ):
        monkeypatch.setattr(every_settings, "Every", value)
        with pytest.raises(PluginError, match=message):
            every()


def test_every_component_of_core_is_described(catalog):
    for kind in HOOK_OF_KIND:
        for spec in catalog.specs(kind):
            if isinstance(spec, ComponentSpec):
                assert all(s.help for s in describe(spec.config.load()))
