"""The embedded corpus: what is in it, and Pythons that lack a part of it."""

from __future__ import annotations

import importlib
import inspect
import sys
import types

import pytest

from mdlm_core.config.components import PythonDocsConfig
from mdlm_core.data import python_docs
from mdlm_core.data.python_docs import (
    build,
    docstrings,
    library_docstrings,
    python_documents,
    topics,
    without_repeats,
)
from mdlm_core.data.split import survey
from mdlm_core.errors import DataError

SOURCE = '''
"""First."""
import os

class One:
    """Second.

    Not indented:
        indented.
    """
    def method(self):
        """Third."""
        def inner():
            """Fourth."""
        "not a docstring"
    async def later(self):
        r"""Fifth \\d."""

if os:
    try:
        def guarded(): """Sixth."""
    except ValueError:
        def other(): """Seventh."""
    else:
        pass
match os:
    case 1:
        def matched(): """Eighth."""
"no"
'''


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def documents(cache):
    return python_documents(cache=cache)


def test_docstrings_come_in_the_order_of_the_text():
    found = docstrings(SOURCE)
    assert found[1] == "Second.\n\nNot indented:\n    indented."
    words = "First Second Third Fourth Fifth Sixth Seventh Eighth".split()  # noqa: SIM905
    assert [text.split(".")[0].split(" ")[0] for text in found] == words


def test_it_is_about_two_megabytes_in_a_fixed_order(documents):
    size = sum(len(text.encode()) for text in documents)
    assert 1_000_000 < size < 6_000_000
    assert len(documents) > 300
    assert all(documents)
    assert documents[0] == topics()[0]


@pytest.mark.parametrize("name", ["argparse", "json.decoder", "logging.handlers"])
def test_a_module_is_there_as_it_describes_itself(documents, name):
    module = importlib.import_module(name)
    first = inspect.cleandoc(module.__doc__).split("\n\n")[0]
    (document,) = [d for d in documents if d.startswith(first)]
    described = [
        member
        for member in vars(module).values()
        if inspect.isclass(member) and member.__module__ == name and member.__doc__
    ]
    assert described
    starts = [inspect.cleandoc(m.__doc__).split("\n\n")[0] for m in described]
    # What two modules say, in lines of any length, stands with the first alone.
    there = " ".join(" ".join(documents).split())
    assert all(" ".join(start.split()) in there for start in starts)
    assert any(start in document for start in starts)


def test_it_is_kept_and_read_again(cache, documents, monkeypatch):
    def refuse(*_):
        raise AssertionError("parsed again")

    monkeypatch.setattr(python_docs, "library_docstrings", refuse)
    assert python_documents(cache=cache) == documents
    with pytest.raises(AssertionError, match="parsed again"):
        python_documents(cache=cache / "other")


def test_a_damaged_copy_is_made_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(python_docs, "topics", lambda: ["a topic"])
    monkeypatch.setattr(python_docs, "library_docstrings", lambda _: iter(["a module"]))
    expected = ["a topic", "a module"]
    assert python_documents(cache=tmp_path) == expected
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    stored.write_bytes(stored.read_bytes()[:-3])
    assert python_documents(cache=tmp_path) == expected
    assert "damaged" in caplog.text


def test_modules_are_taken_by_path_without_tests_and_packages(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)

    write("b.py", b'"""b."""')
    write("a/z.py", b'"""a.z."""\ndef f():\n "\\d"')  # an invalid escape, no warning
    write("a/__init__.py", b'"""a."""')
    write("empty.py", b"x = 1")
    write("broken.py", b"def (:")
    write("null.py", b"\0")
    write("latin.py", b'# -*- coding: latin-1 -*-\n"""caf\xe9."""')
    write("bad.py", b'"""caf\xe9."""')
    for folder in ("site-packages", "test", "a/tests", "idlelib", "__pycache__"):
        write(f"{folder}/c.py", b'"""not this."""')
    found = list(library_docstrings(tmp_path))
    assert found == ["a.\n", "a.z.\n\n\\d\n", "b.\n", "café.\n"]


def test_without_sources_the_topics_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(
        python_docs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "no.zip")}
    )
    assert python_documents(cache=tmp_path) == without_repeats(topics())


def test_without_topics_the_docstrings_are_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert topics() == []
    (tmp_path / "m.py").write_text('"""Module."""')
    monkeypatch.setattr(
        python_docs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)}
    )
    assert python_documents(cache=tmp_path / "cache") == ["Module.\n"]


def test_without_both_it_says_so_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(
        python_docs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)}
    )
    for _ in range(2):
        with pytest.raises(DataError, match=r"no embedded documentation.*data\.name"):
            python_documents(cache=tmp_path / "cache")


def test_half_a_surrogate_pair_in_a_docstring_is_replaced(tmp_path, monkeypatch):
    fake = types.ModuleType("pydoc_data.topics")
    fake.topics = {"b": "second", "a": "first \ud800", "c": ""}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", fake)
    monkeypatch.setattr(
        python_docs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)}
    )
    assert python_documents(cache=tmp_path) == ["first ?", "second"]


@pytest.fixture
def stored(cache, documents, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(cache))


@pytest.mark.usefixtures("stored")
def test_the_default_source():
    source = build(PythonDocsConfig())
    card = source.card()
    assert card["name"] == "python-docs"
    assert card["splits"]["train"]["rows"] > 5000
    assert card["splits"]["validation"]["rows"] > 50
    assert 0.99 < card["splits"]["train"]["bytes_per_token"] < 1
    batch = next(source.batches("train", size=64, seed=0))
    assert batch.tokens.shape == (64, 128)
    assert int(batch.tokens.max()) <= 256


@pytest.mark.usefixtures("stored")
def test_the_tiny_source_has_both_splits():
    source = build(PythonDocsConfig(max_documents=200, length=64))
    splits = source.card()["splits"]
    assert sum(split["documents"] for split in splits.values()) == 200
    assert source.size("validation") >= 16


def test_what_stood_before_is_left_out():
    long = "A paragraph of more than forty characters, about nothing."
    other = "Another one, which is just as long, and which differs."
    documents = [
        f"Head\n\n{long}\n\n{other}\n",
        f"Head\n\n{long.replace(' ', '  ')}\n   \nShort.\n\n{long}\n",
        f"{other}\n",
    ]
    assert without_repeats(documents) == [documents[0], "Head\n\nShort."]


def test_held_out_text_does_not_stand_in_what_is_learned(documents):
    found = survey(documents, 0.05)
    known = paragraphs(found.select(documents, "train"))
    held_out = paragraphs(found.select(documents, "validation"))
    assert len(held_out) > 50
    assert not held_out & known


def paragraphs(documents):
    texts = (text for document in documents for text in document.split("\n\n"))
    return {" ".join(t.split()) for t in texts if len(" ".join(t.split())) >= 40}
