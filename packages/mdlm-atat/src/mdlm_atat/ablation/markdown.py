"""The report as a page to read: ``report.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DASH = "–"
QUARTER_NAMES = ("most frequent", "2nd", "3rd", "rarest")


def render(report: dict[str, Any], figures: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        report: what `report.build` returns.
        figures: paths of the plots, relative to the page.
    """
    parts = [_head(report), _main(report), _against(report), _seeds(report)]
    parts += [_own_bounds(report), _frequency(report), _time(report)]
    parts += [_policy(report), _quality(report), _curves(report)]
    if figures:
        parts.append(_section("Figures", *(_figure(path) for path in figures)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: dict[str, Any]) -> str:
    facts, scoring = report["facts"], report["scoring"]
    lines = [f"# {report['phase']}", f"Preset `{report['preset']}`."]
    if report["note"]:
        lines.append(f"Note: {report['note']}.")
    if facts:
        data = facts["data"]
        lines[1] += (
            f" Data `{data['name']}`, tokenizer `{data['tokenizer']}`, rows of "
            f"{data['length']} tokens."
        )
        lines.append(
            f"Every row is scored by the same uniform bound (exact counts): "
            f"{facts['windows']} held-out windows, {facts['tokens_scored']} tokens, "
            f"{scoring['draws']} draws each with masks common to all rows, last "
            f"averaged weights, float32. The bound is above -log p of the ordinary "
            f"sampler; the variants differ in training alone."
        )
        met = facts["versions"]
        versions = ", ".join(f"{name} {' and '.join(v)}" for name, v in met.items())
        lines.append(
            f"{facts['training_seconds']:.0f} s of training in all; "
            f"{'; '.join(facts['machines'])}; {versions}"
            + (f"; commit {', '.join(facts['git'])}" if facts["git"] else "")
            + "."
        )
        if differ := [name for name, found in met.items() if len(found) > 1]:
            lines.append(
                f"Not all rows were made with the same versions of "
                f"{', '.join(differ)}: a difference may come from that."
            )
    if report["other_rows"]:
        lines.append(
            f"`rows.jsonl` also holds {report['other_rows']} rows that are not in "
            f"this report: other settings, other scoring, or failed attempts."
        )
    return "\n\n".join(lines)


def _section(title: str, *blocks: str) -> str:
    return "\n\n".join((f"## {title}", *blocks))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- tables ----------------------------------------------------------------------


def _main(report: dict[str, Any]) -> str:
    base = report["baseline"]
    head = (
        "variant",
        "bound, nats/token",
        "PPL",
        "bits/byte",
        f"vs {base} [95 % over seeds]",
        "relative",
        "[95 % over windows]",
        "steps/s",
        "step time",
        "extra parameters",
    )
    rows = [_main_row(entry, base) for entry in report["variants"]]
    notes = [
        "Differences are paired by seed (same initial weights, data order and noise); "
        "negative is better. The interval over seeds (Student's t) is the one for a "
        "claim about training; the one over windows (bootstrap) only tells how well "
        "these very runs were measured. Each interval is for its row alone. `±` is "
        "the standard deviation over seeds. Step time is over that of "
        f"{base}, from medians.",
    ]
    if report["facts"].get("at_once", 1) > 1:
        notes.append(
            f"Up to {report['facts']['at_once']} runs shared the machine, so that "
            f"times and steps/s are those of a busy one."
        )
    if len(report["seeds"]) == 1:
        notes.append(
            "There is one seed, so that there is no interval over seeds: how much "
            "training itself varies is not known."
        )
    listing = "\n".join(
        f"- `{entry['name']}`: {entry['description']}" for entry in report["variants"]
    )
    return _section("Result", _table(head, rows), *notes, listing)


def _main_row(entry: dict[str, Any], base: str) -> list[str]:
    name = f"`{entry['name']}`"
    if entry["nats"] is None:
        return [name, entry["status"], *[DASH] * 8]
    label = name if entry["status"] == "done" else f"{name} ({entry['status']})"
    cells = [
        label,
        number(entry["nats"], 4) + spread(entry["nats_sd"], 4),
        number(entry["perplexity"], 3),
        number(entry["bits_per_byte"], 4),
    ]
    found = entry["difference"]
    if found is None:
        cells += ["0" if entry["name"] == base else DASH, *[DASH] * 2]
    else:
        cells += [
            signed(found["over_seeds"]["mean"]) + limits(found["over_seeds"]),
            f"{found['percent']:+.2f} %",
            limits(found["over_windows"]).strip(),
        ]
    ratio = "1" if entry["name"] == base else DASH
    cells += [
        number(entry["steps_per_second"], 2),
        ratio if found is None else f"{found['step_time_ratio']:.3f}",
        f"{entry['parameters']['policy']:,}",
    ]
    return cells


def _against(report: dict[str, Any]) -> str:
    """Return the differences to another variant than the baseline, if there are."""
    if not report["against"]:
        return ""
    head = (
        "variant",
        "against",
        "seeds",
        "difference [95 % over seeds]",
        "relative",
        "[95 % over windows]",
        "step time",
    )
    rows = []
    for entry in report["against"]:
        cells = [f"`{entry['name']}`", f"`{entry['against']}`"]
        found = entry["difference"]
        if found is None:
            rows.append([*cells, "0", *[DASH] * 4])
            continue
        cells += [
            str(len(found["seeds"])),
            signed(found["over_seeds"]["mean"]) + limits(found["over_seeds"]),
            f"{found['percent']:+.2f} %",
            limits(found["over_windows"]).strip(),
            f"{found['step_time_ratio']:.3f}",
        ]
        rows.append(cells)
    return _section(
        "Differences to another variant",
        _table(head, rows),
        "Paired by seed as above, over the seeds that both have; relative and step "
        "time are over the variant in the second column.",
    )


def _seeds(report: dict[str, Any]) -> str:
    head = (
        "run",
        "seed",
        "bound, nats/token",
        "difference [95 % over windows]",
        "steps",
        "training, s",
        "status",
    )
    rows = []
    for entry in report["variants"]:
        for run in entry["runs"]:
            cells = [f"`{entry['name']}`", str(run["seed"])]
            if "nats" in run:
                found = run["difference"]
                why = run["not_comparable"]
                cells += [
                    number(run["nats"], 4) + spread(run["nats_se"], 4),
                    signed(found["mean"]) + limits(found) if found else (why or DASH),
                    str(run["steps"]),
                    number(run["seconds"], 1),
                ]
            else:
                cells += [DASH] * 4
            error = (run["error"] or "").replace("|", "\\|").split("\n")[0]
            rows.append([*cells, run["status"] + (f": {error}" if error else "")])
    return _section(
        "Runs",
        _table(head, rows),
        "`±` is the standard error over windows and draws.",
    )


def _own_bounds(report: dict[str, Any]) -> str:
    found = [e for e in report["variants"] if e["nats"] is not None and e["own_bound"]]
    if not found:
        return ""
    rows = [
        [
            f"`{entry['name']}`",
            entry["own_bound"]["label"],
            number(entry["own_bound"]["nats"], 4)
            + spread(entry["own_bound"]["nats_sd"], 4),
            number(entry["own_bound"]["nats_se"], 4),
        ]
        for entry in found
    ]
    return _section(
        "Own bounds",
        "The bound of each variant's own process and sampler, with the rate term. It "
        "belongs to that process, and must not be compared with the uniform bound "
        "above as a score of training.",
        _table(("variant", "process", "own bound, nats/token", "standard error"), rows),
    )


def _frequency(report: dict[str, Any]) -> str:
    head = ("variant", *(f"{name} quarter" for name in QUARTER_NAMES))
    rows = [
        [f"`{e['name']}`", *(number(value, 4) for value in e["ce_by_frequency"])]
        for e in _known(report)
    ]
    if not rows:
        return ""
    return _section(
        "By token frequency",
        "Nats per token of each quarter of the training text, tokens sorted from "
        "frequent to rare; weighted with their shares they add up to the bound.",
        _table(head, rows),
    )


def _time(report: dict[str, Any]) -> str:
    entries = _known(report)
    if not entries:
        return ""
    bins = len(entries[0]["ce_by_time"])
    head = ("variant", *(f"{(i + 1) / bins:.1f}" for i in range(bins)))
    rows = [
        [f"`{e['name']}`", *(number(value, 3) for value in e["ce_by_time"])]
        for e in entries
    ]
    return _section(
        "By share of hidden tokens",
        "Mean nats of a hidden token, by the share of tokens that are hidden (up to "
        "the number in the head of the column).",
        _table(head, rows),
    )


def _policy(report: dict[str, Any]) -> str:
    found = [e for e in _known(report) if e["diagnostics"]]
    if not found:
        return ""
    times = found[0]["diagnostics"]["times"]
    head = ("variant", *(f"{t:g}" for t in times), "mean")
    correlations = []
    for entry in found:
        values = entry["diagnostics"]["spearman"]
        there = [value for value in values if value is not None]
        mean = sum(there) / len(there) if there else None
        cells = [number(value, 2) for value in (*values, mean)]
        correlations.append([f"`{entry['name']}`", *cells])
    rates = [
        [
            f"`{entry['name']}`",
            number(entry["diagnostics"]["strength"], 2),
            f"{quarter} quarter",
            *(number(value, 3) for value in line),
        ]
        for entry in found
        for quarter, line in zip(
            QUARTER_NAMES, entry["diagnostics"]["mask_rate"], strict=True
        )
    ]
    return _section(
        "Importance",
        "Spearman's correlation between importance and the held-out loss of a hidden "
        "token, by the share of hidden tokens (middle of each tenth).",
        _table(head, correlations),
        "Chance to be hidden at each time, by token frequency, at the full strength "
        "kappa of the policy (training uses less of it in the ramp and in the anneal, "
        "and none at the end).",
        _table(("variant", "kappa", "tokens", *(f"t = {t:g}" for t in times)), rates),
    )


def _quality(report: dict[str, Any]) -> str:
    found = [entry for entry in _known(report) if entry["quality"]]
    if not found:
        return ""
    shares = next(
        line["infilling"]
        for entry in found
        for line in entry["quality"]
        if line["infilling"]
    )
    head = (
        "variant",
        "order",
        "steps",
        "evaluations",
        "judge, nats/token",
        "unigram entropy",
        "distinct-2",
        *(f"infilling at {float(share):.0%}" for share in shares),
    )
    rows = []
    for entry in found:
        for line in entry["quality"]:
            infilling = line["infilling"] or {}
            rows.append(
                [
                    f"`{entry['name']}`",
                    line["order"].replace("_", " "),
                    _budget(line),
                    number(line["nfe"], 1),
                    number(line["judge_nats"], 3),
                    number(line["unigram_entropy"], 3),
                    number(line["distinct"][1], 3),
                    *(
                        number(infilling.get(share, {}).get("accuracy"), 3)
                        for share in shares
                    ),
                ]
            )
    return _section(
        "Samples",
        "From the first seed. How probable an n-gram model of the training text finds "
        "samples, how varied they are, and how many hidden tokens of held-out rows are "
        "guessed, against the evaluations of the model that a sample costs. The bound "
        "says nothing about these samplers, except for the order random. A low judge's "
        "loss with low entropy is repetition; held-out text is the measure of both.",
        _table(head, rows),
    )


def _budget(line: dict[str, Any]) -> str:
    """Return the number of steps, or the entropy bound in its place."""
    if line["entropy_bound"] is not None:
        return f"gamma = {line['entropy_bound']:g}"
    return DASH if line["steps"] is None else str(line["steps"])


def _curves(report: dict[str, Any]) -> str:
    rows = [
        [
            f"`{entry['name']}`",
            str(point["step"]),
            number(point["seconds"], 1),
            number(point["nats"], 4),
            f"{point['lowest']:.4f} to {point['highest']:.4f}",
        ]
        for entry in _known(report)
        for point in entry["curve"]
    ]
    if not rows:
        return ""
    return _section(
        "Learning curves",
        "The bound during training, on what is held out of the training data (fewer "
        "draws and windows than above); mean and range over seeds.",
        _table(("variant", "step", "training, s", "nats/token", "range"), rows),
    )


def _known(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in report["variants"] if entry["nats"] is not None]


def _figure(path: str) -> str:
    name = path.rpartition("/")[2].partition(".")[0].replace("-", " ")
    return f"![{name}]({path})"


# ---- numbers ---------------------------------------------------------------------


def number(value: float | None, digits: int) -> str:
    """Return a number with so many digits after the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def spread(value: float | None, digits: int) -> str:
    """Return `` ± value``, or nothing if it is not known."""
    return "" if value is None else f" ± {value:.{digits}f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.4f}"


def limits(interval: dict[str, Any]) -> str:
    """Return the ends of an interval, or that there is none."""
    if interval["low"] is None:
        return f" (n = {interval['n']}: no interval)"
    return f" [{interval['low']:+.4f}, {interval['high']:+.4f}]"
