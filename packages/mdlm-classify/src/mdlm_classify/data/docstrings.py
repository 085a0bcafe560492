"""Labelled texts that come with every Python: docstrings, and what they are about.

Paragraphs of the standard library's docstrings, labelled by the topic of their module.
Modules are parsed, never imported.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from mdlm_core.cache import cached
from mdlm_core.data.python_docs import docstrings
from mdlm_core.errors import DataError

from .duplicates import signature
from .texts import LabelledTexts

TOPICS: Mapping[str, str] = {
    "concurrency": "_threading_local asyncio concurrent contextvars multiprocessing "
    "queue sched selectors signal subprocess threading",
    "files": "_pyio bz2 compression dbm filecmp fileinput fnmatch genericpath glob "
    "gzip io linecache lzma mimetypes netrc ntpath os pathlib posixpath shelve shutil "
    "stat tarfile tempfile zipfile zipimport",
    "gui": "tkinter turtle",
    "network": "ftplib http imaplib ipaddress nntplib poplib smtplib socket "
    "socketserver ssl telnetlib urllib uuid webbrowser wsgiref xmlrpc",
    "numbers": "_pydatetime _pydecimal _pylong bisect calendar colorsys datetime "
    "decimal fractions heapq numbers random statistics",
    "text": "base64 codecs configparser csv difflib email gettext html json locale "
    "plistlib pprint quopri re shlex string stringprep textwrap tomllib xml",
}
"""The modules and packages of each topic; a Python may lack some of them."""

_FORMAT = 1
_WORDS = range(12, 121)
_MOST = 400
_FEWEST = 20
_SKIP = {"test", "tests", "site-packages", "__pycache__"}


def library_topics(*, cache: Path | None = None) -> LabelledTexts:
    """Return paragraphs of docstrings, labelled by topic; none stands twice.

    A topic has 400 texts at most, so that they are about as many of each. One of which
    a Python has hardly anything is left out, such as gui where tkinter is a package
    of its own.

    Args:
        cache: where what was parsed is kept; the default is `cache_folder()`.

    Raises:
        DataError: if this Python was installed without sources.
    """
    from mdlm_classify import __version__

    folder = Path(sysconfig.get_paths()["stdlib"])
    python = f"{platform.python_implementation()}-{platform.python_version()}"
    place = sha256(str(folder).encode()).hexdigest()[:8]
    name = f"docstrings/{python}-{__version__}-format{_FORMAT}-{place}.json"
    raw = cached(name, lambda: json.dumps(collect(folder)).encode(), folder=cache)
    rows: list[tuple[str, str, str]] = json.loads(raw)
    texts, labels, origin = zip(*rows, strict=True)
    return LabelledTexts(texts, labels, origin)


def collect(
    folder: Path, topics: Mapping[str, str] = TOPICS
) -> Sequence[tuple[str, str, str]]:
    """Return (text, topic, where it stands) from the modules in `folder`.

    Raises:
        DataError: if fewer than two topics have texts.
    """
    found: list[tuple[str, str, str]] = []
    seen: set[bytes] = set()
    kept = 0
    for topic, modules in topics.items():
        fresh: dict[bytes, tuple[str, str, str]] = {}
        for module in modules.split():
            for text, where in _paragraphs(folder, module):
                key = signature(text)
                if key not in seen:
                    seen.add(key)
                    fresh[key] = (text, topic, where)
        if len(fresh) >= _FEWEST:
            kept += 1
            chosen = set(sorted(fresh)[:_MOST])  # by hash: from all its modules
            found += [row for key, row in fresh.items() if key in chosen]
    if kept < 2:
        raise DataError(
            f"this Python ({sys.executable}) has no docstrings of several topics under "
            f"'{folder}'; use a full installation, or set data.path to texts of your "
            "own"
        )
    return found


def _paragraphs(folder: Path, module: str) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of a module or package, and where each stands."""
    single = folder / f"{module}.py"
    inside = (folder / module).rglob("*.py")
    paths = [single] if single.is_file() else sorted(inside)
    for path in paths:
        name = path.relative_to(folder)
        if _SKIP & set(name.parts):
            continue
        try:
            found = docstrings(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # a template, or a file of another Python version
        for number, text in enumerate(found):
            for paragraph in re.split(r"\n[ \t]*\n", text):
                words = paragraph.encode(errors="replace").decode().split()
                if len(words) in _WORDS and not words[0].startswith(">>>"):
                    yield " ".join(words), f"'{name.as_posix()}', docstring {number}"
