"""The page of an evaluation: one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdlm_core.reports import (
    draw_figures,
    html_facts,
    html_figures,
    html_note,
    html_page,
    html_table,
    write_files,
)

from .card import Evaluation, card
from .figures import FIGURES

CAPTIONS = {
    "confusion": "Rows sum to the texts of a class; shades are shares of the row.",
    "reliability": "On the diagonal, a class that has probability p is right with "
    "frequency p. Below it the model is too sure of itself.",
    "answered": "The most trusted texts are answered first. The dashed line is the "
    "accuracy if all are.",
    "draws": "The same {rows} texts under the same masks, with more and more of them.",
}
STYLE = """
.mistakes td:first-child { white-space: pre-wrap; overflow-wrap: anywhere;
                           min-width: 20rem; }
"""


def write(
    evaluation: Evaluation, folder: Path, *, title: str = "Evaluation"
) -> tuple[Path, str]:
    """Write `evaluation.json` and `evaluation.html` into a folder.

    Earlier ones are replaced. Without matplotlib the page has no figures and says so.

    Args:
        evaluation: the predictions.
        folder: made if it is not there.
        title: the heading of the page.

    Returns:
        The page, and what is missing and how to get it; empty if nothing is.

    Raises:
        UsageError: if the folder cannot be written.
    """
    plain = card(evaluation)
    drawn, note = draw_figures(FIGURES, evaluation, package="mdlm-classify")
    html = render(plain, drawn, title=title, note=note)
    files = {"evaluation.json": plain, "evaluation.html": html}
    return write_files(folder, files)[-1], note


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
    parts = [_summary(card)]
    if card["facts"]:
        parts += ["<h2>What was evaluated</h2>", html_facts(card["facts"])]
    parts += ["<h2>Classes</h2>", _classes(card)]
    curve = card["draws"]["curve"]
    rows = f"{curve[0]['rows']:,}" if curve else ""
    captions = {name: text.format(rows=rows) for name, text in CAPTIONS.items()}
    parts += html_figures(drawn, captions, note)
    if curve:
        parts += ["<h2>What more draws bring</h2>", _draws(card["draws"])]
    parts += ["<h2>The doubtful left out</h2>", _coverage(card)]
    parts += ["<h2>The worst mistakes</h2>", _mistakes(card["mistakes"])]
    return html_page(title, parts, style=STYLE)


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
    return html_table(("measure", "value"), rows)


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
    return html_table(head, rows)


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
    return html_table(head, rows)


def _coverage(card: Mapping[str, Any]) -> str:
    rows = [
        (_percent(part["share"]), _percent(part["accuracy"]), part["threshold"])
        for part in card["coverage"]
    ]
    meant = "Trust is the probability of the predicted class"
    if card["scoring"] is not None and not card["scoring"]["exact"]:
        meant += ", times the chance that more draws would not change the class"
    head = ("answered", "accuracy of these", "least trust")
    return f"{html_note(f'{meant}.')}\n{html_table(head, rows)}"


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
    return f'<div class="mistakes">{html_table(head, rows)}</div>'
