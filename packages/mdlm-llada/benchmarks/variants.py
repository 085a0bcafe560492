"""Ways to fine-tune at equal compute: a tiny model learns 4 x 4 Sudoku.

    python packages/mdlm-llada/benchmarks/variants.py --out results

Every run has the same optimiser steps and the same forward passes of rows in each: a
mode with two masks has half the rows. What the density of times costs to measure is on
top, and shown as seconds. Two runs at a time, one thread each. A run is scored by 500
held-out puzzles that it solves, and by the bound on their answers, under the same masks
for all. Differences to Normal are paired by seed, with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROWS = 64
FITTED = (
    "task.times.ppots=true",
    "task.times.samples_x0=15",
    "task.times.samples_t=24",
    "task.times.samples_xt=5",
    "task.times.refresh_every=100",
)
HALF = f"train.batch_size={ROWS // 2}"
VARIANTS = {
    "Normal": (),
    "Normal, stratified": ("task.times.stratified=true",),
    "MultiSample": ("task.train_mode=MultiSample", HALF),
    "MIRROR": ("task.train_mode=MIRROR", HALF),
    "P-POTS": FITTED,
    "P-POTS + MIRROR": ("task.train_mode=MIRROR", HALF, *FITTED),
}
SHARED = (
    f"train.batch_size={ROWS}",
    "train.eval_every=0",
    "train.save_every=0",
    "train.log_every=10",
    "task.times.stratified=false",
    "task.eval_generate=500",
    "task.eval_rows=500",
    "task.sample_count=0",
    "train.precision=fp32",
)


def run(name: str, seed: int, steps: int, folder: Path) -> dict:
    """Train one variant, and return what was measured at its end."""
    place = folder / f"{name.replace(', ', '-').replace(' + ', '-')}-{seed}"
    if not (place / "seconds.txt").exists():
        words = [sys.executable, "-m", "mdlm_core", "train", "--plugin", "llada"]
        words += ["--out", str(place), "--device", "cpu", "--seed", str(seed)]
        for text in (*SHARED, f"train.steps={steps}", *VARIANTS[name]):
            words += ["--set", text]
        began = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        (place / "seconds.txt").write_text(str(time.perf_counter() - began))
    lines = [json.loads(text) for text in (place / "metrics.jsonl").open()]
    last = [line for line in lines if line["kind"] == "validation"][-1]
    trained = [line for line in lines if line["kind"] == "train"]
    spread = [line["loss"] for line in trained[len(trained) // 2 :]]
    return {
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "spread": statistics.stdev(spread),
        "steps": trained[-1]["seconds"],
        "seconds": float((place / "seconds.txt").read_text()),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and half of Student's 95 % interval."""
    from scipy.stats import t

    mean = statistics.mean(values)
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(t.ppf(0.975, len(values) - 1)) * error


def table(found: dict[str, list[dict]]) -> str:
    """Return the results in Markdown."""
    text = [
        "| variant | held-out nats/token | difference | answers right | difference | "
        "spread of the logged loss | s in steps | s in all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        cells = [name]
        for key, digits, scale in (("loss", 4, 1), ("accuracy", 1, 100)):
            mean, half = interval([run[key] * scale for run in runs])
            cells.append(f"{mean:.{digits}f} ± {half:.{digits}f}")
            pairs = zip(runs, found["Normal"], strict=True)
            mean, half = interval([(a[key] - b[key]) * scale for a, b in pairs])
            cells.append(
                "" if name == "Normal" else f"{mean:+.{digits}f} ± {half:.{digits}f}"
            )
        for key, digits in (("spread", 3), ("steps", 0), ("seconds", 0)):
            cells.append(f"{statistics.mean(run[key] for run in runs):.{digits}f}")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(name, seed) for seed in range(options.seeds) for name in VARIANTS]
    with ThreadPoolExecutor(options.at_once) as pool:
        futures = {
            job: pool.submit(run, *job, options.steps, options.out) for job in jobs
        }
    found = {
        name: [futures[name, seed].result() for seed in range(options.seeds)]
        for name in VARIANTS
    }
    (options.out / "results.json").write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
