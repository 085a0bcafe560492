"""Small tables of texts, and commands on them."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from mdlm_core.cli import run

WORDS = {
    "good": ("fine", "lovely", "bright", "warm", "kind", "clever"),
    "bad": ("dull", "awful", "grey", "cold", "cruel", "stupid"),
}
COMMON = ("film", "plot", "scene", "actor", "the", "a", "was", "it")


def table(path: Path, count: int, seed: int, **shares: float) -> Path:
    """Write `count` texts, each of words of its class and words of both."""
    draw = random.Random(seed)
    shares = shares or {"good": 0.5, "bad": 0.5}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(count):
            label = draw.choices(list(shares), list(shares.values()))[0]
            own = draw.choices(WORDS[label], k=2)
            text = draw.choices(COMMON, k=draw.randint(2, 6)) + own
            draw.shuffle(text)
            writer.writerow([" ".join(text), label])
    return path


def labels_in(path: Path) -> tuple[list[str], list[str]]:
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    return [row["text"] for row in found], [row["label"] for row in found]


def mdlm(capsys, *arguments: object, code: int = 0) -> tuple[str, str]:
    found = run(["classify", *map(str, arguments)])
    said = capsys.readouterr()
    assert found == code, said.err
    return said.out, said.err
