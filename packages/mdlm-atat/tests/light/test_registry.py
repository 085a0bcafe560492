"""The registry: names, sizes, phases, what a user may change, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mdlm_atat.datasets import DatasetConfig, get_dataset_manager, to_sets
from mdlm_atat.datasets.registry import BUILT_IN
from mdlm_atat.variants import find_variant
from mdlm_core import ConfigError, DataError, UnknownNameError, load_catalog
from mdlm_core.config import resolve

PHASES = {
    "A1_IMPORTANCE_ESTIMATOR_ABLATION",
    "B1_MASKING_STRATEGY_ABLATION",
    "C1_CURRICULUM_ABLATION",
    "DEBUG_IMPORTANCE_ABLATION",
    "VALIDATE_IMPORTANCE_ABLATION",
    "CPU_IMPORTANCE_ABLATION",
    "GPU_IMPORTANCE_ABLATION",
}


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """Work in an empty folder, with an empty cache and no registry of the user's."""
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MDLM_DATASETS", raising=False)
    monkeypatch.delenv("MDLM_DATA", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def override(text: str, name: str = "datasets.yaml") -> Path:
    path = Path(name).absolute()
    path.write_text(text, "utf-8")
    return path


# ---- what is there ----------------------------------------------------------


def test_lists_the_originals_names_and_the_offline_ones():
    manager = get_dataset_manager()
    names = set(manager.list_datasets())
    assert names >= {"openwebtext", "wikitext2", "books", "python-docs"}
    assert set(manager.list_phases()) == PHASES
    assert manager.list_stages() == ["debug", "validation", "production"]
    for name in names:
        assert manager.list_variants(name) == ["small", "medium", "full"]


@pytest.mark.parametrize(
    ("preset", "variant"),
    [("debug", "small"), ("validation", "medium"), ("production", "full")],
)
def test_stage_decides_the_variant(preset, variant):
    manager = get_dataset_manager(preset=preset)
    assert manager.get_stage().default_preset == variant
    assert manager.get_config("wikitext2").variant == variant
    assert manager.get_config("wikitext2", variant="small").variant == "small"


def test_openwebtext_has_nine_billion_tokens():
    config = get_dataset_manager("production").get_config("openwebtext", variant="full")
    assert config.num_tokens == 9_000_000_000
    assert not config.measured
    assert isinstance(config.cache_file, Path)
    text = BUILT_IN.read_text("utf-8")
    assert "262 billion" in text
    assert not re.search(r"tokens: *(262|2\.62)", text)


def test_built_in_file_names_no_place_of_one_machine():
    values = re.sub(r"#.*", "", BUILT_IN.read_text("utf-8"))
    assert not re.search(r"(^|[\s:'\"{])[/~]\w", values, re.MULTILINE)


def test_aliases_case_and_hyphens_find_a_phase():
    manager = get_dataset_manager()
    first = manager.get_phase_config("A1_IMPORTANCE_ESTIMATOR_ABLATION")
    for name in (
        "PHASE_A_IMPORTANCE_ABLATION",
        "phase_a_importance_ablation",
        "a1-importance-estimator-ablation",
    ):
        assert manager.get_phase_config(name) == first
    second = manager.get_phase_config("PHASE_B_MASKING_STRATEGY")
    assert second.id == "B1_MASKING_STRATEGY_ABLATION"


def test_phase_measures_on_another_set_with_the_tokenizer_of_the_run():
    phase = get_dataset_manager().get_phase_config("A1_IMPORTANCE_ESTIMATOR_ABLATION")
    assert (phase.dataset.name, phase.dataset.variant) == ("openwebtext", "full")
    assert phase.dataset.split == "train"
    assert phase.val_dataset.name == "wikitext2"
    assert phase.val_dataset.split == "validation"
    assert phase.val_dataset.tokenizer == phase.tokenizer == "gpt2"
    assert phase.batch_size == 64


def test_phase_decides_the_tokenizer_of_all_its_text():
    phase = get_dataset_manager().get_phase_config("DEBUG_IMPORTANCE_ABLATION")
    texts = (phase.dataset, phase.val_dataset, phase.fallback)
    assert {text.tokenizer for text in texts} == {"byte"}
    other = get_dataset_manager().get_phase_config(phase.id, tokenizer="char")
    assert {text.tokenizer for text in (*other.configs(), other.fallback)} == {"char"}


def test_stage_decides_the_size_where_a_phase_says_none():
    override(PHASE % "dataset: books, val_dataset: books, variants: [full]")
    for preset, variant in (("debug", "small"), ("production", "full")):
        phase = get_dataset_manager(preset).get_phase_config("P")
        assert {text.variant for text in phase.configs()} == {variant}


def test_debug_phase_names_its_fallback():
    phase = get_dataset_manager().get_phase_config("DEBUG_IMPORTANCE_ABLATION")
    assert phase.fallback.source == "builtin:python-docs"
    assert phase.replaced == ""


@pytest.mark.parametrize("name", sorted(PHASES))
def test_every_phase_resolves_with_each_of_its_variants(name):
    phase = get_dataset_manager().get_phase_config(name)
    sets = to_sets(phase)
    for variant in phase.variants:
        more = find_variant(variant).sets
        config = resolve(
            load_catalog(), preset=phase.preset, sets=[*sets, *more]
        ).config
        assert config.data.name == "jsonl"
        assert config.data.config.path == str(phase.dataset.cache_file)
        assert config.data.config.tokenizer == phase.tokenizer
        assert config.data.config.length == phase.length
        assert config.train.steps == (phase.steps or config.train.steps)
    assert len(phase.seeds) >= 1


# ---- files ------------------------------------------------------------------


def test_manager_is_kept_for_the_same_files_and_stage(own_place):
    first = get_dataset_manager("debug")
    assert get_dataset_manager("debug") is first
    assert get_dataset_manager("production") is not first
    assert get_dataset_manager("production").preset == "production"
    assert get_dataset_manager("debug").preset == "debug"


def test_manager_is_read_again_when_a_file_changes():
    path = override("datasets: {books: {license: mine}}")
    assert get_dataset_manager().get_config("books").license == "mine"
    path.write_text("datasets: {books: {license: yours}}", "utf-8")
    os.utime(path, ns=(1, 1))
    assert get_dataset_manager().get_config("books").license == "yours"


def test_override_merges_key_by_key():
    plain = get_dataset_manager().get_config("books", "small")
    override("datasets: {books: {variants: {small: {max_tokens: 7e3}}}}")
    config = get_dataset_manager().get_config("books", "small")
    assert config.num_tokens == config.max_tokens == 7000
    assert config.license == plain.license
    assert get_dataset_manager().get_config("books", "full").max_tokens is None


def test_files_win_in_order(tmp_path, monkeypatch):
    override("defaults: {chunk: 1, holdout: 0.1, eval_draws: 2, eval_windows: 5}")
    one = override("defaults: {chunk: 2, holdout: 0.2, eval_draws: 3}", "one.yaml")
    two = override("defaults: {chunk: 3, holdout: 0.3}", "two.yaml")
    top = override("defaults: {chunk: 4}", "top.yaml")
    monkeypatch.setenv("MDLM_DATASETS", os.pathsep.join([str(one), str(two)]))
    defaults = get_dataset_manager(config_file=top).registry.defaults
    assert (defaults.chunk, defaults.holdout) == (4, 0.3)
    assert (defaults.eval_draws, defaults.eval_windows) == (3, 5)
    assert get_dataset_manager().registry.defaults.chunk == 3


def test_relative_source_is_seen_from_its_own_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "more.yaml"
    other.write_text(
        "datasets: {mine: {source: 'file:a.txt', variants: {full: {about_tokens: 9}}}}"
    )
    override("datasets: {mine: {license: none}}")
    monkeypatch.setenv("MDLM_DATASETS", str(other))
    config = get_dataset_manager().get_config("mine", "full")
    assert config.folder == other.parent
    assert get_dataset_manager().get_config("books").folder is None
    assert config.license == "none"


def test_user_can_add_a_data_set_and_a_phase():
    override(
        """
        datasets:
          mine:
            source: file:mine.txt
            variants: {full: {about_tokens: 1000}}
        phase_configurations:
          mine:
            dataset: mine (full)
            preset: atat/books-cpu
            variants: [uniform, importance_ablation_full]
            sets: {train.lr: 1e-3, train.report_to: [tensorboard]}
        """
    )
    phase = get_dataset_manager().get_phase_config("MINE")
    assert phase.val_dataset is None
    config = resolve(load_catalog(), preset=phase.preset, sets=to_sets(phase)).config
    assert config.train.lr == 1e-3
    assert config.train.report_to == ("tensorboard",)


# ---- what is refused --------------------------------------------------------

PHASE = "phase_configurations: {P: {preset: atat/default, %s}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: {}", "there is no key 'dataset'.*did you mean 'datasets'"),
        (
            "datasets: {books: {lisence: x}}",
            r"'datasets.books.lisence' \(from .*datasets.yaml:1\).*'license'",
        ),
        (
            "datasets: {books: {variants: {small: {max_token: 3}}}}",
            "max_token'.*did you mean 'max_tokens'",
        ),
        ("datasets: {books: {license: 3}}", "must be text; put it in quotes"),
        ("datasets: {books: {chunk: many}}", "chunk is 'many'; it must be a whole"),
        ("datasets: {books: {chunk: true}}", "chunk is True; it must be a whole"),
        ("datasets: {books: {chunk: -1}}", "chunk is -1"),
        ("datasets: {books: {holdout: 1.0}}", "holdout is 1.0"),
        ("datasets: {books: {symbols: a-y}}", "must be one of.*did you mean.*'a-z'"),
        ("datasets: {books: {source: 'flie:x'}}", "file:PATH.*did you mean 'file'"),
        ("datasets: {books: {source: 'builtin:x'}}", "builtin:python-docs"),
        ("datasets: {books: {splits: {tarin: x}}}", "split 'tarin'.*'train'"),
        ("datasets: {x: {source: 'file:x'}}", "datasets.x.variants is missing"),
        ("datasets: {x: {source: 'file:x', variants: {}}}", "variants is empty"),
        (
            "datasets: {x: {source: 'file:x', variants: {a: {}}}}",
            "datasets.x.variants.a: neither max_tokens nor about_tokens",
        ),
        ("datasets: {x: 3}", "datasets.x is 3; it must be a mapping"),
        ("defaults: {stage: debg}", "defaults.stage: .*'debg'.*'debug'"),
        ("stages: {debug: {default_preset: smal}}", "'smal'.*'small'"),
        (PHASE % "dataset: boks, variants: [full]", "dataset 'boks'.*'books'"),
        (PHASE % "dataset: a b c, variants: [full]", r"write NAME or NAME \(VARIANT\)"),
        (
            PHASE % "dataset: books (smal), variants: [full]",
            "P.dataset: there is no variant of 'books' 'smal'.*'small'",
        ),
        (
            PHASE % "dataset: books, fallback: pthon-docs, variants: [full]",
            "P.fallback.*'python-docs'",
        ),
        (
            PHASE % "dataset: books, variants: [frequency_onli]",
            "P.variants: .*'frequency_onli'.*'frequency_only'",
        ),
        (PHASE % "dataset: books, variants: []", "variants is empty"),
        (PHASE % "dataset: books, variants: full", "must be a list"),
        (PHASE % "dataset: books, steps: 0, variants: [full]", "steps is 0"),
        (
            PHASE
            % "dataset: books, variants: [full], aliases: [CPU_IMPORTANCE_ABLATION]",
            "means both",
        ),
        ("- 1", "a configuration is a mapping"),
    ],
)
def test_flaws_are_named_with_their_place(text, message):
    override(text)
    with pytest.raises(ConfigError, match=message):
        get_dataset_manager()


