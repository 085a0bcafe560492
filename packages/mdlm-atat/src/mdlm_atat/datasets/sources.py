"""The documents of a data set: from where it is, to the form it has in a cache file.

Heavy: reads through core's readers.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mdlm_core.config.components import HuggingFaceConfig
from mdlm_core.data.files import (
    JSONL_SUFFIXES,
    TEXT_SUFFIXES,
    JsonlDocuments,
    TextDocuments,
    find_files,
    read_lines,
)
from mdlm_core.data.hub import quiet
from mdlm_core.data.hugging_face import ColumnDocuments, load_rows
from mdlm_core.data.python_docs import python_documents
from mdlm_core.errors import DataError, MissingExtraError

from .records import DatasetConfig

DATA = "MDLM_DATA"
"""The variable that names a folder of data."""
_HUB = "https://huggingface.co"
_NOT_LETTERS = re.compile("[^a-z]+")


@dataclass(frozen=True, slots=True)
class Source:
    """The texts of one split, and what they come from."""

    texts: Iterable[str]
    """Documents or parts of them; can be read more than once."""
    files: tuple[Path, ...] = ()
    """The files that are read, if any."""
    origin: str = ""
    """What is read, for a manifest: without a machine's folders."""


class NotHereError(DataError):
    """Text cannot be had: its file is not here, or the hub cannot be reached."""


# ---- where it is ------------------------------------------------------------


def candidates(config: DatasetConfig, path: str) -> list[Path]:
    """Return where a relative `path` is looked for, in this order."""
    if (plain := Path(path).expanduser()).is_absolute():
        return [plain]
    folders = [config.folder, Path.cwd()]
    if named := os.environ.get(DATA):
        folders.append(Path(named).expanduser())
    found = [folder / path for folder in folders if folder is not None]
    return list(dict.fromkeys(found))


def _exists(path: Path) -> bool:
    return path.exists() or any(path.parent.glob(path.name))


def locate(config: DatasetConfig) -> Path | None:
    """Return the file, folder or glob that holds a split; None if it is the hub's.

    Raises:
        NotHereError: if it must be a file and is not there.
    """
    if config.kind == "hf":
        if not config.local:
            return None
        return next(filter(_exists, candidates(config, config.local)), None)
    path = f"{config.place}/{config.part}" if config.part else config.place
    places = candidates(config, path)
    for place in places:
        if _exists(place):
            return place
    looked = "', '".join(map(str, places))
    raise NotHereError(
        f"dataset '{config.label}' is not here: there is no '{path}'; looked for "
        f"'{looked}'. Put it in one of these places, set {DATA} to the folder that "
        f"holds '{path}', or name another place with datasets.{config.name}.source in "
        "./datasets.yaml"
    )


def open_source(config: DatasetConfig) -> Source:
    """Return the texts of a split.

    Raises:
        NotHereError: if it is neither here nor can be fetched; the message says what
            to do.
        DataError: if its files are of two kinds.
        MissingExtraError: if it is on the hub, and the extra ``hf`` is missing.
    """
    if config.kind == "builtin":
        return Source(python_documents(), origin=config.source)
    place = locate(config)
    if place is not None:
        return _open_files(config, place)
    with quiet():
        return _open_hub(config)


