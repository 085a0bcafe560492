"""The result of scoring a file: numbers with intervals, and each row's verdict."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mdlm_core.errors import DataError
from mdlm_llada.registry import BaseTaskSpec, Settings

from .join import Joined, join
from .metrics import Scored, Totals, judge_all, totals
from .statistics import Interval, Paired, bootstrap, compare, wilson

_NAMED = 5
_LABELS = {
    "nfe": "forward passes",
    "tokens_per_forward": "tokens per forward",
}


@dataclass(frozen=True)
class Report:
    """What a file of predictions is worth."""

    task: str
    path: Path
    rows: list[Scored]
    joined: Joined
    seed: int = 0

    @cached_property
    def totals(self) -> Totals:
        """Sums and means."""
        return totals(self.rows)

    @cached_property
    def interval(self) -> Interval:
        """The accuracy: Wilson's interval, or the bootstrap's with several samples."""
        if all(len(row.verdicts) == 1 for row in self.rows):
            return wilson(round(self.totals.correct), self.totals.total)
        return bootstrap([row.score for row in self.rows], seed=self.seed)

    @cached_property
    def decided(self) -> dict[str, int]:
        """What decided, and for how many predictions; the most frequent first."""
        verdicts = (verdict for row in self.rows for verdict in row.verdicts)
        return dict(Counter(v.how for v in verdicts if v.how).most_common())

    def numbers(self) -> dict[str, float]:
        """Return all numbers by name."""
        found = self.totals
        return {
            "total": found.total,
            "correct": found.correct,
            "accuracy": found.accuracy,
            "accuracy_low": self.interval.low,
            "accuracy_high": self.interval.high,
            "extraction_rate": found.extraction_rate,
            **found.numbers,
            "missing_gt": len(self.joined.missing_gold),
            "extra_gt": len(self.joined.missing_predictions),
            "unanswered": self.joined.unanswered,
        }

    def card(self) -> dict[str, Any]:
        """Return the report in terms of JSON, without the rows."""
        return {
            "task": self.task,
            "predictions": str(self.path),
            "joined_by": self.joined.by,
            "own_gold": self.joined.own_gold,
            **self.numbers(),
            "decided_by": self.decided,
        }

    def audit(self) -> Iterator[dict[str, Any]]:
        """Yield how each prediction was read and judged."""
        for row in self.rows:
            for sample, verdict in enumerate(row.verdicts):
                yield {
                    "key": row.key,
                    **({"sample": sample} if len(row.verdicts) > 1 else {}),
                    "extracted": verdict.extracted,
                    "gold": verdict.gold,
                    "correct": verdict.correct,
                    **({"how": verdict.how} if verdict.how else {}),
                    **verdict.numbers,
                    "prediction": row.item.predictions[sample],
                }

    def text(self) -> str:
        """Return the report for a terminal."""
        found, interval = self.totals, self.interval
        shown = f"{found.correct:g} of {found.total}"
        lines = [
            ("task", self.task),
            (
                "accuracy",
                f"{interval.value:.4f}  [{interval.low:.4f}, {interval.high:.4f}] "
                f"at 95 %, {shown} right",
            ),
            ("answer found", f"{found.extraction_rate:.4f} of the predictions"),
        ]
        for name, value in found.numbers.items():
            lines.append((_LABELS.get(name, name.replace("_", " ")), f"{value:.4f}"))
        if self.decided:
            ways = [f"{how:.40} {n}" for how, n in self.decided.items()]
            more = len(ways) - _NAMED
            others = [f"{more} other ways"] if more > 0 else []
            lines.append(("decided by", ", ".join([*ways[:_NAMED], *others])))
        lines.append(("joined by", self.joined.by))
        for label, keys in (
            ("without gold", self.joined.missing_gold),
            ("without answer", self.joined.missing_predictions),
        ):
            if keys:
                lines.append((label, f"{len(keys)} rows left out"))
        if self.joined.unanswered:
            whole = self.joined.unanswered + len(self.rows)
            whole += len(self.joined.missing_gold)
            lines.append(
                ("not complete", f"{self.joined.unanswered} of {whole} not answered")
            )
        if self.joined.own_gold:
            lines.append(
                ("own gold", f"{self.joined.own_gold} rows differ from the gold file")
            )
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"{label:>{width}}  {value}" for label, value in lines)


def score_files(
    task: BaseTaskSpec,
    predictions: Path,
    golds: Path | None,
    cfg: Settings,
    *,
    allow_missing: bool = False,
    seed: int = 0,
    also: Path | None = None,
) -> Report:
    """Join, judge and count a file of predictions.

    Args:
        task: knows what is right.
        predictions: JSON lines, see `join`.
        golds: JSON lines of what is right, if the predictions do not say.
        cfg: the task's settings.
        allow_missing: whether rows without a partner are left out.
        seed: of the bootstrap.
        also: another file, which this one will be compared with.
    """
    task.require_code(cfg)
    joined = join(
        Path(predictions), golds, task, allow_missing=allow_missing, also=also
    )
    rows = judge_all(task, joined, cfg)
    return Report(task.name, Path(predictions), rows, joined, seed)


def compare_reports(
    first: Report, second: Report, *, seed: int = 0, allow_missing: bool = False
) -> Paired:
    """Return the paired comparison of two files for the same rows.

    Args:
        first: one file.
        second: the other.
        seed: of the bootstrap.
        allow_missing: whether rows that one of them alone has are left out.

    Raises:
        DataError: if the files were not joined alike, a row is in one of them alone
            and may not be, they have no row in common, or their golds differ.
    """
    kinds = [report.joined.by for report in (first, second)]
    if kinds.count("id") == 1:
        raise DataError(
            f"'{first.path}' was joined by {kinds[0]} and '{second.path}' by "
            f"{kinds[1]}, so that their rows cannot be matched; give the rows of both "
            f"files ids, or an index"
        )
    mine = {row.key: row for row in first.rows}
    theirs = {row.key: row for row in second.rows}
    for one, other, here, there in (
        (mine, theirs, first.path, second.path),
        (theirs, mine, second.path, first.path),
    ):
        lonely = [key for key in one if key not in other]
        if lonely and not allow_missing:
            shown = ", ".join(f"'{key}'" for key in lonely[:_NAMED])
            raise DataError(
                f"{len(lonely)} rows of '{here}' are not in '{there}', such as "
                f"{first.joined.by} {shown}; a paired test needs the same rows: "
                f"complete the file, or compare those in common with --allow-missing"
            )
    common = [key for key in mine if key in theirs]
    if not common:
        raise DataError(
            f"'{first.path}' and '{second.path}' have no row in common by "
            f"{first.joined.by}"
        )
    for key in common:
        row = mine[key]
        golds = {row.verdicts[0].gold, theirs[key].verdicts[0].gold}
        if len(golds) > 1:
            raise DataError(
                f"{first.joined.by} '{key}' has another gold in '{first.path}' than in "
                f"'{second.path}'; the two answer different questions"
            )
    return compare(
        [mine[key].score for key in common],
        [theirs[key].score for key in common],
        seed=seed,
    )


def left_out(report: Report, found: Paired) -> int:
    """Return how many predictions of a file are not in a comparison."""
    return len(report.rows) + len(report.joined.missing_gold) - found.rows


def comparison_text(found: Paired, first: Report, second: Report) -> str:
    """Return a comparison for a terminal."""
    difference = found.difference
    method = "paired bootstrap over"
    if difference.method == "wilson":
        method = "Wilson's limit, since the difference is the same in all"
    p = "not defined, rows are right in part"
    if found.p_value is not None:
        p = f"{found.p_value:.4g}"
    lines = [
        ("A", f"{found.first:.4f}  {first.path}"),
        ("B", f"{found.second:.4f}  {second.path}"),
        (
            "B - A",
            f"{difference.value:+.4f}  [{difference.low:+.4f}, {difference.high:+.4f}] "
            f"at 95 %, {method} {found.rows} rows",
        ),
        ("only A right", str(found.only_first)),
        ("only B right", str(found.only_second)),
        ("McNemar p", p),
    ]
    lonely = [left_out(report, found) for report in (first, second)]
    if any(lonely):
        lines.append(
            (
                "in common",
                f"{found.rows} rows; left out: {lonely[0]} of A, {lonely[1]} of B",
            )
        )
    return "\n".join(f"{label:>12}  {value}" for label, value in lines)


def comparison_card(found: Paired, first: Report, second: Report) -> Mapping[str, Any]:
    """Return a comparison in terms of JSON."""
    return {
        "A": str(first.path),
        "B": str(second.path),
        **asdict(found),
        "left_out_A": left_out(first, found),
        "left_out_B": left_out(second, found),
    }


def write_audit(report: Report, path: Path) -> None:
    """Write how each prediction was read, as JSON lines."""
    from mdlm_core.cache import write_atomic

    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in report.audit())
    write_atomic(path, "".join(lines).encode())
