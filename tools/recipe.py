"""How the quick start's recipe was found: one change at a time, same number of steps.

    python tools/recipe.py               # 200 steps each, about seven minutes
    python tools/recipe.py --steps 2100  # the full length, about an hour

Each row is a run of ``mdlm train`` with one setting changed: the held-out bound in bits
per byte with its standard error, and the seconds spent in training steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

VARIANTS = {
    "the recipe": [],
    "AdamW, lr 3e-3": ["train.optimizer=adamw", "train.lr=3e-3"],
    "AdamW, lr 8e-3": ["train.optimizer=adamw"],
    "stratified t": ["task.t_sampling=stratified"],
    "exact counts": ["task.t_sampling=counts"],
    "no convolution": ["model.conv_kernel=0"],
    "4 blocks": ["model.blocks=4"],
    "width 256": ["model.width=256", "model.heads=4"],
    "batch 16": ["train.batch_size=16"],
    "float32": ["train.precision=fp32"],
}


def measure(
    settings: list[str], steps: int, folder: Path
) -> tuple[float, float, float]:
    """Train once; return bits per byte, its standard error, and seconds."""
    common = [f"train.steps={steps}", "train.eval_every=0", "task.sample_count=0"]
    command = [sys.executable, "-m", "mdlm_core", "train", "--out", str(folder)]
    command += [part for setting in common + settings for part in ("--set", setting)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    held_out = next(r for r in reversed(records) if r["kind"] == "validation")
    trained = next(r for r in reversed(records) if r["kind"] == "train")
    return held_out["bits_per_byte"], held_out["bits_per_byte_se"], trained["seconds"]


def main() -> None:
    """Run every variant and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    print(f"after {options.steps} steps\n")
    print("| change | bits/byte | s.e. | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for index, (name, settings) in enumerate(VARIANTS.items()):
            value, error, seconds = measure(
                settings, options.steps, Path(place, str(index))
            )
            print(f"| {name} | {value:.3f} | {error:.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
