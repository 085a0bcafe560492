"""What an ablation has found, as plain values: ``report.json``.

All numbers come from the rows. A run that was not made has none, and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from mdlm_atat.variants import BASELINE, VARIANTS
from mdlm_core.cache import write_atomic

from . import markdown, plots
from .rows import DONE, AblationFolder, Row, latest
from .statistics import over_seeds, over_windows

NOT_RUN = "not run"


def write_report(folder: Path, *, draw: bool = True) -> tuple[Path, str]:
    """Write ``report.json``, ``report.md`` and the plots of an ablation.

    Args:
        folder: the folder of the ablation.
        draw: whether to draw plots, if matplotlib is there.

    Returns:
        The path of ``report.md``, and a line about the plots.

    Raises:
        UsageError: if there is no ablation in `folder`.
    """
    place = AblationFolder(folder)
    report = build(place)
    text = json.dumps(report, indent=1, allow_nan=False)
    write_atomic(folder / "report.json", text.encode())
    drawn, line = plots.draw(report, place.plots) if draw else ([], "no plots asked")
    figures = [f"{place.plots.name}/{path.name}" for path in drawn]
    write_atomic(folder / "report.md", markdown.render(report, figures).encode())
    return folder / "report.md", line


def build(folder: AblationFolder) -> dict[str, Any]:
    """Return the report: facts of the ablation, and one entry for each variant."""
    plan, rows = folder.read_plan(), folder.read()
    found = {
        key: row
        for (key, scoring), row in latest(rows).items()
        if scoring == plan["scoring_hash"]
    }
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for job in plan["jobs"]:
        by_variant.setdefault(job["variant"], []).append(
            {**job, "row": found.get(job["hash"])}
        )
    planned = {job["hash"] for job in plan["jobs"]}
    base = {job["seed"]: _done(job["row"]) for job in by_variant.get(BASELINE, [])}
    entries = [_entry(name, jobs, base) for name, jobs in by_variant.items()]
    return {
        "phase": plan["phase"],
        "preset": plan["preset"],
        "note": plan["note"],
        "baseline": BASELINE,
        "scoring": plan["scoring"],
        "seeds": sorted({job["seed"] for job in plan["jobs"]}),
        "other_rows": sum(row["hash"] not in planned for row in rows),
        "facts": _facts(found[key] for key in planned & found.keys()),
        "variants": entries,
        "against": _against(by_variant),
    }


def _done(row: Row | None) -> Row | None:
    return row if row is not None and row["status"] == DONE else None


def _entry(
    name: str, jobs: Sequence[dict[str, Any]], base: dict[int, Row | None]
) -> dict[str, Any]:
    """Return all that is known about a variant."""
    runs = [_run(job, base.get(job["seed"])) for job in jobs]
    rows = [row for job in jobs if (row := _done(job["row"])) is not None]
    entry: dict[str, Any] = {
        "name": name,
        "description": jobs[0]["description"],
        "status": _status([run["status"] for run in runs]),
        "runs": runs,
        "nats": None,
        "difference": None,
    }
    if not rows:
        return entry
    nats = [row["bound"]["nats"] for row in rows]
    bits = [row["bound"]["bits_per_byte"] for row in rows]
    entry |= {
        "nats": fmean(nats),
        "nats_sd": stdev(nats) if len(nats) > 1 else None,
        "perplexity": math.exp(fmean(nats)),
        "bits_per_byte": _mean(bits),
        "steps": median([row["steps"] for row in rows]),
        "seconds": fmean(row["seconds"] for row in rows),
        "steps_per_second": median([row["steps_per_second"] for row in rows]),
        "parameters": rows[0]["parameters"],
        "ce_by_frequency": _means([row["ce_by_frequency"] for row in rows]),
        "ce_by_time": _means([row["ce_by_time"] for row in rows]),
        "curve": _curve([row["curve"] for row in rows]),
        "diagnostics": _diagnostics([row["diagnostics"] for row in rows]),
        "own_bound": _own([row["own_bound"] for row in rows]),
        "quality": _quality([row["quality"] for row in rows]),
    }
    if name != BASELINE:
        entry["difference"] = _difference(rows, base)
    return entry


def _against(
    by_variant: Mapping[str, Sequence[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return the differences to another variant than the baseline."""
    found = []
    for name, jobs in by_variant.items():
        other = VARIANTS[name].against if name in VARIANTS else ""
        if other not in by_variant:
            continue
        rows = [row for job in jobs if (row := _done(job["row"])) is not None]
        base = {job["seed"]: _done(job["row"]) for job in by_variant[other]}
        difference = _difference(rows, base)
        found.append({"name": name, "against": other, "difference": difference})
    return found


def _status(statuses: Sequence[str]) -> str:
    kinds = set(statuses)
    if len(kinds) == 1:
        return statuses[0]
    parts = [f"{statuses.count(kind)} {kind}" for kind in sorted(kinds)]
    return ", ".join(parts)


def _run(job: dict[str, Any], base: Row | None) -> dict[str, Any]:
    """Return one run in short, with its difference to the baseline of its seed."""
    row: Row | None = job["row"]
    short: dict[str, Any] = {
        "seed": job["seed"],
        "hash": job["hash"],
        "status": NOT_RUN if row is None else row["status"],
        "error": None if row is None else row.get("error"),
    }
    if (row := _done(row)) is None:
        return short
    short |= {
        "run": row["run"],
        "nats": row["bound"]["nats"],
        "nats_se": row["bound"]["nats_se"],
        "steps": row["steps"],
        "seconds": row["seconds"],
        "steps_per_second": row["steps_per_second"],
        "difference": None,
        "not_comparable": None,
    }
    if base is not None and base["hash"] != row["hash"]:
        short["not_comparable"] = why_not(row, base)
        if short["not_comparable"] is None:
            interval = over_windows([_window_nats(row, base)], row["windows"]["tokens"])
            short["difference"] = asdict(interval)
    return short


