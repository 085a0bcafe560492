"""Bits per residue and generated rows of real families, beside all baselines.

    python packages/mdlm-msa/benchmarks/families.py DATA --out DIR
    python packages/mdlm-msa/benchmarks/families.py DATA --out DIR --stages bits,tune

DATA is a folder of a3m files. Stages, each of which keeps its numbers in DIR and is not
made again: `train` a model of any family, with the families of --held-out left out
whole; `bits` of rows of those families given their gaps, the query and 0, 1, 4 and 16
other rows; `tune` a model of each family of --tuned on three fifths of its rows, of
which a tenth decides when to stop, against a PSSM of all these rows and a Potts model;
`generate` rows of the tuned families by both models, and compare them with the held-out
rows. The tables are printed in Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_core.cache import write_atomic
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.runs import load_run
from mdlm_msa.alphabet import GAP
from mdlm_msa.cli.train import Size
from mdlm_msa.cli.train import train as train_command
from mdlm_msa.config import GenerationConfig
from mdlm_msa.data.family import Family
from mdlm_msa.evaluation import generators
from mdlm_msa.evaluation.compare import GENERATED, measure
from mdlm_msa.evaluation.contacts_plm import fit
from mdlm_msa.evaluation.held_out import MODEL, PSSM_ALL, evaluate_model, split_rows
from mdlm_msa.evaluation.pairs import pair_correlation
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.formats.writing import write_alignment
from mdlm_msa.generation.generate import generate
from mdlm_msa.weights import sequence_weights

HELD_OUT = "1prw,1qjg,7mrx,6e6r,5yui,protenix_dhfr,protenix_start,selecase_4qhf"
TUNED = "6e6r,7mrx,selecase_4qhf"
SHARE = 0.4
"""Of a tuned family's rows that is held out."""
COLUMNS = (
    "js",
    "rho",
    "pair_r",
    "residue_r",
    "neff_share",
    "identity_mean",
    "nearest",
    "nearest_known",
    "gap_error",
    "gap_runs_js",
)
"""Statistics of generated rows that are printed; see `evaluation.compare.Measured`."""
NOISE = Noise(0).child("benchmark")


