"""Traits, wellness and health, and what people do: a causal model of the SPI table.

    python packages/mdlm-personality/benchmarks/spi.py DATA/spi_scores.csv.gz

The graph is assumed: traits come before wellness and health, those before exercise,
smoking and visits to the emergency room. Three tables in Markdown: effects with
bootstrap intervals and what PC, GES and LiNGAM say of each edge; how a graph that is
searched for depends on the units of the columns; and what the equations explain.
Self-reports of one questionnaire; nothing here is about a person.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from mdlm_core.kernels import Noise
from mdlm_personality.causal import report, sem
from mdlm_personality.causal.cross_check import METHODS, cross_check
from mdlm_personality.causal.report_text import effects_table, nodes_table, table
from mdlm_personality.causal.search import find_support
from mdlm_personality.causal.stability import check_scale
from mdlm_personality.causal.tables import Table, read_table
from mdlm_personality.config.model import Structure

LABELS = {
    "wellness": "beliefs",
    "health": "beliefs",
    "exer": "actions",
    "smoke": "actions",
    "ER": "actions",
}


def effects(data: Table, draws: int, noise: Noise) -> str:
    """Return effects with intervals and cross checks, and the equations."""
    fitted = sem.fit_tiered(data)
    spread = sem.bootstrap(data, fitted, noise, draws=draws)
    checks = []
    if find_spec("causallearn") is None:
        print("no cross checks: causal-learn is not installed", file=sys.stderr)
    else:
        checks = cross_check(data, METHODS)
    card = report.of_table(
        fitted,
        source="SPI",
        rows=len(data),
        structure="tiered",
        least=sem.LEAST,
        spread=spread,
        checks=checks,
    )
    kept = [pair for pair in card["effects"] if pair["edge"]]
    counted = " ".join(
        f"{check['method']}: "
        + ", ".join(
            f"{sum(pair['found_by'][check['method']] == word for pair in kept)} {word}"
            for word in ("same", "opposite", "undirected", "absent")
        )
        + f" of {len(kept)} edges."
        for check in card.get("checks", ())
    )
    return "\n\n".join(
        (effects_table(card, markdown=True), counted, nodes_table(card, markdown=True))
    )


def units(data: Table, noise: Noise, rescalings: int) -> str:
    """Return how graphs depend on the units of the columns."""
    rows = []
    structures: tuple[Structure, ...] = ("tiered", "dagma", "notears")
    for structure in structures:
        for tiers in (True,) if structure == "tiered" else (True, False):
            found = check_scale(
                data,
                lambda seen, s=structure, t=tiers: find_support(  # type: ignore[misc]
                    seen, s, units="raw", tiers=t
                ),
                noise,
                draws=rescalings,
            )
            rows.append(
                [
                    structure if tiers else f"{structure}, no tiers",
                    str(int(found.raw.sum())),
                    str(int(found.standardised.sum())),
                    str(found.distance),
                    ", ".join(str(distance) for distance in found.distances),
                    f"{found.varsortability:.2f}",
                ]
            )
    head = ["graph", "edges, raw", "edges, standardised", "SHD of the two"]
    head += ["SHD, random units", "varsortability"]
    return table(head, rows, markdown=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--rescalings", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    data = read_table(args.table, labels=LABELS)
    noise = Noise(args.seed)
    print(effects(data, args.draws, noise), flush=True)
    print(f"\n{units(data, noise, args.rescalings)}")
    print(f"{time.perf_counter() - started:.0f} seconds", file=sys.stderr)


if __name__ == "__main__":
    main()
