"""YAML with scalars as in 1.2, the layers, and the rules by which they merge."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_core.config.layers import (
    default_layer,
    file_layer,
    layer_of,
    leaves,
    merge,
    preset_layer,
    set_layer,
)
from mdlm_core.config.reading import read_yaml
from mdlm_core.errors import ConfigError, PluginError
from mdlm_core.specs import PresetSpec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3e4", 3e4),
        ("3.", 3.0),
        (".5", 0.5),
        ("-1.5E+3", -1500.0),
        ("012", 12),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("FALSE", False),
        ("on", "on"),
        ("no", "no"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'null'", "null"),
        ("'1e-4'", "1e-4"),
        ("!!str 5", "5"),
        ("-.inf", -math.inf),
        ("[1, a, 1e3]", [1, "a", 1000.0]),
        ("{1: a, on: b, null: c}", {"1": "a", "on": "b", "null": "c"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = read_yaml(text, "x").value
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(read_yaml(".nan", "x").value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:3: the key 'a' stands here and at line 1"),
        ("a:\n  - b\n  c: 1", r"x.yaml:3: this is not valid YAML"),
        ("a: @b", r"x.yaml:1: this is not valid YAML: found character '@'"),
        ("a: 1\n---\nb: 2", r"x.yaml:2: this is not valid YAML"),
        ("a: !!python/object:os.system x", "x.yaml:1: the tag .* has no meaning"),
        ("\n? [1, 2]\n: 3", "x.yaml:2: a key must be text"),
        ("a: !!int five", "x.yaml:1: 'five' is not of the type"),
        ("a: &loop [*loop]", "x.yaml:1: an alias"),
        ("a: \x00", "x.yaml: this is not valid YAML"),
    ],
)
def test_bad_yaml_is_told_with_file_and_line(text, message):
    with pytest.raises(ConfigError, match=message):
        read_yaml(text, "x.yaml")


def test_every_key_has_its_line():
    lines = read_yaml("a: 1\nb:\n  c: 2\n\n  d: {e: 3}\n", "x").lines
    assert lines == {"a": 1, "b": 2, "b.c": 3, "b.d": 5, "b.d.e": 5}


# ---- merging ----------------------------------------------------------------


def merged(*trees):
    layer = layer_of({}, "nothing")
    for number, tree in enumerate(trees):
        layer = merge(layer, layer_of(tree, str(number)))
    return layer


def test_mappings_merge_and_the_rest_replaces():
    layer = merged(
        {"train": {"steps": 1, "report_to": ["a", "b"]}, "seed": 1},
        {"train": {"report_to": ["c"], "lr": 2}},
    )
    assert layer.tree == {
        "train": {"steps": 1, "report_to": ["c"], "lr": 2},
        "seed": 1,
    }
    assert layer.origins == {
        "train.steps": "0",
        "train.report_to": "1",
        "train.lr": "1",
        "seed": "0",
    }


def test_null_is_a_value():
    layer = merged({"train": {"steps": 1}}, {"train": {"steps": None}})
    assert layer.tree == {"train": {"steps": None}}
    assert layer.origins == {"train.steps": "1"}


def test_scalar_and_mapping_replace_each_other():
    assert merged({"train": {"a": 1}}, {"train": 3}).origins == {"train": "1"}
    assert merged({"train": 3}, {"train": {"a": 1}}).origins == {"train.a": "1"}


def test_new_name_drops_the_settings_of_the_old_one():
    layer = merged(
        {"sampler": {"name": "confidence", "score": "margin", "steps": 9}},
        {"sampler": {"name": "ancestral", "top_k": 5}},
    )
    assert layer.tree["sampler"] == {"name": "ancestral", "top_k": 5}
    assert set(layer.origins) == {"sampler.name", "sampler.top_k"}


def test_same_name_keeps_the_settings():
    for name in ("ddpm-cache", "ddpm_cache"):
        layer = merged(
            {"sampler": {"name": "ddpm-cache", "steps": 9}},
            {"sampler": {"name": name, "top_k": 5}},
        )
        assert layer.tree["sampler"]["steps"] == 9


def test_name_is_special_in_components_only():
    layer = merged({"train": {"name": "a", "x": 1}}, {"train": {"name": "b"}})
    assert layer.tree["train"] == {"name": "b", "x": 1}


def test_bare_text_is_a_name():
    layer = merged({"model": {"name": "dit", "width": 3}}, {"model": "dit"})
    assert layer.tree["model"] == {"name": "dit", "width": 3}
    layer = merged({"model": {"name": "dit", "width": 3}}, {"model": "other"})
    assert layer.tree["model"] == {"name": "other"}


def test_merging_leaves_the_layers_alone():
    low, high = {"train": {"a": 1}}, {"train": {"b": 2}}
    merged(low, high)
    assert (low, high) == ({"train": {"a": 1}}, {"train": {"b": 2}})


SCALARS = st.integers() | st.none() | st.lists(st.integers(), max_size=2)
KEYS = st.sampled_from(["a", "b", "name"])
INNER = st.dictionaries(KEYS, SCALARS, max_size=3)
TREES = st.dictionaries(KEYS, SCALARS | INNER, max_size=3)


@given(TREES, TREES)
def test_the_top_wins_and_the_rest_stays(low, high):
    layer = merge(layer_of(low, "low"), layer_of(high, "high"))
    found, below, above = (dict(leaves(tree)) for tree in (layer.tree, low, high))
    assert set(layer.origins) == set(found)
    for path, value in found.items():
        assert value == (above if layer.origins[path] == "high" else below)[path]
    for path, value in above.items():
        if value != {}:
            assert layer.origins[path] == "high"
    for path, value in below.items():
        related = [
            other
            for other in above
            if f"{other}.".startswith(f"{path}.") or f"{path}.".startswith(f"{other}.")
        ]
        if not related:
            assert found[path] == value


# ---- the layers themselves --------------------------------------------------


def test_default_layer_names_every_component():
    tree = default_layer().tree
    assert tree["model"] == {"name": "dit"}
    assert set(tree) == {"task", "model", "schedule", "masking", "sampler", "data"}


def test_file_layer_remembers_lines(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\n\nmodel: dit\ntrain:\n  steps: 3\nversions: {a: 1}\n")
    layer = file_layer(file)
    assert layer.tree == {"seed": 1, "model": {"name": "dit"}, "train": {"steps": 3}}
    assert layer.origins == {
        "seed": f"{file}:1",
        "model.name": f"{file}:3",
        "train.steps": f"{file}:5",
    }


def test_empty_file_says_nothing(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert file_layer(tmp_path / "a.yaml").tree == {}


def test_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert file_layer(tmp_path / "a.yaml").tree == {"seed": 3}


def test_unusable_files_are_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        file_layer(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        file_layer(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"seed: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8 text \\(byte 6\\)"):
        file_layer(tmp_path / "binary.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="a configuration is a mapping"):
        file_layer(tmp_path / "list.yaml")


def test_preset_that_is_not_in_its_package_is_told():
    spec = PresetSpec(name="x", summary="One.", path="mdlm_core:presets/none.yaml")
    with pytest.raises(PluginError, match="preset 'x'"):
        preset_layer(spec)
    spec = PresetSpec(name="x", summary="One.", path="no_such_package:a.yaml")
    with pytest.raises(PluginError, match="preset 'x'"):
        preset_layer(spec)


def test_set_reads_values_as_yaml():
    layer = set_layer(
        ["train.lr=1e-4", "train.report_to=[a, b]", "model={name: dit, width: 64}"]
    )
    assert layer.tree == {
        "train": {"lr": 1e-4, "report_to": ["a", "b"]},
        "model": {"name": "dit", "width": 64},
    }
    assert set(layer.origins.values()) == {"--set"}


def test_value_may_hold_an_equals_sign():
    assert set_layer(["data.path=a=b"]).tree == {"data": {"path": "a=b"}}


def test_later_set_wins_and_the_order_of_name_and_settings_does_not_matter():
    assert set_layer(["seed=1", "seed=2"]).tree == {"seed": 2}
    one = set_layer(["sampler.score=margin", "sampler.name=confidence"])
    two = set_layer(["sampler=confidence", "sampler.score=margin"])
    assert one.tree == two.tree
    assert one.tree["sampler"] == {"name": "confidence", "score": "margin"}


@pytest.mark.parametrize("text", ["train.steps", "=3", "a..b=1", ".a=1", "a b=1", ""])
def test_set_that_is_no_assignment_is_refused(text):
    with pytest.raises(ConfigError, match="--set takes path=value"):
        set_layer([text])


def test_set_with_bad_yaml_says_to_quote():
    with pytest.raises(ConfigError, match=r"--set data.path: .*quote the value"):
        set_layer(["data.path=@home"])


def test_paths_are_written_as_given():
    with pytest.raises(ConfigError, match=r"'no/such\.yaml'"):
        file_layer(Path("no/such.yaml"))
