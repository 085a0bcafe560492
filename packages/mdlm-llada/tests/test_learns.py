"""A tiny model learns Sudoku for a few seconds, and does better than chance."""

import pytest

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.train import train
from mdlm_llada.config import DecodeConfig
from mdlm_llada.generate import generate
from mdlm_llada.models import load_model
from mdlm_llada.registry import get_task

CHANCE, MARGIN = 0.25, 0.15
"""One of four digits; what must be reached on top."""
SETTINGS = (
    "model={name: llada, blocks: 3, width: 64, heads: 4, mlp_width: 192}",
    "train.steps=200",
    "train.batch_size=24",
    "train.lr=2e-2",
    "train.warmup=10",
    "train.ema=0.9",
    "train.precision=fp32",
    "train.eval_every=0",
    "train.save_every=0",
    "task.train_mode=Normal",
    "task.eval_generate=0",
    "task.eval_rows=8",
    "task.eval_draws=2",
    "task.sample_count=0",
    "data.rows=2000",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = resolve(load_catalog(), preset="llada/default", sets=SETTINGS).config
    folder = tmp_path_factory.mktemp("learns")
    return load_model(train(config, out=folder, device="cpu").folder)


def test_empty_cells_are_filled_better_than_by_chance(model):
    task = get_task("sudoku4")
    puzzles = task.build_dataset("test", {"held_out": 60})
    answers = generate(
        model,
        [puzzle.prompt for puzzle in puzzles],
        answer_length=17,
        settings=DecodeConfig(steps=17, block=17),
    )
    rewards = [
        task.reward(answer.text, puzzle)
        for answer, puzzle in zip(answers, puzzles, strict=True)
    ]
    assert sum(rewards) / len(rewards) > CHANCE + MARGIN
