"""How fast an a3m file of 8,000 rows becomes a matrix, and what a million rows take.

    python packages/mdlm-msa/benchmarks/reading.py FAMILY.a3m.gz [--rows 8000]

FAMILY is repeated until the file has that many rows. All readers run in one process, in
turns, and the best of their processor times is compared: ours, with checks, headers and
notes; ours with insertions kept; Biopython's fastest reader with the same matrix made
of its rows, once row by row and once of all rows together, neither of which checks
anything; and pyhmmer's, which makes no matrix. With --million, the memory of a stream
of a million rows of which 20,000 are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from Bio.SeqIO.FastaIO import SimpleFastaParser
from pyhmmer import easel

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import ID_OF_BYTE, Ids
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.formats.writing import a3m_text

LOWER = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz.")


def biopython(path: Path) -> Ids:
    """Read with SimpleFastaParser, and make the same matrix."""
    headers, rows = [], []
    with path.open() as file:
        for header, row in SimpleFastaParser(file):
            headers.append(header)
            rows.append(row.translate(LOWER))
    ids = ID_OF_BYTE[np.frombuffer("".join(rows).encode(), np.uint8)]
    return ids.reshape(len(rows), -1)


def biopython_bytes(path: Path) -> Ids:
    """The same, but insertions are deleted from all rows at once, as bytes."""
    headers, rows = [], []
    with path.open() as file:
        for header, row in SimpleFastaParser(file):
            headers.append(header)
            rows.append(row)
    data = "".join(rows).encode()
    kept = data.translate(None, b"abcdefghijklmnopqrstuvwxyz.")
    return ID_OF_BYTE[np.frombuffer(kept, np.uint8)].reshape(len(rows), -1)


def pyhmmer(path: Path) -> Any:
    """Read with pyhmmer; no matrix is made."""
    with easel.MSAFile(str(path), digital=False, format="a2m") as file:
        return file.read()


def best(read: Callable[[Path], Any], path: Path, times: list[float]) -> None:
    start = time.process_time()
    read(path)
    times.append(time.process_time() - start)


def million(folder: Path, text: bytes, rows: int) -> dict[str, float]:
    """Read a million rows as a stream and keep 20,000."""
    path = folder / "million.a3m"
    copies = -(-1_000_000 // rows)
    with path.open("wb") as file:
        for _ in range(copies):
            file.write(text)
    Noise(0).integer()  # its library is loaded before memory is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = read_alignment(path, max_rows=20_000)
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": copies * rows,
        "file MB": path.stat().st_size / 1e6,
        "kept": found.depth,
        "seconds": seconds,
        "more memory, MB": (after - before) / 1e3,
        "matrix of what is kept, MB": found.rows.nbytes / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", type=Path)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--million", action="store_true")
    chosen = parser.parse_args()
    family = read_alignment(chosen.family, keep_letters=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "family.a3m"
        many = family.select(np.arange(chosen.rows) % family.depth)
        path.write_bytes(a3m_text(many))
        readers: dict[str, Callable[[Path], Any]] = {
            "ours": read_alignment,
            "ours, insertions kept": lambda p: read_alignment(p, keep_letters=True),
            "biopython": biopython,
            "biopython, bytes": biopython_bytes,
            "pyhmmer": pyhmmer,
        }
        ours = read_alignment(path).rows
        for name in ("biopython", "biopython, bytes"):
            if not np.array_equal(ours, readers[name](path)):
                sys.exit(f"{name} reads other rows")
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(chosen.rounds):
            for label, read in readers.items():
                best(read, path, times[label])
        result: dict[str, Any] = {
            "rows": chosen.rows,
            "columns": family.length,
            "file MB": path.stat().st_size / 1e6,
        }
        for label, seconds in times.items():
            result[f"{label}, ms"] = 1e3 * min(seconds)
            result[f"{label}, of ours"] = min(seconds) / min(times["ours"])
        if chosen.million:
            small = family.select(np.arange(min(2000, family.depth)))
            text = a3m_text(small)
            result["million"] = million(folder, text, small.depth)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
