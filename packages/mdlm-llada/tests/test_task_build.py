"""A task of the registry as something that trains."""

import pytest

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import ConfigError
from mdlm_llada.config import SFTConfig
from mdlm_llada.registry import get_task


def test_a_task_builds_the_fine_tuning_of_its_own_data():
    catalog = load_catalog()
    run = resolve(catalog, preset="llada/addition", tiny=True).config
    built = get_task("addition").build(SFTConfig(), run=run, catalog=catalog)
    same = catalog.build("task", run.task, run=run, catalog=catalog)
    assert type(built) is type(same)
    with pytest.raises(ConfigError, match=r"data\.task is 'addition'; set data\.task"):
        get_task("sudoku4").build(SFTConfig(), run=run, catalog=catalog)