def why_not(row: Row, base: Row) -> str | None:
    """Say why two rows cannot be compared; None if they can."""
    for name, label in (
        ("held_out_sha256", "another held-out text"),
        ("tokenizer_fingerprint", "another tokenizer"),
        ("length", "another length"),
    ):
        if row["data"][name] != base["data"][name]:
            return label
    if row["windows"]["tokens"] != base["windows"]["tokens"]:
        return "other held-out windows"
    return None


def _window_nats(row: Row, base: Row) -> list[float]:
    pairs = zip(row["windows"]["nats"], base["windows"]["nats"], strict=True)
    return [own - other for own, other in pairs]


def _difference(
    rows: Sequence[Row], base: dict[int, Row | None]
) -> dict[str, Any] | None:
    """Return the paired differences to `base`, over seeds and over windows."""
    pairs = [
        (row, other)
        for row in rows
        if (other := base.get(row["seed"])) is not None and why_not(row, other) is None
    ]
    if not pairs:
        return None
    windows = [_window_nats(row, other) for row, other in pairs]
    tokens = pairs[0][0]["windows"]["tokens"]
    per_seed = [sum(values) / sum(tokens) for values in windows]
    seeds = over_seeds(per_seed)
    scale = 100 / fmean(other["bound"]["nats"] for _, other in pairs)
    speed = [row["steps_per_second"] / o["steps_per_second"] for row, o in pairs]
    return {
        "seeds": [row["seed"] for row, _ in pairs],
        "per_seed": per_seed,
        "over_seeds": asdict(seeds),
        "over_windows": asdict(over_windows(windows, tokens)),
        "percent": scale * seeds.mean,
        "percent_low": None if seeds.low is None else scale * seeds.low,
        "percent_high": None if seeds.high is None else scale * seeds.high,
        "significant": seeds.excludes_zero,
        "step_time_ratio": 1 / median(speed),
    }


# ---- means over seeds ------------------------------------------------------------


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    there = [value for value in known if value is not None]
    return fmean(there) if there and len(there) == len(known) else None


def _means(lists: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [_mean(values) for values in zip(*lists, strict=True)]


def _curve(curves: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the learning curve, averaged over the seeds that have each step."""
    points: dict[int, list[dict[str, Any]]] = {}
    for curve in curves:
        for point in curve:
            points.setdefault(point["step"], []).append(point)
    return [
        {
            "step": step,
            "seconds": fmean(point["seconds"] for point in found),
            "nats": fmean(point["nats"] for point in found),
            "lowest": min(point["nats"] for point in found),
            "highest": max(point["nats"] for point in found),
            "runs": len(found),
        }
        for step, found in sorted(points.items())
    ]


def _diagnostics(found: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return the diagnostics, averaged over seeds."""
    there = [values for values in found if values]
    if not there:
        return None
    return {
        "strength": there[0]["strength"],
        "times": there[0]["times"],
        "spearman": _means([values["spearman"] for values in there]),
        "mask_rate": [
            _means([values["mask_rate"][index] for values in there])
            for index in range(len(there[0]["mask_rate"]))
        ],
        "calibration": {
            name: _means([values["calibration"][name] for values in there])
            for name in ("importance", "percentile")
        },
    }


def _own(found: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return the variant's own bound over seeds; None if it has none."""
    there = [values for values in found if values]
    if not there:
        return None
    nats = [values["nats"] for values in there]
    return {
        "label": there[0]["label"],
        "nats": fmean(nats),
        "nats_sd": stdev(nats) if len(nats) > 1 else None,
        "nats_se": fmean(values["nats_se"] for values in there),
        "runs": len(nats),
    }


def _quality(found: Sequence[list[dict[str, Any]] | None]) -> list[dict[str, Any]]:
    """Return the table of samples, averaged over the seeds that have one."""
    tables = [table for table in found if table]
    return [
        {
            **{name: lines[0][name] for name in ("order", "steps", "entropy_bound")},
            "nfe": _mean([line["nfe"] for line in lines]),
            "judge_nats": _mean([line["judge_nats"] for line in lines]),
            "unigram_entropy": _mean([line["unigram_entropy"] for line in lines]),
            "distinct": _means([line["distinct"] for line in lines]),
            "infilling": _infilling([line["infilling"] for line in lines]),
        }
        for lines in zip(*tables, strict=True)
    ]


def _infilling(found: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return accuracy and evaluations for each hidden share; None for held-out text."""
    there = [values for values in found if values is not None]
    if not there:
        return None
    return {
        share: {
            name: _mean([values[share][name] for values in there])
            for name in ("accuracy", "nfe")
        }
        for share in there[0]
    }


def _facts(rows: Iterable[Row]) -> dict[str, Any]:
    """Return what the runs have in common: data, machine, versions."""
    done = [row for row in rows if row["status"] == DONE]
    if not done:
        return {}
    first = done[0]
    return {
        "data": first["data"],
        "windows": first["bound"]["rows"],
        "tokens_scored": first["bound"]["tokens"],
        "machines": sorted({_machine(row) for row in done}),
        "at_once": max(row["at_once"] for row in done),
        "versions": _versions(done),
        "git": sorted({row["git"] for row in done if row["git"]}),
        "training_seconds": sum(row["seconds"] for row in done),
    }


def _versions(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the versions of each package that the rows were made with."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, version in row["versions"].items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(met) for name, met in found.items()}


def _machine(row: Row) -> str:
    facts = row["machine"]
    return f"{facts['device']}, {facts['threads']} threads, {facts['system']}"
