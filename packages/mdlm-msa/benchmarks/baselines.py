"""What laws and generators that need no model reach on families of your own.

    python packages/mdlm-msa/benchmarks/baselines.py FAMILIES [--structures FOLDER]
        [--potts] [--only NAME ...] [--json FILE]

FAMILIES is what `mdlm msa inspect` reads: a file, a folder, a glob. Three tables, each
a mean over families: bits per residue of held-out rows, given where gaps are, for laws
of columns (and, with --potts, for a Potts model by annealed importance sampling, which
errs to its favour); generated rows against natural ones, in families that are deep
enough; and the precision of contacts of mean-field couplings for `<name>.cb.tsv` of
FOLDER. Rows of less than half of the columns are left out everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.data.family import Family
from mdlm_msa.evaluation.compare import beside_baselines, plain
from mdlm_msa.evaluation.contacts_mf import (
    mean_field,
    pair_scores,
    precisions,
    random_precision,
    read_structure,
)
from mdlm_msa.evaluation.contacts_plm import fit
from mdlm_msa.evaluation.generators import NATURAL
from mdlm_msa.evaluation.held_out import evaluate_model, split_rows
from mdlm_msa.formats.reading import read_alignments
from mdlm_msa.laws import bits, pssm

ROWS = 200
"""Rows of each kind in the table of generators; it takes families of twice as many, one
half to measure with and one half for the baselines."""
SHOWN = {
    "js": "JS",
    "rho": "rho",
    "pair_r": "pair r",
    "residue_r": "without gaps",
    "neff_share": "Neff/n",
    "identity_mean": "identity",
    "nearest": "nearest",
    "gap_error": "gap error",
    "gap_runs_js": "gap runs",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families")
    parser.add_argument("--structures", type=Path)
    parser.add_argument("--potts", action="store_true")
    parser.add_argument("--potts-rows", type=int, default=32)
    parser.add_argument("--longest", type=int, default=200, help="columns for --potts")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    noise = Noise(options.seed)
    found = [
        alignment.canonical()
        for alignment in read_alignments(options.families)
        if not options.only or alignment.name in options.only
    ]
    result = {
        "bits": held_out(found, noise, options),
        "generators": generators(found, noise),
    }
    if options.structures is not None:
        result["contacts"] = contacts(found, options.structures)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def held_out(found: list[Alignment], noise: Noise, options: Any) -> dict[str, Any]:
    families = {a.name: split_rows(a, noise.child("split", a.name)) for a in found}
    enough = {
        name: family
        for name, family in families.items()
        if len(family.held_out_rows) >= 10 and len(family.train_rows) >= 16
    }
    table = evaluate_model(None, enough, ks=(1, 4, 16), rows=0, noise=noise)
    print(f"bits per residue, {len(enough)} families")
    print(table.text())
    result = table.as_dict()
    if options.potts:
        result["potts"] = potts(enough, noise, options)
    return result


def potts(families: dict[str, Family], noise: Noise, options: Any) -> list[Any]:
    found = []
    for name, family in families.items():
        states = family.alignment.states
        if states.shape[1] > options.longest:
            continue
        start = time.process_time()
        train = states[family.train_rows]
        held = states[family.held_out_rows[: options.potts_rows]]
        model = fit(train)
        cost = model.nats(held, noise=noise.child("ais", name), chains=8, steps=60)
        one = {
            "family": name,
            "rows": len(held),
            "potts": float(cost.nats.sum() / cost.residues.sum() / np.log(2)),
            "pssm": bits(pssm(train), held),
            "seconds": time.process_time() - start,
        }
        found.append(one)
        print(
            f"{name:<28} Potts {one['potts']:.3f}  PSSM of all {one['pssm']:.3f}  "
            f"({len(held)} rows, {one['seconds']:.0f} s)"
        )
        sys.stdout.flush()
    if found:
        for law in ("potts", "pssm"):
            print(f"{law:<6} mean {np.mean([one[law] for one in found]):.3f}")
    return found


def generators(found: list[Alignment], noise: Noise) -> dict[str, Any]:
    lines: dict[str, list[dict[str, Any]]] = {}
    names = []
    for alignment in found:
        states = alignment.states[1:]
        states = states[(states < 20).mean(1) >= 0.5]
        if len(states) < 2 * ROWS:
            continue
        names.append(alignment.name)
        query = alignment.states[0]
        rows = states[:ROWS]  # in the place of generated rows; not shown
        compared = beside_baselines(
            rows, states, query, noise.child("generators", alignment.name), most=ROWS
        )
        for name, line in compared.lines.items():
            lines.setdefault(name, []).append(plain(line))
    lines.pop("generated", None)
    print(f"\ngenerators, {ROWS} rows each, {len(names)} families")
    print(" " * 24 + "  ".join(SHOWN.values()))
    means: dict[str, Any] = {"families": names}
    for name, all_of in lines.items():
        means[name] = {
            key: _mean([line[key] for line in all_of if line[key] is not None])
            for key in SHOWN
        }
        cells = [
            f"{value:.3f}" if value is not None else "–"
            for value in means[name].values()
        ]
        heads = zip(cells, SHOWN.values(), strict=True)
        print(f"{name:<24}" + "  ".join(c.rjust(len(h)) for c, h in heads))
    assert not names or NATURAL in means
    return means


def contacts(found: list[Alignment], folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    print("\ncontacts, mean-field couplings")
    for alignment in found:
        path = folder / f"{alignment.name}.cb.tsv"
        if not path.is_file():
            continue
        structure = read_structure(path, alignment.query)
        states = alignment.states
        states = states[(states < 20).mean(1) >= 0.5]
        values = precisions(pair_scores(mean_field(states)), structure)
        chance = random_precision(structure)
        result[alignment.name] = {**values, "random": chance, "rows": len(states)}
        shown = "  ".join(f"{key} {value:.2f}" for key, value in values.items())
        print(
            f"{alignment.name:<20} {len(states):>5} rows  {shown}  random {chance:.2f}"
        )
        sys.stdout.flush()
    return result


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main()
