"""Attributions to look at: in a terminal, as an HTML page, as JSON.

Blue speaks for the first class and orange for the second; the deeper, the more nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from rich.style import Style
from rich.text import Text

from mdlm_core.reports import html_note, html_page, html_table
from mdlm_core.samplers.live import printable

from .attribution import Attribution

FOR, AGAINST = (33, 113, 181), (217, 95, 14)
"""Red, green and blue of both directions; told apart by the colour-blind too."""
_STYLE = """
.text { font-size: 1.05rem; line-height: 2; white-space: pre-wrap;
        overflow-wrap: anywhere; }
.text span { padding: 0.15rem 0.1rem; border-radius: 0.2rem; }
.gap { color: #888; }
"""


def shares(values: Sequence[float]) -> list[float]:
    """Return the values divided by the largest of them, in [-1, 1]."""
    most = max(map(abs, values), default=0.0)
    return [value / most if most else 0.0 for value in values]


def summary(found: Attribution) -> str:
    """Return one line: the log-ratio and what it is made of."""
    return (
        f"log p(text | {found.label}) / p(text | {found.other}) = "
        f"{found.log_ratio:+.2f} +- {found.se:.2f} nats, prior "
        f"{found.log_prior_ratio:+.2f}; p({found.label}) : p({found.other}) = "
        f"{_odds(found)} after calibration"
    )


def _odds(found: Attribution) -> str:
    share = found.share
    return f"{share:.1%} : {1 - share:.1%}"


def terminal(found: Attribution, *, most: int = 8) -> Text:
    """Return the text with its words on coloured ground, and the strongest words.

    Args:
        found: the attribution.
        most: how many words of each direction are listed.
    """
    values = found.by_word()
    view = Text(printable(summary(found)) + "\n\n")
    for word, share in zip(found.words, shares(values), strict=True):
        view.append(printable(word.before))
        view.append(printable(word.text), _ground(share))
    view.append(printable(found.tail.rstrip()) + "\n")
    for label, rows in _sides(found, most):
        view.append(f"\nfor {printable(label)}:\n")
        if not rows:
            view.append("  no word\n")
        for text, value in rows:
            view.append(f"  {value:+8.3f}  {printable(text)}\n")
    view.rstrip()
    return view


def _ground(share: float) -> Style:
    """Return the colours of a word; those that hardly count have none."""
    if abs(share) < 0.05:
        return Style()
    red, green, blue = _mixed(share)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    ink = "white" if dark else "black"
    return Style(color=ink, bgcolor=f"rgb({red},{green},{blue})")


def _mixed(share: float) -> tuple[int, int, int]:
    """Return the colour of a share in [-1, 1], white at 0."""
    target = FOR if share > 0 else AGAINST
    depth = abs(share) ** 0.75
    red, green, blue = (round(255 + (end - 255) * depth) for end in target)
    return red, green, blue


def _sides(found: Attribution, most: int) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return for both classes the words that speak for it, the strongest first."""
    pairs = [
        (word.text, value)
        for word, value in zip(found.words, found.by_word(), strict=True)
        if not word.gap
    ]
    pairs.sort(key=lambda pair: pair[1])
    against = [pair for pair in pairs if pair[1] < 0][:most]
    speaks = [pair for pair in reversed(pairs) if pair[1] > 0][:most]
    return [(found.label, speaks), (found.other, against)]


def page(found: Sequence[Attribution], *, title: str = "What speaks for it") -> str:
    """Return an HTML page that needs no other file."""
    note = (
        "The nats of all tokens sum to the log-ratio. Point at a word to see its share."
    )
    parts = [html_note(note), *map(_section, found)]
    return html_page(title, parts, style=_STYLE)


def _section(found: Attribution) -> str:
    values = found.by_word()
    parts = []
    for word, value, share in zip(found.words, values, shares(values), strict=True):
        parts.append(escape(word.before))
        if word.gap:
            parts.append(f'<span class="gap">{escape(word.text)}</span>')
            continue
        red, green, blue = _mixed(share)
        ink = "" if abs(share) < 0.6 else ";color:#fff"
        parts.append(
            f'<span style="background:rgb({red},{green},{blue}){ink}" '
            f'title="{value:+.3f} nats">{escape(word.text)}</span>'
        )
    parts.append(escape(found.tail))
    rows = [
        (label, text, f"{value:+.3f}")
        for label, side in _sides(found, 8)
        for text, value in side
    ]
    return (
        f"<h2>{escape(found.label)} against {escape(found.other)}</h2>\n"
        f"{html_note(summary(found))}\n"
        f'<div class="text">{"".join(parts)}</div>\n'
        f"{html_table(('for', 'word', 'nats'), rows, words=2)}"
    )


def plain(found: Attribution) -> dict[str, Any]:
    """Return it for JSON."""
    return {
        "text": found.text,
        "class": found.label,
        "against": found.other,
        "log_ratio": found.log_ratio,
        "log_ratio_se": found.se,
        "log_prior_ratio": found.log_prior_ratio,
        "share": found.share,
        "draws": found.draws,
        "tokens": len(found.values),
        "evaluations": found.evaluations,
        "words": [
            {
                "word": word.text,
                "nats": value,
                "first": word.first,
                "end": word.end,
                "gap": word.gap,
            }
            for word, value in zip(found.words, found.by_word(), strict=True)
        ],
        "values": found.values.tolist(),
    }
