"""What `accelerate launch` runs on two processes; test_personas_on_two_processes reads.

Usage: accelerate launch ... two_personas.py FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.train.processes import leave
from mdlm_core.train.start import train

RUNS = {
    "stages": ("model.encoder=beta-vae", "task.encoder_share=0.4"),
    "search": ("model.structure=dagma", "data.missing=0.3"),
    "frozen": ("task.freeze=true", "data.labels=false"),
}


def runs(folder: Path) -> None:
    """Train a model of each kind for five steps, two in a stage before the third."""
    for name, sets in RUNS.items():
        found = resolve(
            load_catalog(),
            plugin="personality",
            sets=[
                "data.authors=24",
                "task.eval_rows=4",
                "task.sample_count=0",
                "task.causal_share=0.4",
                "train.optimizer=adamw",
                "train.lr=1e-2",
                "train.adam_eps=1e-2",  # or rounding decides where gradients vanish
                "train.weight_decay=0.1",
                "train.warmup=0",
                "train.steps=5",
                "train.batch_size=4",
                *sets,
            ],
            tiny=True,
        )
        train(found.config, out=folder / name, device="cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    runs(Path(sys.argv[1]))
    leave()