def main() -> None:
    """Run the stages that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", default="train,bits,tune,generate")
    parser.add_argument("--held-out", default=HELD_OUT)
    parser.add_argument("--tuned", default=TUNED)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tune-steps", type=int, default=240)
    parser.add_argument("--rows", type=int, default=16, help="held-out rows measured")
    parser.add_argument("--tuned-rows", type=int, default=64, help="the same, tuned")
    parser.add_argument("--new", type=int, default=60, help="rows generated")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[argparse.Namespace], None]] = {
        "train": train,
        "bits": bits,
        "tune": tune,
        "generate": generated,
    }
    for stage in given.stages.split(","):
        stages[stage](given)


def train(given: argparse.Namespace) -> None:
    """Train the model of any family."""
    out = given.out / "model"
    if (out / "done.json").is_file():
        return
    began = time.monotonic()
    train_command(
        data=str(given.data),
        out=out,
        size=Size(given.size),
        hold_out=given.held_out,
        length=1024,
        steps=given.steps,
        sets=[
            "data.window=96",
            "data.rows=20",
            "train.batch_size=4",
            *once(given.steps),
            "train.ema=0.998",
            "task.eval_rows=24",
            "task.eval_draws=2",
            "task.sample_count=0",
        ],
        resume=(out / "config.yaml").is_file(),
    )
    keep(out / "done.json", {"seconds": time.monotonic() - began})


def bits(given: argparse.Namespace) -> None:
    """Measure bits per residue of the families that were held out whole."""
    path = given.out / "bits.json"
    if not path.is_file():
        run = load_run(given.out / "model")
        names = given.held_out.split(",")
        families = {name: divided(given.data, name) for name in names}
        table = evaluate_model(
            run.backbone,
            families,
            rows=given.rows,
            draws=4,
            noise=NOISE.child("bits"),
            schedule=run.schedule,
            progress=lambda done, of: print(f"  {done} of {of} rows", flush=True),
        )
        keep(path, table.as_dict())
    found = json.loads(path.read_text())
    print("\n| k | families | law | bits/residue | 95 % | more than the model |")
    print("|---|---|---|---|---|---|")
    for line in found["lines"]:
        gain = ""
        if line["gain"] is not None:
            gain = f"{line['gain']:+.3f}"
            if line["gain_low"] is not None:
                gain += f" ({line['gain_low']:+.3f} to {line['gain_high']:+.3f})"
        ends = "–"
        if line["low"] is not None:
            ends = f"{line['low']:.2f} to {line['high']:.2f}"
        print(
            f"| {line['k']} | {line['families']} | {line['law']} | {line['mean']:.3f} "
            f"| {ends} | {gain} |"
        )


def tune(given: argparse.Namespace) -> None:
    """Train a model of each family, and measure it against a PSSM and a Potts model."""
    files = {name: given.out / f"tuned-{name}.json" for name in given.tuned.split(",")}
    for name, path in files.items():
        if not path.is_file():
            keep(path, tuned(given, name))
    print(
        "\n| family | rows | PSSM of all | Potts | model, 16 rows | "
        "and all in its profile | tuned, k = 0 | 4 | 16 |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, path in files.items():
        found = json.loads(path.read_text())
        print(
            f"| {name} | {found['train_rows']} | {found['pssm']:.3f} "
            f"| {found['potts']:.3f} | {found['model']['16']:.3f} "
            f"| {found['model and rows']['16']:.3f} "
            f"| {found['tuned']['0']:.3f} | {found['tuned']['4']:.3f} "
            f"| {found['tuned']['16']:.3f} |"
        )


def tuned(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return bits per residue of one family's held-out rows by all laws."""
    out, family = given.out / "tuned" / name, divided(given.data, name)
    rows = np.concatenate([[0], family.train_rows])
    learned = write_alignment(
        family.alignment.select(rows), given.out / f"{name}-train.a3m", force=True
    )
    began = time.monotonic()
    train_command(
        data=str(learned),
        out=out,
        begin=given.out / "model",
        family=True,
        steps=given.tune_steps,
        sets=[
            "data.rows=12",
            "task.eval_rows=0",
            "task.eval_draws=2",
            "task.sample_count=0",
            "train.batch_size=4",
            "train.lr=3e-4",
            "train.eval_every=30",
            "train.save_every=30",
        ],
        resume=(out / "config.yaml").is_file(),
    )
    seconds = time.monotonic() - began
    noise = NOISE.child("tuned", name)
    found: dict[str, Any] = {"seconds": seconds, "train_rows": len(family.train_rows)}
    for which, folder, support in (
        ("tuned", out, True),
        ("model", given.out / "model", False),
        ("model and rows", given.out / "model", True),
    ):
        loaded = load_run(folder)
        found[f"{which}_step"] = loaded.step
        table = evaluate_model(
            loaded.backbone,
            {name: family},
            ks=(0, 4, 16),
            rows=given.tuned_rows,
            draws=4,
            noise=noise,
            schedule=loaded.schedule,
            support=support,
        )
        found[which] = {
            str(cost.k): cost.bits for cost in table.costs if cost.law == MODEL
        }
        found["pssm"] = next(c.bits for c in table.costs if c.law == PSSM_ALL)
    states = family.alignment.states
    potts = fit(states[family.train_rows])
    held, count = family.held_out_rows, given.tuned_rows
    if count < len(held):
        draw = np.random.default_rng(noise.child("rows", name).integer())
        held = np.sort(draw.choice(held, count, replace=False))
    cost = potts.nats(states[held], noise=noise.child("potts"))
    found["potts"] = float(cost.nats.sum() / cost.residues.sum() / np.log(2))
    found["potts_se"] = float(
        np.sqrt((cost.se**2).sum()) / cost.residues.sum() / np.log(2)
    )
    return found