def _open_files(config: DatasetConfig, place: Path) -> Source:
    files = find_files(str(place), TEXT_SUFFIXES + JSONL_SUFFIXES)
    texts: Iterable[str]
    lines = [file for file in files if file.name.endswith(JSONL_SUFFIXES)]
    if lines and len(lines) != len(files):
        raise DataError(
            f"dataset '{config.label}': '{place}' holds both JSON lines and plain "
            "text; name one kind with a glob, such as '*.txt'"
        )
    if lines:
        texts = JsonlDocuments(files, config.text_field)
    elif config.chunk:
        texts = _Lines(files)
    else:
        texts = TextDocuments(files, "file" if len(files) > 1 else "blank-line")
    origin = config.local or config.source
    return Source(texts, tuple(files), f"file:{origin.removeprefix('file:')}")


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of files, with their ends: joined, they are the text."""

    files: list[Path]

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            yield from read_lines(file)


# ---- the hub ----------------------------------------------------------------


def check_obtainable(config: DatasetConfig) -> None:
    """Refuse a split that cannot be had, as far as that is known without reading it.

    Raises:
        NotHereError: if its file is not there, or the hub cannot be reached; the
            message says what to do.
        MissingExtraError: if it is on the hub, and the extra ``hf`` is missing.
    """
    if config.kind == "builtin" or locate(config) is not None:
        return
    if find_spec("datasets") is None:
        raise MissingExtraError(
            f"dataset '{config.label}' is on the Hugging Face hub, which needs the "
            f"module 'datasets': pip install 'mdlm-core[hf]'. {_ways_out(config)}"
        )
    if Path(config.place).expanduser().is_dir() or reachable():
        return
    if not in_hub_cache(config.place):
        raise NotHereError(
            f"dataset '{config.label}' is on the Hugging Face hub, which cannot be "
            f"reached from here, and not in its cache. {_ways_out(config)}"
        )


def _open_hub(config: DatasetConfig) -> Source:
    check_obtainable(config)
    folder = Path(config.place).expanduser().is_dir()
    asked = HuggingFaceConfig(
        path=config.place,
        subset=config.subset,
        split=config.part or config.split,
        field=config.text_field,
        # a budget needs the beginning alone; what is cached is not read as a stream
        streaming=config.max_tokens is not None and not folder and reachable(),
    )
    try:
        rows = ColumnDocuments(load_rows(asked), config.text_field, config.place)
    except DataError as error:
        message = f"dataset '{config.label}': {error}. {_ways_out(config)}"
        raise NotHereError(message) from error
    origin = f"{config.source} {config.subset}".strip()
    return Source(_Rows(rows, config.label), origin=origin)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of the hub; what goes wrong on the way becomes an error for people."""

    rows: Iterable[str]
    label: str

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self.rows
        except DataError:
            raise
        except Exception as error:  # of the network, in the library's many kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"dataset '{self.label}' broke off while it was read: {reason}; "
                "start again"
            ) from error


def _ways_out(config: DatasetConfig) -> str:
    ways = []
    if config.local:
        ways.append(f"put the text at '{config.local}' in the folder that {DATA} names")
    ways.append(
        f"set datasets.{config.name}.source to file:PATH in ./datasets.yaml, with "
        "splits to match"
    )
    return f"Without the network, {', or '.join(ways)}."


def reachable() -> bool:
    """Return whether the hub's name can be resolved, or a proxy stands before it.

    Asking takes no time, where a download that fails is tried again for half a minute.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT", _HUB)).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def in_hub_cache(name: str) -> bool:
    """Return whether the library has cached rows of the data set `name`."""
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    return (cache / name.replace("/", "___")).is_dir()


# ---- the form ---------------------------------------------------------------


def documents(config: DatasetConfig, texts: Iterable[str]) -> Iterator[str]:
    """Yield the documents of a cache file: folded, cut, none of them blank."""
    if config.symbols == "a-z":
        texts = filter(None, map(to_letters, texts))
    if config.chunk:
        texts = cut(texts, config.chunk, joint="\n" if config.symbols == "any" else " ")
    return (text for text in texts if text.strip())


def to_letters(text: str) -> str:
    """Return `text` in 27 symbols: lower case, all but a to z one space between."""
    return _NOT_LETTERS.sub(" ", text.lower()).strip()


def cut(texts: Iterable[str], size: int, joint: str = "\n") -> Iterator[str]:
    """Join `texts` and cut them into documents of at most `size` characters.

    A document ends after the last paragraph that ends in the second half of its
    room; else after the last line; else after the last word; else it is full. The
    documents, joined, are the text again. At the end `joint` stands after each of
    `texts` that has no white space there.
    """
    rest = ""
    for text in texts:
        rest += text
        if text and not text[-1].isspace():
            rest += joint
        start = 0
        while len(rest) - start > size:
            end = _end(rest, start, size)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _end(text: str, start: int, size: int) -> int:
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, start + size // 2, start + size)
        if found >= 0:
            return found + len(mark)
    return start + size


def file_facts(files: Iterable[Path]) -> list[dict[str, object]]:
    """Return name, size and SHA-256 of files."""
    facts: list[dict[str, object]] = []
    for file in files:
        digest = sha256()
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
        size = file.stat().st_size
        facts.append({"name": file.name, "bytes": size, "sha256": digest.hexdigest()})
    return facts
