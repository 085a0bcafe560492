"""Every name that the table of the original's names points to is there."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from shlex import split

import pytest
import typer

import mdlm_personality
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_personality.causal_mdlm import CausalMDLM
from mdlm_personality.cli import app
from mdlm_personality.original_flags import FLAGS

PACKAGE = Path(mdlm_personality.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "plugins" / "personality-original.md"
FROM_THE_DESCRIPTION = split(
    """CausalMDLM PersonalityDiT PersonalityDiTBlock MDLMPANDORADataset
    create_mdlm_dataloaders load_from_checkpoint generate_sar ddpm ddpm_cache analytic
    intervention_dim intervention_value guidance_scale num_steps seq_len total_length
    stride_length z_exo z_causal diffusion.py dit.py noise_schedule.py utils.py
    dit_personality.py causal_mdlm.py pandora_mdlm_dataloader.py train_causal_mdlm.py
    train_stage1.py train_stage2.py requirements.yaml best_model.pt flash-attn
    mdlm-owt bf16-mixed 16-mixed NOTEARS AdaLN-Zero SUBStitution do-calculus CLFR
    Self-BLEU Distinct-2 PCA Perplexity Lightning DDP Small Medium Large"""
)
SIZES = {
    "small": (512, 8, 8, 512, 64),
    "medium": (768, 12, 12, 1024, 32),
    "large": (1024, 16, 16, 1024, 128),
}


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip("the documentation is not beside the package")
    return PAGE.read_text(encoding="utf-8")


def test_attributes_exist(page: str) -> None:
    names = set(re.findall(r"`(mdlm_(?:personality|core)[\w.]*:\w[\w.]*)", page))
    assert len(names) > 35
    for name in names:
        module, _, path = name.partition(":")
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)


def test_packages_exist(page: str) -> None:
    for name in set(re.findall(r"`(mdlm_(?:core|personality)[\w.]*)`", page)):
        import_module(name)


def test_files_and_modules_exist(page: str) -> None:
    files = set(re.findall(r"`mdlm_personality/([\w/]+\.py)", page))
    assert len(files) > 8
    for file in files:
        assert (PACKAGE / file).is_file(), file
    for module in set(re.findall(r"python -m (mdlm_personality\.\w+)", page)):
        assert callable(import_module(module).main)
    tests = Path(__file__).parent
    for file in set(re.findall(r"`tests/(\w+\.py)", page)):
        assert (tests / file).is_file(), file


def test_commands_exist(page: str) -> None:
    group = typer.main.get_command(app)
    commands = set(re.findall(r"`mdlm personality ([a-z-]+)", page))
    assert {"generate", "counterfactual", "evaluate"} <= commands
    assert commands <= set(group.commands)  # type: ignore[attr-defined]


def test_presets_and_settings_exist(page: str) -> None:
    catalog = load_catalog()
    presets = set(re.findall(r"preset `(personality/\w+)`", page))
    assert presets == {f"personality/{name}" for name in SIZES}
    for name, size in SIZES.items():
        config = resolve(catalog, preset=f"personality/{name}").config
        model = config.model.config
        found = (model.width, model.blocks, model.heads, config.data.config.length)
        assert (*found, config.train.batch_size) == size
    settings = set(re.findall(r"`((?:task|model|train)\.\w+)=([^`]+)`", page))
    assert len(settings) > 6
    for path, value in settings:
        resolve(catalog, plugin="personality", sets=[f"{path}={value}"])
    paths = set(re.findall(r"`((?:task|model|data|train)\.\w+)`", page))
    for path in paths - {"model.mdlm"}:  # an attribute of the class
        section, _, name = path.partition(".")
        config = getattr(resolve(catalog, plugin="personality").config, section)
        assert hasattr(getattr(config, "config", config), name), path


def test_every_flag_and_its_settings_are_in_the_table(page: str) -> None:
    for name, flag in FLAGS.items():
        assert re.search(rf"`--{name}[ `]", page), name
        for path in flag.paths:
            assert f"`{path}`" in page, path


def test_every_name_of_the_description_is_on_the_page(page: str) -> None:
    for name in FROM_THE_DESCRIPTION:
        assert name in page, name


def test_arguments_have_the_names_of_the_description() -> None:
    for method, names in {
        CausalMDLM.generate: (
            "personality seq_len guidance_scale intervention_dim intervention_value "
            "num_steps"
        ),
        CausalMDLM.generate_sar: "personality total_length stride_length",
    }.items():
        assert set(names.split()) <= set(inspect.signature(method).parameters)


def test_example_of_the_page_is_python(page: str) -> None:
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    compile(example[1], "example", "exec")
