"""Every classifier on SST-2, TREC and IMDB, against naive Bayes at equal texts.

    python packages/mdlm-classify/benchmarks/compare.py DATA --out DIR
    python packages/mdlm-classify/benchmarks/compare.py DATA --out DIR \
        --settings sst2,imdb-500 --models nb,mdlm --set mdlm:train.epochs=4

DATA holds sst2/, trec/ and imdb/, each with train.csv.gz and test.csv.gz (columns text
and label), and sst2/validation.csv.gz. The official divisions are used as they are: no
text is dropped, so that the baselines are the ones known from elsewhere; how many test
texts are also training texts is said. Classifiers that choose a checkpoint hold out a
tenth of the training texts where there is no validation file. IMDB is without its tags,
and its smaller settings are tested on the 2,000 test texts that `divide` chooses.

What each classifier said is kept in DIR/<setting>/, and is not made again unless the
classifier or the texts are others: the same command goes on where it stopped, with more
models if asked for. The tables are printed in Markdown, and DIR/<setting>.json has all
measures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdlm_classify.candidates import CANDIDATES, Wanted, choose, make, split_sets
from mdlm_classify.comparison import Comparison
from mdlm_classify.data.texts import read_texts
from mdlm_classify.division import Division, divide
from mdlm_classify.side_by_side import compare
from mdlm_core.cache import write_atomic

TEST_ROWS = 2000
BASELINES = tuple(name for name, each in CANDIDATES.items() if not each.trained)


@dataclass(frozen=True)
class Setting:
    """Texts to learn from and to test on."""

    folder: str
    rows: int = 0
    test_rows: int = 0
    clean: str = "none"
    given: dict[str, Any] = field(default_factory=dict)
    """Settings of all models that are trained by steps."""


IMDB: dict[str, Any] = {"folder": "imdb", "clean": "html"}
SETTINGS = {
    "sst2": Setting("sst2", given={"data.length": 64}),
    "trec": Setting("trec", given={"data.length": 64}),
    "imdb-500": Setting(rows=500, test_rows=TEST_ROWS, **IMDB),
    "imdb-2000": Setting(rows=2000, test_rows=TEST_ROWS, **IMDB),
    "imdb-8000": Setting(rows=8000, test_rows=TEST_ROWS, **IMDB),
    "imdb": Setting(**IMDB),
}


def texts_of(setting: Setting, data: Path, seed: int) -> Division:
    """Return the texts of a setting; nothing is dropped."""
    folder = data / setting.folder
    found = {
        name: read_texts(path, clean=setting.clean)
        for name in ("train", "test", "validation")
        if (path := folder / f"{name}.csv.gz").exists()
    }
    return divide(
        found["train"],
        found["test"],
        validation=found.get("validation"),
        rows=setting.rows,
        test_rows=setting.test_rows,
        duplicates="keep",
        seed=seed,
    )


def measure(
    name: str, models: tuple[str, ...], args: argparse.Namespace
) -> tuple[Comparison, Division]:
    """Compare the models on one setting."""
    setting = SETTINGS[name]
    every, of = split_sets(args.set)
    division = texts_of(setting, args.data, args.seed)
    wanted = Wanted(
        settings={"data.duplicates": "keep", **setting.given, **every},
        of=of,
        tiny=args.tiny,
        device=args.device,
        seed=args.seed,
        verbose=args.verbose,
    )
    found = compare(
        {each: make(each, wanted) for each in models},
        division.train,
        division.test,
        validation=division.validation,
        reference=args.reference,
        summaries={each: CANDIDATES[each].summary for each in models},
        folder=args.out / name,
        seed=args.seed,
        tell=lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True),
    )
    card = {**found.to_dict(), "division": division.card}
    write_atomic(args.out / f"{name}.json", json.dumps(card, indent=1).encode())
    return found, division


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--models", default=",".join(BASELINES))
    parser.add_argument("--reference", default="nb")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="only that it runs")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    models = choose(args.models.split(","))
    for name in args.settings.split(","):
        if name not in SETTINGS:
            parser.error(f"there is no setting '{name}'; use {', '.join(SETTINGS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.settings.split(","):
        found, division = measure(name, models, args)
        data, both = found.data, division.card["learned_from_and_tested_on"]
        print(
            f"\n{name}: {data['train']} training texts, {data['test']} test texts; "
            f"{both} of the training texts are tested on too\n\n"
            f"{found.to_markdown()}",
            flush=True,
        )


if __name__ == "__main__":
    main()
