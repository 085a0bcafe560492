"""The page of an evaluation: one HTML file that needs no other."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mdlm_core.cache import write_atomic
from mdlm_core.errors import UsageError

from . import figures
from .card import Evaluation, card

CAPTIONS = {
    "confusion": "Rows sum to the texts of a class; shades are shares of the row.",
    "reliability": "On the diagonal, a class that has probability p is right with "
    "frequency p. Below it the model is too sure of itself.",
    "answered": "The most trusted texts are answered first. The dashed line is the "
    "accuracy if all are.",
    "draws": "The same {rows} texts under the same masks, with more and more of them.",
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.7rem; vertical-align: top;
         border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
             white-space: nowrap; }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 20rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #666; font-size: 0.85rem; }
.wide { overflow-x: auto; }
""".strip()


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    card: Path
    page: Path
    note: str = ""
    """What is missing, and how to get it; empty if nothing is."""


def write(evaluation: Evaluation, folder: Path, *, title: str = "Evaluation") -> Report:
    """Write `evaluation.json` and `evaluation.html` into a folder.

    Earlier ones are replaced. Without matplotlib the page has no figures and says so.

    Args:
        evaluation: the predictions.
        folder: made if it is not there.
        title: the heading of the page.

    Raises:
        UsageError: if the folder cannot be written.
    """
    plain = card(evaluation)
    drawn, note = {}, ""
    if figures.available():
        drawn = figures.draw(evaluation)
    else:
        note = figures.MISSING
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    report = Report(folder / "evaluation.json", folder / "evaluation.html", note)
    try:
        write_atomic(report.card, text.encode(errors="replace"))
        html = render(plain, drawn, title=title, note=note)
        write_atomic(report.page, html.encode(errors="replace"))
    except OSError as error:
        raise UsageError(f"the report cannot be written to '{folder}': {error}") from (
            error
        )
    return report


def render(
    card: Mapping[str, Any],
    drawn: Mapping[str, str],
    *,
    title: str = "Evaluation",
    note: str = "",
) -> str:
    """Return the page.

    Args:
        card: of `card.card`.
        drawn: name -> SVG text of figures, which the page then holds.
        title: its heading.
        note: a line on what is missing.
    """
    parts = [f"<h1>{escape(title)}</h1>", _summary(card)]
    if card["facts"]:
        parts += ["<h2>What was evaluated</h2>", _facts(card["facts"])]
    parts += ["<h2>Classes</h2>", _classes(card)]
    if drawn or note:
        parts.append("<h2>Figures</h2>")
    if note:
        parts.append(f'<p class="note">{escape(note)}</p>')
    parts += [_image(_caption(name, card), svg) for name, svg in drawn.items()]
    if card["draws"]["curve"]:
        parts += ["<h2>What more draws bring</h2>", _draws(card["draws"])]
    parts += ["<h2>The doubtful left out</h2>", _coverage(card)]
    parts += ["<h2>The worst mistakes</h2>", _mistakes(card["mistakes"])]
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; strings to the left, numbers to the right."""
    numeric = [
        all(not isinstance(row[column], str) for row in rows)
        for column in range(len(head))
    ]

    def cell(tag: str, value: Any, column: int) -> str:
        kind = ' class="n"' if numeric[column] else ""
        if tag == "td" and head[column] == "text":
            kind = ' class="text"'
        return f"<{tag}{kind}>{escape(_shown(value))}</{tag}>"

    lines = ["".join(cell("th", name, c) for c, name in enumerate(head))]
    lines += ["".join(cell("td", value, c) for c, value in enumerate(r)) for r in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n{body}\n</table></div>'


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


def _summary(card: Mapping[str, Any]) -> str:
    accuracy = card["accuracy"]
    loss = card["log_loss"]
    rows: list[tuple[str, str]] = [
        ("texts", f"{card['rows']:,}"),
        (
            "accuracy",
            f"{_percent(accuracy['value'], 2)} (95 % interval "
            f"{_percent(accuracy['low'], 2)} to {_percent(accuracy['high'], 2)})",
        ),
        ("macro F1", f"{card['macro_f1']:.4f}"),
        ("log-loss", "infinite" if loss is None else f"{loss:.4f} nats"),
        ("Brier score", f"{card['brier']:.4f}"),
        (
            "calibration error",
            f"{card['ece']:.4f} (bins of as many texts: {card['ece_adaptive']:.4f})",
        ),
    ]
    scoring = card["scoring"]
    if scoring is not None and scoring["exact"]:
        rows.append(("likelihood", "exact"))
    elif scoring is not None:
        rows += [
            ("draws per text", f"{scoring['draws_per_text']:.1f}"),
            ("forward passes per text", f"{scoring['evaluations_per_text']:.1f}"),
            (
                "may change with more draws",
                f"{scoring['flips_over_5_percent']:,} texts, with more than 5 % chance",
            ),
        ]
    return _table(("measure", "value"), rows)


def _facts(facts: Mapping[str, Any]) -> str:
    def plain(value: Any) -> str:
        if isinstance(value, Mapping | list | tuple):
            return json.dumps(value, ensure_ascii=False)
        return _shown(value)

    return _table(("fact", "value"), [(k, plain(v)) for k, v in facts.items()])


def _classes(card: Mapping[str, Any]) -> str:
    head = ("class", "texts", "predicted", "precision", "recall", "F1", "prior")
    rows = [
        (
            one["label"],
            one["rows"],
            one["predicted"],
            one["precision"],
            one["recall"],
            one["f1"],
            prior,
        )
        for one, prior in zip(card["classes"], card["prior"], strict=True)
    ]
    return _table(head, rows)


def _caption(name: str, card: Mapping[str, Any]) -> str:
    """Return what stands below a figure."""
    curve = card["draws"]["curve"]
    rows = f"{curve[0]['rows']:,}" if curve else ""
    return CAPTIONS[name].format(rows=rows)


def _image(caption: str, svg: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" '
        f'src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _draws(draws: Mapping[str, Any]) -> str:
    points = [(f"{point['draws']:g}", point) for point in draws["curve"]]
    if draws["reached"] is not None:
        mean = draws["reached"]["draws"]
        points.append((f"{mean:.1f}, by the rule of stopping", draws["reached"]))
    rows = [
        (
            name,
            _percent(point["accuracy"]["value"]),
            f"{_percent(point['accuracy']['low'])} to "
            f"{_percent(point['accuracy']['high'])}",
            _percent(point["agreement"]),
        )
        for name, point in points
    ]
    head = ("draws", "accuracy", "95 % interval", "same class as after the most draws")
    return _table(head, rows)


def _coverage(card: Mapping[str, Any]) -> str:
    rows = [
        (_percent(part["share"]), _percent(part["accuracy"]), part["threshold"])
        for part in card["coverage"]
    ]
    meant = "Trust is the probability of the predicted class"
    if card["scoring"] is not None and not card["scoring"]["exact"]:
        meant += ", times the chance that more draws would not change the class"
    head = ("answered", "accuracy of these", "least trust")
    return f'<p class="note">{meant}.</p>\n{_table(head, rows)}'


def _mistakes(mistakes: Sequence[Mapping[str, Any]]) -> str:
    if not mistakes:
        return "<p>There is none.</p>"
    head = ("text", "right class", "predicted", "probability", "flip", "row", "where")
    rows = [
        (
            one["text"],
            one["label"],
            one["predicted"],
            one["probability"],
            one["flip"],
            one["row"],
            one["origin"] or "",
        )
        for one in mistakes
    ]
    return _table(head, rows)
