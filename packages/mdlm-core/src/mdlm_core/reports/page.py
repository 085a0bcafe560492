"""Pages in HTML: each is one file that needs no other. All texts are escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.6rem; vertical-align: top;
         border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
             white-space: nowrap; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #666; font-size: 0.85rem; }
.wide { overflow-x: auto; margin: 0.6rem 0; }
""".strip()


def html_page(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """Return a page.

    Args:
        title: its heading.
        parts: what stands below, in HTML.
        style: CSS, besides that of all pages.
    """
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    css = "\n".join(filter(None, [_STYLE, style.strip()]))
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>\n{css}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def html_note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, words: int | None = None
) -> str:
    """Return a table, words to the left and numbers to the right.

    Args:
        head: names of the columns.
        rows: their cells; None is shown as nothing.
        words: how many columns, from the left, are of words, and the others of numbers.
            Without it, those without a string are of numbers.
    """
    body = list(rows)
    numbers = [
        column >= words
        if words is not None
        else all(not isinstance(row[column], str) for row in body)
        for column in range(len(head))
    ]
    kinds = [' class="n"' if number else "" for number in numbers]

    def line(tag: str, cells: Sequence[Any]) -> str:
        pairs = zip(cells, kinds, strict=True)
        inside = (f"<{tag}{kind}>{escape(_plain(x))}</{tag}>" for x, kind in pairs)
        return f"<tr>{''.join(inside)}</tr>"

    lines = "\n".join([line("th", head), *(line("td", row) for row in body)])
    return f'<div class="wide"><table>\n{lines}\n</table></div>'


def html_facts(facts: Mapping[str, Any]) -> str:
    """Return a table of names and values."""
    return html_table(("fact", "value"), facts.items(), words=2)


def html_figures(
    drawn: Mapping[str, str], captions: Mapping[str, str], note: str = ""
) -> list[str]:
    """Return the figures of a page under a heading; nothing if there are none.

    Args:
        drawn: name -> SVG text, which the page then holds.
        captions: name -> what stands below.
        note: what is missing.
    """
    parts = ["<h2>Figures</h2>"] if drawn or note else []
    if note:
        parts.append(html_note(note))
    for name, svg in drawn.items():
        data = base64.b64encode(svg.encode()).decode()
        caption = escape(captions[name])
        parts.append(
            f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return parts


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
