"""How fast decoding is, as ratios to the published loop in one run.

    python packages/mdlm-llada/benchmarks/decoding.py                # a CPU, minutes
    python packages/mdlm-llada/benchmarks/decoding.py --quick        # only that it runs
    python packages/mdlm-llada/benchmarks/decoding.py --device cuda  # an 8B model, bf16

On a CPU the model has 8 layers of width 512 (MLP 1536) and random weights; a prompt of
64 tokens, an answer of 128 in blocks of 32 and 128 steps; one row. The published loop
(`tests/textbook.py`) evaluates the head at every position and, at a temperature, draws
float64 noise over the vocabulary; it runs on the same trunk. It gives the mask the
logit -inf, as decoding does. Each measurement is a process of its own, with a warm-up
first; the paths take turns.

Printed are the median seconds and their range; the ratio to the loop in float32 (the
median of the ratios of one turn) and to the loop in the same type; the share of tokens
that are those of the loop in the same type; forward passes, and tokens per pass. For
the threshold the head is scaled (`--sharp`), so that random laws are sure of something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("decoding_worker.py")
F32, BF16 = "float32", "bfloat16"
Case = dict[str, object]


def greedy(vocabulary: int, sharp: float) -> list[Case]:
    """Return the paths at temperature 0, the loops first."""
    size: Case = {"vocabulary": vocabulary}
    cases: list[Case] = []
    for dtype in (F32, BF16):
        common = {**size, "dtype": dtype}
        cached = {"path": "ours", "cache": "approx-dual", **common}
        cases += [
            {"name": "published loop", "path": "textbook", **common},
            {"name": "exact", "path": "ours", **common},
            {"name": "prefix cache", **cached, "cache": "approx-prefix"},
            {"name": "dual cache", **cached},
            {
                "name": "dual cache, threshold 0.9",
                **cached,
                "threshold": 0.9,
                "sharp": sharp,
            },
        ]
    llama = {"name": "published loop, transformers' Llama", "path": "llama"}
    return [*cases, {**llama, **size, "dtype": F32}]


def drawn(vocabulary: int, steps: int) -> list[Case]:
    """Return the paths at temperature 1; fewer steps, each of the same cost."""
    common: Case = {"vocabulary": vocabulary, "steps": steps, "temperature": 1.0}
    return [
        {"name": "published loop, T 1", "path": "textbook", "dtype": F32, **common},
        {"name": "exact, T 1", "path": "ours", "dtype": F32, **common},
        {"name": "published loop, T 1", "path": "textbook", "dtype": BF16, **common},
        {"name": "exact, T 1", "path": "ours", "dtype": BF16, **common},
    ]


def measure(case: Case, threads: int) -> dict[str, object]:
    """Run one case in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    found = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(case)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def run(title: str, cases: list[Case], rounds: int, threads: int) -> None:
    """Measure the cases in turns, and print them."""
    found: list[list[dict[str, object]]] = [[] for _ in cases]
    for _ in range(rounds):
        for mine, case in zip(found, cases, strict=True):
            mine.append(measure(case, threads))
    seconds = [[float(one["seconds"]) for one in mine] for mine in found]
    loops = {
        str(case["dtype"]): number
        for number, case in enumerate(cases)
        if case["path"] == "textbook"
    }
    print(f"\n{title}: {rounds} rounds, {threads} threads")
    print(
        f"{'path':<36} {'dtype':<9} {'seconds (range)':<22} {'x float32':>9} "
        f"{'x same':>7} {'tokens':>7} {'passes':>7} {'a pass':>7}"
    )
    for number, (case, mine) in enumerate(zip(cases, found, strict=True)):
        same = loops[str(case["dtype"])]
        ratios = [
            statistics.median(
                b / o for b, o in zip(seconds[base], seconds[number], strict=True)
            )
            for base in (loops[F32], same)
        ]
        base, tokens = found[same][0]["tokens"], mine[0]["tokens"]
        comparable = not case.get("temperature") and not case.get("sharp")
        equal = statistics.fmean(a == b for a, b in zip(base, tokens, strict=True))
        own = seconds[number]
        spread = f"{statistics.median(own):.2f} ({min(own):.2f} to {max(own):.2f})"
        print(
            f"{case['name']:<36} {case['dtype']:<9} {spread:<22} {ratios[0]:>9.2f} "
            f"{ratios[1]:>7.2f} {f'{equal:.1%}' if comparable else '-':>7} "
            f"{mine[0]['passes']:>7} {mine[0]['a_pass']:>7.2f}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sharp", type=float, default=50.0)
    parser.add_argument("--only", choices=("4096", "50304", "126464"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.device != "cpu" or given.quick:
        sys.path.insert(0, str(WORKER.parent))
    if given.device != "cpu":
        from decoding_gpu import report

        report(given.device, quick=given.quick)
        return
    small: Case = {"layers": 2, "width": 64, "prompt": 8, "answer": 16, "block": 8}
    groups = {
        "4096": greedy(4096, given.sharp),
        "50304": greedy(50304, given.sharp),
        "126464": drawn(126464, 8),
    }
    for name, cases in groups.items():
        if given.only and name != given.only:
            continue
        changed = {**small, "steps": 4} if given.quick else {}
        rounds = 1 if given.quick else given.rounds
        run(
            f"V = {name}",
            [{**case, **changed} for case in cases],
            rounds,
            given.threads,
        )


if __name__ == "__main__":
    main()
