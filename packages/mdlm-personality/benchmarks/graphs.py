"""How well DAGMA and NOTEARS find graphs that are known, on raw and standardised data.

    python packages/mdlm-personality/benchmarks/graphs.py
    python packages/mdlm-personality/benchmarks/graphs.py --nodes 10,20,30 --seeds 5

Random graphs of Erdos and Renyi, weights uniform in +-[0.5, 2], Gaussian noise of
variance 1: the setting of both papers. The same rows once as they are and once with
every column divided by its standard deviation. SHD is the number of edges to add, take
away or turn round; the error of interventions is the mean over nodes i of
||E[z | do(z_i = 1)] - truth||, in the units of the data that was seen. "none" is the
graph without edges. Means over seeds, in Markdown; --out has every run, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_core.kernels import Noise
from mdlm_personality.causal.compare import (
    edge_scores,
    intervention_error,
    shd,
    varsortability,
)
from mdlm_personality.causal.discovery import dagma_linear, notears_linear
from mdlm_personality.causal.simulate import linear_data, random_dag

METHODS: dict[str, Callable[[Any], Any]] = {
    "none": lambda data: np.zeros((data.shape[1], data.shape[1])),
    "DAGMA": dagma_linear,
    "NOTEARS": notears_linear,
}


def measure(nodes: int, degree: float, rows: int, seed: int) -> list[dict[str, Any]]:
    """Run all methods on one graph and its rows, in both units."""
    noise = Noise(seed).child("graphs", nodes, rows, str(degree))
    truth = random_dag(nodes, degree, noise)
    data = linear_data(truth, rows, noise)
    found = []
    for units in ("raw", "standardised"):
        std = data.std(axis=0) if units == "standardised" else np.ones(nodes)
        seen, real = data / std, truth * std[:, None] / std[None, :]
        for name, method in METHODS.items():
            started = time.perf_counter()
            guess = method(seen)
            seconds = time.perf_counter() - started
            scores = edge_scores(guess, real)
            found.append(
                {
                    "nodes": nodes,
                    "degree": degree,
                    "rows": rows,
                    "seed": seed,
                    "units": units,
                    "method": name,
                    "edges": scores.true,
                    "shd": shd(guess, real),
                    "precision": scores.precision,
                    "recall": scores.recall,
                    "error": float(intervention_error(guess, real).mean()),
                    "varsortability": varsortability(seen, real),
                    "seconds": seconds,
                }
            )
    return found


def report(runs: list[dict[str, Any]]) -> str:
    """Return means over seeds, in Markdown."""
    head = "d | edges | n | units | varsortability | method | SHD | precision | recall"
    lines = [f"| {head} | error of do | seconds |", f"|{' ---: |' * 11}"]
    keys = ("nodes", "degree", "rows", "units", "method")
    for key in dict.fromkeys(tuple(run[name] for name in keys) for run in runs):
        same = [run for run in runs if tuple(run[name] for name in keys) == key]

        def mean(name: str, same: list[dict[str, Any]] = same) -> float:
            known = [run[name] for run in same if np.isfinite(run[name])]
            return float(np.mean(known)) if known else float("nan")

        cells = [
            f"{key[0]}",
            f"{mean('edges'):.1f}",
            f"{key[2]:,}",
            key[3],
            f"{mean('varsortability'):.2f}",
            key[4],
            f"{mean('shd'):.1f}",
            f"{mean('precision'):.2f}",
            f"{mean('recall'):.2f}",
            f"{mean('error'):.2f}",
            f"{mean('seconds'):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("nan", "–"))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", default="10,20")
    parser.add_argument("--degrees", default="1,2", help="edges for each node")
    parser.add_argument("--rows", default="200,1000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="every run, as JSON")
    args = parser.parse_args()
    runs = []
    for nodes in (int(part) for part in args.nodes.split(",")):
        for degree in (float(part) for part in args.degrees.split(",")):
            for rows in (int(part) for part in args.rows.split(",")):
                for seed in range(args.seeds):
                    runs += measure(nodes, degree, rows, seed)
                print(f"{nodes} nodes, {degree:g}, {rows} rows", file=sys.stderr)
    print(report(runs))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(runs, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
