"""Run an ablation: all runs of a plan, one after another or several at once.

What is finished is never done again: a run is known by the hash of its settings, its
row by that and by how it was scored. A run that was killed goes on from its newest
checkpoint. Two variants with the same settings share one run.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mdlm_atat.datasets import DatasetConfig
from mdlm_atat.variants import BASELINE
from mdlm_core.catalog import Catalog
from mdlm_core.config import to_dict
from mdlm_core.train.lock import FolderLock
from mdlm_core.train.signals import StopSignals

from .measure import Extras, Stopped, attempt
from .plan import Job, Phase, digest, make_jobs, matched_steps
from .process import Process, threads_each
from .rows import DONE, STOPPED, AblationFolder, Row, latest
from .score import Scoring

POLL_SECONDS = 0.05


@dataclass(slots=True)
class Ablation:
    """An ablation that is going on."""

    folder: AblationFolder
    jobs: list[Job]
    phase: Phase
    scoring: Scoring
    extras: Extras
    catalog: Catalog
    held_out: DatasetConfig | None = None
    device: str | None = None
    imports: Sequence[str] = ()
    at_once: int = 1
    """How many runs share the machine."""
    say: Callable[[str], None] = lambda text: None
    finished: dict[str, Row] = field(default_factory=dict)
    """Hash -> row, of this scoring."""
    failed: set[str] = field(default_factory=set)
    """Hashes that failed this time."""

    @property
    def scoring_hash(self) -> str:
        """What identifies how rows are scored."""
        manifest = self.held_out.manifest if self.held_out else None
        text = {"text": manifest["sha256"]} if manifest else {}
        extras = asdict(self.extras) if self.extras.quality else {}
        return digest({**self.scoring.plain(), **extras, **text})

    # ---- what is to be done ------------------------------------------------------

    def read_rows(self) -> None:
        """Find what earlier calls have finished."""
        for (key, scoring), row in latest(self.folder.read()).items():
            if scoring == self.scoring_hash and row["status"] == DONE:
                self.finished[key] = row
        self.resolve_waiting()

    def resolve_waiting(self) -> None:
        """Decide the steps of time-matched runs whose times are known now."""
        for index, job in enumerate(self.jobs):
            if not job.waits:
                continue
            own = self._row(BASELINE, job.seed)
            other = self._row(job.variant.time_matched, job.seed)
            if own is not None and other is not None:
                self.jobs[index] = job.with_steps(matched_steps(own, other))
        self.write_plan()

    def _row(self, variant: str, seed: int) -> Row | None:
        for job in self.jobs:
            if (job.variant.name, job.seed, job.waits) == (variant, seed, False):
                return self.finished.get(job.hash)
        return None

    def open_jobs(self, busy: set[str]) -> list[Job]:
        """Return what can start now: one job for each hash."""
        known = self.finished.keys() | self.failed | busy
        jobs = {j.hash: j for j in reversed(self.jobs) if not j.waits}
        wanted = [job for key, job in jobs.items() if key not in known]
        return sorted(wanted, key=self.jobs.index)

    def write_plan(self) -> None:
        """Write what the report is about."""
        self.folder.write_plan(
            {
                "phase": self.phase.name,
                "preset": self.phase.preset,
                "note": self.phase.note,
                "scoring": self.scoring.plain(),
                "scoring_hash": self.scoring_hash,
                "jobs": [
                    {
                        "variant": job.variant.name,
                        "description": job.variant.description,
                        "seed": job.seed,
                        "hash": None if job.waits else job.hash,
                    }
                    for job in self.jobs
                ],
            }
        )

    def extras_of(self, job: Job) -> Extras:
        """Return what is measured besides: samples of the first seed alone."""
        first = job.seed == self.jobs[0].seed
        return replace(self.extras, quality=self.extras.quality and first)

    # ---- what is done ------------------------------------------------------------

    def run_folder(self, job: Job) -> Path:
        """Return the job's run folder, empty of what is no run.

        A run that was killed before its settings were written cannot go on; what it
        left is removed.
        """
        path = self.folder.runs / job.folder
        if path.is_dir() and not (path / "config.yaml").is_file():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def record(self, job: Job, result: dict[str, Any]) -> None:
        """Append the row of a run that ended."""
        row: Row = {
            "variant": job.variant.name,
            "seed": job.seed,
            "hash": job.hash,
            "scoring_hash": self.scoring_hash,
            "scoring": self.scoring.plain(),
            "text_sha256": job.text_sha256 or None,
            "run": f"{self.folder.runs.name}/{job.folder}",
            "git": git_commit(),
            "at_once": self.at_once,
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **result,
            "config": to_dict(job.config),
        }
        self.folder.append(row)
        if row["status"] == DONE:
            self.finished[job.hash] = row
            bound = row["bound"]
            self.say(
                f"{job.variant.name}, seed {job.seed}: {bound['nats']:.4f} ± "
                f"{bound['nats_se']:.4f} nats/token, {row['seconds']:.1f} s of training"
            )
        else:
            self.failed.add(job.hash)
            self.say(f"{job.variant.name}, seed {job.seed}: failed: {row['error']}")
        self.resolve_waiting()

    def run_here(self) -> None:
        """Do all jobs in this process, one after another.

        Raises:
            Stopped: if a signal came.
        """
        while jobs := self.open_jobs(set()):
            job = jobs[0]
            result = attempt(
                job.config,
                self.run_folder(job),
                self.scoring,
                extras=self.extras_of(job),
                held_out=self.held_out,
                device=self.device,
                catalog=self.catalog,
            )
            self.record(job, result)

    def run_apart(self) -> None:
        """Do all jobs, each in a process of its own, `at_once` at a time.

        Raises:
            Stopped: if a signal came; the processes have saved then.
        """
        at_once = self.at_once
        threads = threads_each(at_once)
        busy: dict[str, Process] = {}
        with StopSignals(lambda name: self.say(f"{name}: saving, then stopping")) as on:
            told = False
            while True:
                if on.received is not None and not told:
                    told = True
                    for process in busy.values():
                        process.stop()
                if on.received is None:
                    for job in self.open_jobs(set(busy))[: at_once - len(busy)]:
                        busy[job.hash] = self._start(job, threads)
                for key in [k for k, p in busy.items() if p.ended]:
                    process = busy.pop(key)
                    result = process.result()
                    if result["status"] != STOPPED:
                        self.record(process.job, result)
                if not busy and (on.received or not self.open_jobs(set())):
                    break
                time.sleep(POLL_SECONDS)
            if on.received is not None:
                raise Stopped(on.received)

    def _start(self, job: Job, threads: int | None) -> Process:
        held_out = self.held_out
        facts = {
            "folder": str(self.run_folder(job)),
            "scoring": self.scoring.plain(),
            "extras": asdict(self.extras_of(job)),
            "held_out": None if held_out is None else asdict(held_out),
            "device": self.device,
            "imports": list(self.imports),
        }
        return Process(job, self.folder.logs, facts, threads)


def ablate(
    catalog: Catalog,
    phase: Phase,
    out: Path,
    *,
    scoring: Scoring | None = None,
    extras: Extras | None = None,
    held_out: DatasetConfig | None = None,
    sets: Sequence[str] = (),
    tiny: bool = False,
    jobs: int = 1,
    device: str | None = None,
    imports: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> AblationFolder:
    """Train and score every variant with every seed; rows go to ``rows.jsonl``.

    Args:
        catalog: what can be chosen.
        phase: what is compared, and on what.
        out: the folder; one that holds an ablation is gone on with.
        scoring: how all runs are scored.
        extras: what is measured besides.
        held_out: prepared text to score on; None means what core holds out of the
            data of training.
        sets: settings of the user; see `make_jobs`.
        tiny: whether to shrink every run to seconds.
        jobs: runs at once, each in a process of its own; 0 for one after another in
            this process.
        device: where to train; None takes what is there.
        imports: modules with hooks, for processes of their own.
        say: told about the progress.

    Raises:
        ConfigError: if a setting is wrong; nothing was trained then.
        TrainingError: if another process works in the folder.
        Stopped: if a signal came; the same call goes on.
    """
    planned = make_jobs(catalog, phase, sets=sets, tiny=tiny)
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out)
    try:
        ablation = Ablation(
            folder=AblationFolder(out),
            jobs=planned,
            phase=phase,
            scoring=scoring or Scoring(),
            extras=extras or Extras(),
            catalog=catalog,
            held_out=held_out,
            device=device,
            imports=imports,
            at_once=max(jobs, 1),
            say=say,
        )
        ablation.read_rows()
        if ablation.finished:
            done = sum(job.hash in ablation.finished for job in ablation.jobs)
            say(f"{done} of {len(planned)} runs were finished before")
        if jobs:
            ablation.run_apart()
        else:
            ablation.run_here()
    finally:
        lock.release()
    return ablation.folder


def git_commit() -> str | None:
    """Return the commit of this package's checkout, with + if files differ from it.

    None if the package is not in a checkout that has it, but installed.
    """
    here = Path(__file__).resolve()
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        found = _git(
            here.parent,
            *("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found or None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
