"""The embedded corpus: documentation that comes with every Python.

The language reference (`pydoc_data.topics`) and the docstrings of the standard
library, about 2 MB. Modules are parsed, never imported. A paragraph that was there
before is left out: the reference repeats its sections in several topics, and what is
held out must not stand in what is learned from.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from mdlm_core.cache import cached
from mdlm_core.config.components import PythonDocsConfig
from mdlm_core.errors import DataError

from .source import PackedSource

_FORMAT = 2
_PHRASE = 40  # characters; a shorter paragraph, such as a heading, may repeat
_SKIP = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
_SKIP |= {"turtledemo", "pydoc_data", "__pycache__"}
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def topics() -> list[str]:
    """Return the language reference, sorted by topic; empty where it is left out."""
    try:
        from pydoc_data.topics import topics as texts
    except ImportError:  # some minimal distributions
        return []
    return [texts[key] for key in sorted(texts)]


def docstrings(source: str | bytes) -> list[str]:
    """Return the docstrings of a module's source, in the order of the text.

    Raises:
        SyntaxError: if it is no Python.
        ValueError: if it holds a null byte.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's code
        tree = ast.parse(source)
    found = [ast.get_docstring(tree)]
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, _DOCUMENTED):
            found.append(ast.get_docstring(node))
        if isinstance(node, (ast.stmt, ast.Module, ast.ExceptHandler, ast.match_case)):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))
    return [text for text in found if text]


def library_docstrings(folder: Path) -> Iterator[str]:
    """Yield one document for each module under `folder` that has docstrings."""
    paths: list[Path] = []
    for parent, children, names in os.walk(folder):
        children[:] = [child for child in children if child not in _SKIP]  # pruned
        paths += [Path(parent, name) for name in names if name.endswith(".py")]
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        try:
            found = docstrings(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # a template, or a file of another Python version
        if found:
            yield "\n\n".join(found) + "\n"


def _collect(folder: Path) -> bytes:
    documents = [*topics(), *library_docstrings(folder)]
    # A docstring may hold half of a surrogate pair, as an escape; UTF-8 cannot.
    documents = [text.encode(errors="replace").decode() for text in documents if text]
    if not documents:
        raise DataError(
            f"this Python ({sys.executable}) has no embedded documentation: neither "
            f"pydoc_data.topics nor sources under '{folder}'; use a full installation, "
            "or data.name=text with files of your own"
        )
    return json.dumps(without_repeats(documents)).encode()


def without_repeats(documents: Iterable[str]) -> list[str]:
    """Return the documents without paragraphs that stood in them or before.

    Paragraphs are what blank lines divide, and the same if their words are; those of
    fewer than 40 characters stay. A document of which nothing is left is left out.
    """
    seen: set[str] = set()
    kept = []
    for document in documents:
        fresh = []
        for paragraph in re.split(r"\n[ \t]*\n", document):
            words = " ".join(paragraph.split())
            if words not in seen:
                fresh.append(paragraph)
            if len(words) >= _PHRASE:
                seen.add(words)
        if any(paragraph.strip() for paragraph in fresh):
            kept.append("\n\n".join(fresh))
    return kept


def python_documents(*, cache: Path | None = None) -> list[str]:
    """Return the embedded corpus: topics by name, then modules by path.

    Parsing takes seconds, so the result is kept in the cache, under the version of
    Python and of this package.

    Args:
        cache: the cache folder; the default is `cache_folder()`.

    Raises:
        DataError: if this Python was installed without documentation and sources.
    """
    from mdlm_core import __version__

    folder = Path(sysconfig.get_paths()["stdlib"])
    python = f"{platform.python_implementation()}-{platform.python_version()}"
    place = sha256(str(folder).encode()).hexdigest()[:8]
    name = f"python-docs/{python}-core{__version__}-format{_FORMAT}-{place}.json"
    documents: list[str] = json.loads(
        cached(name, lambda: _collect(folder), folder=cache)
    )
    return documents


def build(config: PythonDocsConfig) -> PackedSource:
    """Return the data source of the embedded corpus."""
    documents = python_documents()
    if config.max_documents > 0:
        documents = documents[: config.max_documents]
    return PackedSource.from_documents(
        documents,
        config,
        card={"name": "python-docs", "python": platform.python_version()},
    )