def test_unknown_names_come_with_near_misses():
    manager = get_dataset_manager()
    for call, near in (
        (lambda: manager.get_config("open_webtext"), "openwebtext"),
        (lambda: manager.get_config("books", "ful"), "full"),
        (lambda: manager.get_config("books", split="valid"), "validation"),
        (lambda: manager.get_phase_config("A1_IMPORTANCE_ESTIMATR"), "A1_IMPORTANCE"),
        (lambda: manager.get_stage("prodction"), "production"),
        (lambda: get_dataset_manager("debgu"), "debug"),
    ):
        with pytest.raises(UnknownNameError, match=f"did you mean.*'{near}"):
            call()


def test_unknown_preset_of_a_phase_says_where_it_stands():
    override("phase_configurations: {CPU_IMPORTANCE_ABLATION: {preset: atat/book-cpu}}")
    manager = get_dataset_manager()
    with pytest.raises(UnknownNameError, match=r"'atat/books-cpu'.*datasets\.yaml:1"):
        manager.get_phase_config("CPU_IMPORTANCE_ABLATION")


def test_missing_registry_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"no configuration file .*gone\.yaml"):
        get_dataset_manager(config_file="gone.yaml")
    monkeypatch.setenv("MDLM_DATASETS", "lost.yaml")
    with pytest.raises(ConfigError, match=r"lost\.yaml"):
        get_dataset_manager()


