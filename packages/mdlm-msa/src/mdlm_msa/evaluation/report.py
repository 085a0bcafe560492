"""The report of an evaluation: lines for a terminal, JSON, and a page in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from mdlm_core.reports import (
    draw_figures,
    html_facts,
    html_figures,
    html_note,
    html_page,
    html_table,
    write_files,
)
from mdlm_msa.origin import COPY

from . import figures
from .compare import Measured
from .evaluating import Evaluation

COLUMNS: dict[str, str] = {
    "JS": "bits, mean over columns of the Jensen-Shannon divergence to the reference",
    "JS 90": "its 90th percentile",
    "rho": "rank correlation of the conservation of columns",
    "pair r": "correlation of pair statistics, the gap being a symbol",
    "without gaps": "the same over rows that have a residue in both columns",
    "Neff/n": "effective rows (80 % identity over all columns) for each row",
    "identity": "to the query, over columns where both have a residue; mean",
    "nearest": "identity to the nearest row of reference; mean",
    "gap error": "share of gaps, less that of the reference",
    "gap runs": "bits, Jensen-Shannon divergence of the lengths of runs of gaps",
    "copies": f"share above {COPY:.0%} identity to the query, or repeated",
}
CAPTIONS = {
    "logo": "Height of a stack: conservation in bits; of a letter: its share. Above: "
    "generated rows; below: reference.{cut}",
    "conservation": "Conservation of columns in both; divergence of their laws.",
    "contacts": "Grey: contacts of the structure (C-beta below 8 Å). Dots: the L pairs "
    "with the strongest couplings at |i - j| of at least 6, filled if in contact; "
    "below the diagonal {low}, above it {high}.",
}
STYLE = """
.verdict { border-left: 4px solid #0072B2; padding: 0.4rem 1rem; background: #f4f7fa; }
"""


def cells(line: Measured) -> list[str]:
    """Return one set of rows as the cells of the table, in the order of `COLUMNS`."""
    copies = max(line.duplicates, line.nearest_query)
    return [
        f"{line.js:.3f}",
        f"{line.js_90:.3f}",
        _number(line.rho, 2),
        _number(line.pair_r, 2),
        _number(line.residue_r, 2),
        f"{line.neff_share:.3f}",
        f"{line.identity_mean:.2f}",
        f"{line.nearest:.2f}",
        f"{line.gap_error:+.2f}",
        _number(line.gap_runs_js, 3),
        f"{copies:.0%}",
    ]


def text(found: Evaluation) -> str:
    """Return lines for people."""
    comparison = found.comparison
    width = max(len(name) for name in comparison.lines)
    lines = [f"{'':<{width}}  " + "  ".join(COLUMNS)]
    for name, line in comparison.lines.items():
        row = [
            cell.rjust(len(head))
            for cell, head in zip(cells(line), COLUMNS, strict=True)
        ]
        lines.append(f"{name:<{width}}  " + "  ".join(row))
    count, against = comparison.count, comparison.reference
    lines += ["", f"{count:,} rows of each kind, against {against:,} of the reference"]
    lines += comparison.notes
    lines += [line for _, line in _facts(found)]
    if found.contacts is not None:
        lines += ["", *_contact_lines(found)]
    if found.held_out is not None:
        lines += ["", "bits per residue of held-out rows of the reference, gaps given"]
        lines += [found.held_out.text()]
    lines += ["", f"{found.verdict.words}:"]
    lines += [f"  {reason}" for reason in found.verdict.reasons]
    return "\n".join(lines)


def write(
    found: Evaluation, folder: Path, *, title: str = "Evaluation"
) -> tuple[Path, str]:
    """Write `evaluation.json` and `evaluation.html` into a folder.

    Without matplotlib the page has no figures and says so.

    Args:
        found: the evaluation.
        folder: made if it is not there.
        title: the heading of the page.

    Returns:
        The page, and what is missing and how to get it; empty if nothing is.

    Raises:
        UsageError: if the folder cannot be written.
    """
    drawn, note = draw_figures(figures.FIGURES, found, package="mdlm-msa")
    html = render(found, drawn, title=title, note=note)
    files = {"evaluation.json": found.card(), "evaluation.html": html}
    return write_files(folder, files)[-1], note


def render(
    found: Evaluation,
    drawn: Mapping[str, str],
    *,
    title: str = "Evaluation",
    note: str = "",
) -> str:
    """Return the page, which needs no other file.

    Args:
        found: the evaluation.
        drawn: name -> SVG text of figures.
        title: its heading.
        note: a line on what is missing.
    """
    verdict = found.verdict
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    words = verdict.words[:1].upper() + verdict.words[1:]
    parts = [
        f'<div class="verdict"><b>{escape(words)}</b>'
        f'<ul>{reasons}</ul><span class="note">The rule: {escape(verdict.rule)}.</span>'
        f"</div>",
        "<h2>Beside rows that need no model</h2>",
        html_table(
            ("rows", *COLUMNS),
            [(name, *cells(line)) for name, line in found.comparison.lines.items()],
            words=1,
        ),
        html_note(
            f"{found.comparison.count:,} rows of each kind, against "
            f"{found.comparison.reference:,} rows of the reference. "
            + "; ".join(f"{name}: {told}" for name, told in COLUMNS.items())
            + "."
        ),
    ]
    parts += [html_note(f"{told}.") for told in found.comparison.notes]
    if found.contacts is not None:
        contacts = found.contacts
        heads = list(next(iter(contacts.precisions.values()), {}))
        rows = [
            (name, f"{contacts.rows[name]:,}", *(_number(v[h], 2) for h in heads))
            for name, v in contacts.precisions.items()
        ]
        chance = [_number(contacts.random[s], 2) for s in (6, 6, 24, 24)]
        rows.append(("pairs at random", "", *chance[: len(heads)]))
        parts += [
            f"<h2>Contacts by {contacts.method} couplings</h2>",
            html_table(("rows", "number", *heads), rows, words=1),
        ]
    if found.held_out is not None:
        parts += ["<h2>Bits per residue of held-out rows, gaps given</h2>"]
        parts.append(_held_out(found))
    parts += html_figures(drawn, _captions(found), note)
    parts += ["<h2>What was evaluated</h2>", html_facts(found.facts)]
    return html_page(title, parts, style=STYLE)


def _facts(found: Evaluation) -> list[tuple[str, str]]:
    line = found.comparison.lines["generated"]
    low, middle, high = line.identity
    covered = line.coverage
    told = [
        (
            "identity",
            f"identity to the query: quartiles {low:.2f}, {middle:.2f}, {high:.2f}; "
            f"coverage {covered[0]:.2f}, {covered[1]:.2f}, {covered[2]:.2f}",
        )
    ]
    if line.neff_gain is not None:
        told.append(
            ("gain", f"they add {line.neff_gain:.1f} effective rows to those shown")
        )
    if line.nearest_known is not None:
        told.append(
            (
                "known",
                f"{line.nearest_known:.0%} are more than {COPY:.0%} identical to a row "
                f"that the model knew",
            )
        )
    return told


def _contact_lines(found: Evaluation) -> list[str]:
    contacts = found.contacts
    assert contacts is not None
    lines = [f"precision of contacts, {contacts.method} couplings"]
    for name, values in contacts.precisions.items():
        shown = ", ".join(f"{key} {_number(v, 2)}" for key, v in values.items())
        lines.append(f"  {name} ({contacts.rows[name]:,} rows): {shown}")
    chance = ", ".join(
        f"{_number(v, 2)} at |i-j|>={s}" for s, v in contacts.random.items()
    )
    return [*lines, f"  pairs at random: {chance}"]


def _held_out(found: Evaluation) -> str:
    assert found.held_out is not None
    rows = []
    for line in found.held_out.lines():
        less = "" if line.gain is None else f"{line.gain:+.3f}"
        rows.append((line.k, line.law, f"{line.mean:.3f}", less))
    head = ("shown rows", "law", "bits per residue", "less the model")
    return html_table(head, rows, words=2)


def _captions(found: Evaluation) -> dict[str, str]:
    """Return what stands below the figures."""
    cut = ""
    if len(found.query) > figures.LOGO:
        cut = f" The first {figures.LOGO} of {len(found.query)} columns."
    low, high = figures.halves(found)
    return {
        name: told.format(cut=cut, low=low, high=high)
        for name, told in CAPTIONS.items()
    }


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"
