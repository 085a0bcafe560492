"""Pages and files of reports; nothing here needs more than core's light rooms."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from mdlm_core.errors import MissingExtraError, UsageError
from mdlm_core.reports import (
    check_picture,
    draw_figures,
    figure_style,
    html_facts,
    html_figures,
    html_note,
    html_page,
    html_table,
    write_files,
)

EVIL = "<script>alert('x')</script> & \" onload=\"alert(1)"


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps tags, attributes and texts."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], {}, []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_names_and_captions_are_no_html():
    parts = [
        html_note(EVIL),
        html_table([EVIL, "n"], [(EVIL, 1)]),
        html_facts({EVIL: EVIL, "more": {"a": EVIL}}),
        *html_figures({"one": "<svg/>"}, {"one": EVIL}, EVIL),
    ]
    page = Page(html_page(EVIL, parts))
    assert "script" not in page.tags
    assert not any(
        "onload" in found for each in page.attributes.values() for found in each
    )
    assert page.texts.count(EVIL) == 2 + 1 + 2 + 2 + 2  # title, note, cells, caption
    (image,) = page.attributes["img"]
    assert image["alt"] == EVIL


def test_a_page_holds_its_figures_and_fetches_nothing():
    svg = "<svg xmlns='http://www.w3.org/2000/svg'>é</svg>"
    parts = html_figures({"b": svg, "a": "<svg/>"}, {"a": "A", "b": "B", "c": "C"})
    html = html_page("T", ["<p>first</p>", *parts], style=".verdict { color: red; }")
    page = Page(html)
    first, second = (image["src"] for image in page.attributes["img"])
    head = "data:image/svg+xml;base64,"
    assert base64.b64decode(first.removeprefix(head)).decode() == svg
    assert base64.b64decode(second.removeprefix(head)).decode() == "<svg/>"
    captions = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert captions == ["B", "A"]
    assert "link" not in page.tags
    assert html.index("max-width") < html.index(".verdict") < html.index("<h1>T</h1>")
    assert html == html_page(
        "T", ["<p>first</p>", *parts], style=".verdict { color: red; }"
    )


def test_without_figures_there_is_no_heading_but_what_is_missing():
    assert html_figures({}, {"a": "A"}) == []
    assert html_figures({}, {"a": "A"}, "none") == [
        "<h2>Figures</h2>",
        '<p class="note">none</p>',
    ]


def cells(html):
    """Return the cells of each row of a table; those of numbers in brackets."""
    rows = re.findall("<tr>(.*?)</tr>", html)
    cell = re.compile('<t[hd]( class="n")?>(.*?)</t[hd]>')
    return [[f"[{x}]" if n else x for n, x in cell.findall(row)] for row in rows]


def test_a_column_without_a_string_is_of_numbers():
    rows = [("a", 12345, 0.123456, "3", True), ("b", None, 2.0, "4", False)]
    assert cells(html_table(("name", "count", "share", "text", "right"), rows)) == [
        ["name", "[count]", "[share]", "text", "[right]"],
        ["a", "[12,345]", "[0.1235]", "3", "[yes]"],
        ["b", "[]", "[2]", "4", "[no]"],
    ]


def test_numbers_may_be_written_before():
    table = html_table(("k", "law", "bits"), [(1, "x", "–"), (2, "y", "0.10")], words=2)
    assert cells(table) == [
        ["k", "law", "[bits]"],
        ["1", "x", "[–]"],
        ["2", "y", "[0.10]"],
    ]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        html_table(("a", "b"), [("one",)], words=1)


def test_facts_are_words():
    facts = {"rows": 1000, "none": None, "t": {"a": 0.5}, "names": ["é"]}
    assert cells(html_facts(facts))[1:] == [
        ["rows", "1,000"],
        ["none", ""],
        ["t", "{&quot;a&quot;: 0.5}"],
        ["names", "[&quot;é&quot;]"],
    ]


def test_files_are_written_whole_and_replaced(tmp_path):
    folder = tmp_path / "new" / "folder"
    card = {"name": "é", "value": 0.5}
    files = {"card.json": card, "page.html": "lone \ud800", "picture.png": b"\x89"}
    assert write_files(folder, files) == [folder / name for name in files]
    text = (folder / "card.json").read_text(encoding="utf-8")
    assert json.loads(text) == card
    assert "é" in text
    assert text.endswith("}\n")
    assert (folder / "page.html").read_text(encoding="utf-8") == "lone ?"
    assert (folder / "picture.png").read_bytes() == b"\x89"
    write_files(folder, {"page.html": "again"})
    assert (folder / "page.html").read_text() == "again"
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    with pytest.raises(ValueError, match="JSON"):
        write_files(folder, {"page.html": "half", "card.json": {"x": float("nan")}})
    assert (folder / "page.html").read_text() == "again"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"the report cannot be written to '.*file'"):
        write_files(tmp_path / "file", {"card.json": {}})


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    how = r"pip install 'mdlm-haiku\[plot\]'"
    drawn, missing = draw_figures({"a": pytest.fail}, 1, package="mdlm-haiku")
    assert drawn == {}
    assert re.search(how, missing)
    assert "\n" not in missing
    with pytest.raises(MissingExtraError, match=how):
        check_picture(tmp_path / "a.svg", package="mdlm-haiku")
    with pytest.raises(MissingExtraError, match=how), figure_style("mdlm-haiku"):
        pytest.fail("drawn")


@pytest.mark.parametrize("name", ["a.txt", "a", ".svg", "a.svg.gz", "svg"])
def test_another_ending_is_refused_with_or_without_matplotlib(name, tmp_path):
    with pytest.raises(UsageError, match=r"end it in \.svg, \.png or \.pdf"):
        check_picture(tmp_path / name, package="mdlm-haiku")


def test_reports_import_nothing_heavy():
    code = (
        "import sys, mdlm_core.reports; "
        "print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