def test_held_out_text_is_not_trained_on():
    config = get_dataset_manager().get_config("books", split="validation")
    with pytest.raises(DataError, match="not for training"):
        to_sets(config)


# ---- settings and keys ------------------------------------------------------


def test_sets_survive_an_awkward_path(tmp_path, monkeypatch):
    place = tmp_path / 'a b # c: "d" \\ \u00e9'
    monkeypatch.setenv("MDLM_CACHE", str(place))
    config = get_dataset_manager().get_config("books", "small")
    data = resolve(load_catalog(), sets=to_sets(config, length=32)).config.data.config
    assert data.path == str(config.cache_file)
    assert data.length == 32
    assert data.holdout == config.holdout


def test_all_splits_share_a_folder_and_what_decides_the_text_moves_it():
    manager = get_dataset_manager()
    config = manager.get_config("books", "small")
    other = manager.get_config("books", "small", split="validation")
    assert other.cache_file.parent == config.cache_file.parent
    assert other.cache_file.name == "validation.jsonl"

    def moved(**changes) -> bool:
        return config.fresh(**changes).cache_file.parent != config.cache_file.parent

    for changes in (
        {"max_tokens": 5},
        {"chunk": 7},
        {"tokenizer": "char"},
        {"symbols": "a-z"},
        {"source": "file:other"},
    ):
        assert moved(**changes), changes
    assert not moved(license="other", holdout=0.5, folder=Path("/elsewhere"))


def test_records_are_frozen():
    config = get_dataset_manager().get_config("books")
    assert isinstance(config, DatasetConfig)
    with pytest.raises(AttributeError):
        config.name = "other"


def test_registry_is_light():
    code = (
        "import sys, mdlm_atat.datasets, mdlm_atat.cli.datasets\n"
        "manager = mdlm_atat.datasets.get_dataset_manager('debug')\n"
        "phase = manager.get_phase_config('CPU_IMPORTANCE_ABLATION')\n"
        "phase.to_dict(), mdlm_atat.datasets.to_sets(phase)\n"
        "heavy = {'torch', 'numpy', 'transformers', 'datasets', 'accelerate'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
