"""Settings written as YAML read back as the same settings."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mdlm_core.catalog import Catalog
from mdlm_core.config import resolve, to_dict, to_yaml
from mdlm_core.config.layers import default_layer, layer_of, leaves, merge
from mdlm_core.config.reading import read_yaml
from mdlm_core.config.structure import structure
from mdlm_core.plugins import Plugins

CATALOG = Catalog(Plugins())

WORDS = "on no 1e-4 012 12:30 ~ null # - ' { ] @ % 2024-01-01 0o7 .5 ü▒ --- ..."
NASTY = st.sampled_from(
    [*WORDS.split(), "", " ", "a: b", "- x", '"', "\n", "a\nb", "\r", "\t", "\x85"]
)
TEXT = NASTY | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
COUNT = st.integers(0, 10**12)

RUNS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "steps": st.integers(1, 10**12),
                "lr": POSITIVE,
                "beta1": st.floats(0, 1, exclude_max=True),
                "clip": st.floats(0, allow_infinity=True),
                "compile": st.booleans(),
                "precision": st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
                "report_to": st.lists(TEXT, max_size=3),
                "warmup": COUNT,
            },
        ),
        "data": st.fixed_dictionaries(
            {"name": st.just("hf")},
            optional={
                "path": TEXT,
                "field": TEXT,
                "tokenizer": TEXT,
                "streaming": st.booleans(),
                "holdout": st.floats(0.001, 0.999),
                "packing": st.fixed_dictionaries({"eod": st.booleans()}),
            },
        ),
        "sampler": st.sampled_from(CATALOG.names("sampler"))
        | st.fixed_dictionaries(
            {"name": st.just("confidence"), "score": st.sampled_from(["margin"])}
        ),
        "schedule": st.sampled_from(CATALOG.names("schedule")),
    },
)


def build(tree):
    return structure(merge(default_layer(), layer_of(tree, "test")), CATALOG)


@given(RUNS, st.booleans())
def test_yaml_reads_back_as_the_same_settings(tree, commented):
    config = build(tree)
    paths = {path: "somewhere # else" for path, _ in leaves(to_dict(config))}
    text = to_yaml(config, paths if commented else None)
    assert build(read_yaml(text, "text").value) == config


@given(RUNS)
def test_resolving_the_written_file_gives_the_same_settings(tmp_path_factory, tree):
    config = build(tree)
    file = tmp_path_factory.mktemp("round") / "config.yaml"
    file.write_text(to_yaml(config), "utf-8")
    assert resolve(CATALOG, files=[file]).config == config


@given(RUNS)
def test_mappings_hold_plain_values_that_build_the_same(tree):
    config = build(tree)
    plain = to_dict(config)
    assert build(plain) == config
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain


@given(
    st.dictionaries(TEXT.filter(bool), TEXT | st.floats(allow_nan=False), max_size=4)
)
def test_any_mapping_survives(tree):
    assert read_yaml(to_yaml(tree), "text").value == (tree or None)


@given(TEXT)
def test_text_stays_text_for_other_readers_of_yaml(text):
    assert yaml.safe_load(to_yaml({"x": text})) == {"x": text}


def test_one_line_per_setting():
    text = to_yaml(resolve(CATALOG, sets=['data.tokenizer="a\\nb"']).config)
    assert '  tokenizer: "a\\nb"\n' in text
    assert "  eod: true\n" in text
    assert "  report_to: []\n" in text
    assert "masking:\n  name: uniform\n" in text
