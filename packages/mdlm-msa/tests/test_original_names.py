"""Every name that the table of the original's names points to is there."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import typer

import mdlm_msa
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_msa.cli import app
from mdlm_msa.original.keys import CHECKPOINT, KEYS, OUT

PACKAGE = Path(mdlm_msa.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "plugins" / "msa-original.md"


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip("the documentation is not beside the package")
    return PAGE.read_text(encoding="utf-8")


def test_attributes_exist(page: str) -> None:
    names = set(re.findall(r"`(mdlm_(?:msa|core)[\w.]*:\w[\w.]*)", page))
    assert len(names) > 30
    for name in names:
        module, _, path = name.partition(":")
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)


def test_files_and_modules_exist(page: str) -> None:
    files = set(re.findall(r"mdlm_msa/([\w/]+\.py)", page))
    assert len(files) > 8
    for file in files:
        assert (PACKAGE / file).is_file(), file
    for module in set(re.findall(r"python -m (mdlm_msa\.\w+)", page)):
        assert callable(import_module(module).main)


def test_commands_and_their_options_exist(page: str) -> None:
    group = typer.main.get_command(app)
    commands = set(re.findall(r"`mdlm msa ([a-z-]+)", page))
    assert {"chat", "generate", "align", "prefer"} <= commands
    assert commands <= set(group.commands)  # type: ignore[attr-defined]
    options = {
        option
        for parameter in group.commands["chat"].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    for wanted in (
        "--model",
        "--stream-chat",
        "--stream_chat",
        "--stream",
        "--max-gen-length",
        "--num-diffusion-steps",
        "--diffusion-sampler",
        "--rows",
        "--steps",
        "--sampler",
    ):
        assert wanted in page
        assert wanted in options


def test_presets_settings_and_samplers_exist(page: str) -> None:
    catalog = load_catalog()
    for preset in set(re.findall(r"`(msa/\w+)`", page)):
        resolve(catalog, preset=preset)
    for name in ("ddpm", "ddpm_cache", "confidence", "remask", "one-shot"):
        assert f"`{name}`" in page
        catalog.component("sampler", name)
    for text in ("task.loss=doc-mean", "schedule.name=loglinear-reversed"):
        assert text in page
        resolve(catalog, plugin="msa", sets=[text])
    aligned = resolve(catalog, preset="msa/align", sets=["task.objective=d2dpo"]).config
    assert "task.objective=d2dpo" in page
    for name in ("reference", "beta", "smoothing", "sft"):
        assert f"task.{name}" in page
        assert name in {entry.name for entry in fields(aligned.task.config)}


def test_every_key_is_in_the_table(page: str) -> None:
    for key in (*KEYS, CHECKPOINT, OUT):
        assert f"`{key}`" in page, key
    for key in KEYS.values():
        for path in key.paths:
            assert f"`{path}`" in page, path


def test_example_of_the_page_is_python(page: str) -> None:
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    compile(example[1], "example", "exec")