def divided(data: Path, name: str) -> Family:
    """Return a family of which two fifths of the rows are held out."""
    return split_rows(alignment(data, name), NOISE.child("split", name), share=SHARE)


def generated(given: argparse.Namespace) -> None:
    """Generate rows of the tuned families by both models, and compare them."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for name in given.tuned.split(","):
        path = given.out / f"generated-{name}.json"
        if not path.is_file():
            keep(path, compared(given, name))
        for line, values in json.loads(path.read_text()).items():
            lines.setdefault(line, []).append(values)
    print("\n| rows | " + " | ".join(COLUMNS) + " |\n" + "|---" * 11 + "|")
    for line, each in lines.items():
        shown = [mean([values[column] for values in each]) for column in COLUMNS]
        print(f"| {line} | " + " | ".join(shown) + " |")


def mean(values: list[float | None]) -> str:
    """Return the mean of what is a number, as text; a dash if nothing is."""
    known = [value for value in values if value is not None and value == value]
    return f"{np.mean(known):.3f}" if known else "-"


def compared(given: argparse.Namespace, name: str) -> Mapping[str, Any]:
    """Return the statistics of rows from both models, and from all baselines."""
    family = divided(given.data, name)
    tuned_run = load_run(given.out / "tuned" / name)
    base = load_run(given.out / "model")
    noise = NOISE.child("generate", name)
    states = family.alignment.states
    measuring, known = states[family.held_out_rows], states[family.train_rows]
    shown = family.alignment.select(np.concatenate([[0], family.train_rows]))
    found = {}
    for line, run, sampler, support in (
        ("model, 8 rows shown", base, "ddpm", 0),
        ("the same, all rows in its profile", base, "ddpm", 2000),
        ("tuned, 8 rows shown", tuned_run, "ddpm", 2000),
        ("tuned, remask", tuned_run, "remask", 2000),
        ("tuned, one-shot", tuned_run, "one-shot", 2000),
    ):
        config = GenerationConfig(
            rows=given.new,
            together=20,
            prompt=8,
            support=support,
            select="random",
            steps=32,
            sampler=sampler,
            draws=0,
            length=8192,
        )
        rows = generate(
            run.backbone,
            shown,
            config,
            schedule=run.schedule,
            length=8192,
        )
        new = rows.alignment.states[1:]
        assert not (rows.alignment.rows[1:] > GAP).any()
        found[line], _ = measure(new, measuring, states[0], known=known)
    made = generators.all_of(states[0], known, known, given.new, noise)
    for line, new in made.items():
        found[line], _ = measure(new, measuring, states[0], known=known)
    assert GENERATED not in found
    answer = {line: asdict(values) for line, values in found.items()}
    weights = sequence_weights(measuring)
    rs = [
        pair_correlation(
            again, measuring, (sequence_weights(again), weights), gaps=False
        )
        for again in (
            generators.sample_pssm(known, given.new, noise.child("again", i))
            for i in range(8)
        )
    ]
    print(f"{name}: residue r of eight draws of a PSSM: {min(rs):.3f} to {max(rs):.3f}")
    return answer


def once(steps: int) -> list[str]:
    """Return settings to measure at the end alone.

    The families that are measured must not decide which checkpoint is taken.
    """
    ends = (f"train.eval_every={steps}", f"train.save_every={steps}")
    return [*ends, "train.eval_start=false"]


def alignment(data: Path, name: str) -> Any:
    """Return the alignment of a family, ready for a model."""
    return read_alignment(data / f"{name}.a3m.gz").canonical()


def keep(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file of numbers, whole or not at all."""
    text = json.dumps(values, indent=1, default=float) + "\n"
    write_atomic(path, text.encode())


if __name__ == "__main__":
    main()
