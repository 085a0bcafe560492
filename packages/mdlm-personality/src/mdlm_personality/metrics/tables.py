"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns: the first to the left, others to the right.

    Args:
        head: the names of the columns.
        rows: cells of any type, shown by `str`.
    """
    cells = [[*map(str, head)], *([*map(str, row)] for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(parts)} |"

    rule = [
        "-" * width if i == 0 else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return "\n".join(line(row) for row in [cells[0], rule, *cells[1:]])
