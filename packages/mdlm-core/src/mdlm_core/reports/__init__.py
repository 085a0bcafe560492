"""Reports of what was measured: figures, pages in HTML, files written whole."""

from .figures import (
    check_picture,
    draw_figures,
    figure_style,
    new_figure,
    save_figure,
)
from .files import write_files
from .page import html_facts, html_figures, html_note, html_page, html_table

__all__ = [
    "check_picture",
    "draw_figures",
    "figure_style",
    "html_facts",
    "html_figures",
    "html_note",
    "html_page",
    "html_table",
    "new_figure",
    "save_figure",
    "write_files",
]
