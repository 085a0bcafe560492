"""Whether the held-out text of a phase stands in its training text. Heavy: numpy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from mdlm_core.data.files import JsonlDocuments
from mdlm_core.data.split import survey
from mdlm_core.errors import DataError

from .overlap import WORDS, Overlap, find_overlap
from .records import PhaseConfig

ALLOWED = 0.01
"""The share of held-out text that may stand in the training text."""
WAY_OUT = (
    "take the repeated documents out of one of the two, or measure on another data set "
    "(val_dataset of the phase)"
)


def phase_overlap(phase: PhaseConfig) -> Overlap:
    """Return how much of what the phase holds out it trains on.

    Args:
        phase: with prepared data.

    Raises:
        DataError: if a file cannot be read or holds no words.
    """
    if phase.val_dataset is not None:
        return find_overlap(phase.dataset.cache_file, phase.val_dataset.cache_file)
    with tempfile.TemporaryDirectory() as folder:
        return find_overlap(*_split(phase, Path(folder)))


def check_disjoint(phase: PhaseConfig, *, tell: Callable[[str], None]) -> str:
    """Refuse to train on what is held out; return what a reader has to know.

    A fallback is let pass, because it only shows that something runs, and it is told.

    Args:
        phase: with prepared data.
        tell: called with a line if anything was found.

    Raises:
        DataError: if more than `ALLOWED` of the held-out text stands in the training
            text.
    """
    found = phase_overlap(phase)
    if not found.found:
        return ""
    text = overlap_text(found)
    if found.share > ALLOWED and not phase.replaced:
        raise DataError(
            f'phase {phase.id}: {text}, such as "{found.example[:60]}..."; at most '
            f"{ALLOWED:.0%} is let pass: {WAY_OUT}"
        )
    tell(f"note: {text}, so that bounds are too low")
    return text


def overlap_text(found: Overlap) -> str:
    """Return in words how much was found."""
    text = (
        f"{found.share:.2%} of {found.runs:,} runs of {WORDS} held-out words stand in "
        f"the training text"
    )
    return text if found.searched >= 1 else f"{text}, {found.searched:.0%} of it read"


def _split(phase: PhaseConfig, folder: Path) -> tuple[Path, Path]:
    """Write what core's hash of documents trains on, and what it holds out."""
    texts = JsonlDocuments([phase.dataset.cache_file])
    found = survey(texts, phase.dataset.holdout)
    paths = []
    for split in ("train", "validation"):
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for text in found.select(texts, split):
                file.write(json.dumps({"text": text}) + "\n")
        paths.append(path)
    return paths[0], paths[1]
