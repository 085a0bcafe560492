"""Filtering by hh-suite's own program, for whoever wants exactly its rows."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mdlm_core.errors import DataError, UsageError

from .alignment import Alignment
from .config import RowFilter
from .filtering import FilterReport
from .formats.reading import read_alignment
from .formats.writing import write_alignment


def run_hhfilter(
    alignment: Alignment, rules: RowFilter, program: Path | str, *, diff: int = 0
) -> tuple[Alignment, FilterReport]:
    """Return what ``hhfilter`` keeps of an alignment.

    It gets ``-id`` from `max_identity`, ``-cov`` from `min_coverage` and `max_gaps`
    (the stricter of both), ``-qid`` from `min_identity`, in whole percents, and
    ``-diff``. Its measure of identity is its own: over the columns that two rows share.

    Args:
        alignment: the query first; with insertions if they are to be kept.
        rules: see `RowFilter`.
        program: its path or name.
        diff: see `filtering.diverse`; 0 keeps all that the other rules keep.

    Raises:
        UsageError: if there is no such program.
        DataError: if it fails or keeps nothing.
    """
    found = shutil.which(str(program))
    if found is None:
        raise UsageError(
            f"there is no program '{program}'; give the path of hh-suite's hhfilter, "
            f"or leave --hhfilter out and let this command filter"
        )
    least = max(rules.min_coverage, 1 - rules.max_gaps)
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "in.a3m"), Path(folder, "out.a3m")
        write_alignment(replace(alignment, comments=()), source, format="a3m")
        settings = {
            "-id": rules.max_identity,
            "-cov": least,
            "-qid": rules.min_identity,
        }
        command = [found, "-i", str(source), "-o", str(target), "-diff", str(diff)]
        for name, share in settings.items():
            command += [name, str(round(100 * share))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not target.exists():
            said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise DataError(
                f"'{found}' failed with exit code {done.returncode}: {said[-1]}; its "
                f"command was {' '.join(command)}"
            )
        kept = read_alignment(
            target, format="a3m", keep_letters=alignment.letters is not None
        )
    kept = replace(
        kept,
        name=alignment.name,
        comments=alignment.comments,
        notes=alignment.notes,
    )
    gone = alignment.depth - kept.depth
    report = FilterReport(
        alignment.depth - 1, kept.depth - 1, {"hhfilter": gone} if gone else {}
    )
    return kept, report
