"""How well a judge can read traits in essays, and how varied essays are.

    python packages/mdlm-personality/benchmarks/essays.py FILE [--folds 10] [--json OUT]

FILE is the user's own copy of the essays with Big Five classes: a csv, or csv.gz, with
the columns text, cOPN, cCON, cEXT, cAGR and cNEU. The tables are printed in Markdown:
the ceiling of the TF-IDF judge by cross-validation over authors, and self-BLEU and
distinct-n at several N x W, to which those of generated texts are held.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mdlm_core.kernels.noise import Noise
from mdlm_personality.config import PersonaTextConfig
from mdlm_personality.data.source import read_texts
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.metrics.alignment import Alignment
from mdlm_personality.metrics.diversity import Diversity, cut, diversity
from mdlm_personality.metrics.intervals import plain
from mdlm_personality.metrics.judges import ceiling
from mdlm_personality.metrics.tables import markdown
from mdlm_personality.traits import TRAITS

SIZES = ((50, 64), (100, 64), (100, 128), (500, 128))


def ceilings(texts: PersonaTexts, found: tuple[Alignment, ...]) -> str:
    """Return the table of the judge."""
    rows = []
    for k, one in enumerate(found):
        share = float(np.nanmean(texts.values[:, k]))
        rows.append(
            (
                one.trait,
                f"{100 * max(share, 1 - share):.1f}",
                f"{100 * one.accuracy.value:.1f} ({100 * one.accuracy.low:.1f} to "
                f"{100 * one.accuracy.high:.1f})",
                f"{one.auc:.3f}",
                f"{one.r.value:.3f} ({one.r.low:.3f} to {one.r.high:.3f})",
            )
        )
    return markdown(("trait", "majority %", "accuracy %", "AUC", "r"), rows)


def varieties(found: list[Diversity]) -> str:
    """Return the table of diversity."""
    rows = [
        (
            f"{one.texts} x {one.words}",
            f"{one.self_bleu:.3f}",
            *(f"{share:.3f}" for share in one.distinct),
        )
        for one in found
    ]
    head = ("N x W", "self-BLEU-4", "distinct-1", "distinct-2", "distinct-3")
    return markdown(head, rows)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--traits", default=",".join(TRAITS))
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="the first n")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    texts = read_texts(PersonaTextConfig(path=str(given.file), format="essays"))
    noise = Noise(given.seed).child("essays")
    varied = [
        diversity(cut(texts.texts, count=n, words=w, noise=noise.child("cut", n, w)))
        for n, w in SIZES[: given.sizes]
    ]
    print(f"{len(texts):,} essays\n\n{varieties(varied)}\n", flush=True)
    found = ceiling(texts, noise=noise, folds=given.folds)
    print(ceilings(texts, found))
    if given.json:
        whole = {
            "diversity": [asdict(one) for one in varied],
            "ceiling": [plain(vars_of(one)) for one in found],
        }
        given.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def vars_of(one: Alignment) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__slots__}


if __name__ == "__main__":
    main(sys.argv[1:])
