"""Text files and JSON lines, compressed or not, as documents.

Files are read in the order of their paths and one after the other; all of them must
be UTF-8. An error names the file and the place in it.
"""

from __future__ import annotations

import glob
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mdlm_core.config.components import JsonlConfig, TextFilesConfig
from mdlm_core.errors import ConfigError, DataError

from .source import PackedSource
from .tokenizers import utf8

TEXT_SUFFIXES = (".txt", ".gz", ".xz")
JSONL_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_BOM = "\ufeff"


def find_files(pattern: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that `pattern` means, sorted.

    Args:
        pattern: a file, whatever its name; a folder, of which the files with one of
            `suffixes` are taken at any depth, without hidden ones; or a glob.
        suffixes: which files of a folder to take.

    Raises:
        ConfigError: if it is empty.
        DataError: if there is no such file.
    """
    if not pattern:
        raise ConfigError("data.path is empty; set it to a file, a folder or a glob")
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [
            file
            for file in path.rglob("*")
            if file.name.endswith(suffixes)
            and file.is_file()
            and not any(p.startswith(".") for p in file.relative_to(path).parts)
        ]
        if not found:
            raise DataError(
                f"the folder '{pattern}' holds no file with one of the endings "
                f"{', '.join(suffixes)}; name other files with a glob"
            )
    else:
        names = glob.glob(str(path), recursive=True)
        found = [file for file in map(Path, names) if file.is_file()]
        if not found:
            what = "matches no file" if glob.has_magic(pattern) else "does not exist"
            raise DataError(f"'{pattern}' {what} (seen from '{Path.cwd()}')")
    return sorted(found, key=lambda file: file.as_posix())


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path))
    if path.suffix == ".xz":
        return cast("BinaryIO", lzma.open(path))
    return path.open("rb")


def _text(raw: bytes, path: Path, offset: int) -> str:
    """Decode `raw`, which stands at byte `offset` of the file's content."""
    unpacked = " (of the unpacked content)" if path.suffix in (".gz", ".xz") else ""
    null = raw.find(b"\0")
    if null >= 0:
        raise DataError(
            f"'{path}' is no text: the byte at offset {offset + null}{unpacked} is "
            "zero, as in a binary file or UTF-16; text must be UTF-8"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not UTF-8: the byte 0x{raw[error.start]:02x} at offset "
            f"{offset + error.start}{unpacked} does not belong there ({error.reason}); "
            "convert the file, for example with: iconv -f latin1 -t utf-8"
        ) from None


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file; what goes wrong inside the block becomes an error with its name."""
    try:
        with _open(path) as file:
            if not file.peek(1):  # type: ignore[attr-defined]
                raise DataError(f"'{path}' is empty; remove it or name other files")
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(
            f"'{path}' is damaged, it cannot be unpacked: {error}"
        ) from error
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read: {error.strerror or error}"
        ) from error


def read_text(path: Path) -> str:
    """Return the content of a file, without a byte order mark.

    Raises:
        DataError: if the file cannot be read, is empty, or is not UTF-8 text.
    """
    with _reading(path) as file:
        return _text(file.read(), path, 0).removeprefix(_BOM)


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a file, each with the ``\n`` that ends it.

    Raises:
        DataError: as `read_text`, when the place is reached.
    """
    offset = 0
    with _reading(path) as file:
        for raw in file:
            line = _text(raw, path, offset)
            yield line if offset else line.removeprefix(_BOM)
            offset += len(raw)


class TextDocuments:
    """The documents of text files; reads the files each time it is iterated.

    Args:
        files: what to read, in order.
        split_on: ``file``, one document per file; ``blank-line``, paragraphs;
            ``line``, lines. Blank documents are left out.
    """

    def __init__(self, files: list[Path], split_on: str = "file") -> None:
        self.files = files
        self.split_on = split_on

    def __iter__(self) -> Iterator[str]:
        for path in self.files:
            if self.split_on == "file":
                yield read_text(path)
            elif self.split_on == "line":
                for line in read_lines(path):
                    if line.strip():
                        yield line.rstrip("\r\n")
            else:
                yield from _paragraphs(path)


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    for line in read_lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines).rstrip("\r\n")
            lines = []
    if lines:
        yield "".join(lines).rstrip("\r\n")


class JsonlDocuments:
    """One text from each line of JSON; reads the files each time it is iterated.

    Args:
        files: what to read, in order. Blank lines are passed over.
        field: the key of the text.
    """

    def __init__(self, files: list[Path], field: str = "text") -> None:
        self.files = files
        self.field = field

    def __iter__(self) -> Iterator[str]:
        for path in self.files:
            for number, line in enumerate(read_lines(path), start=1):
                if line.strip():
                    yield self._document(line, f"'{path}:{number}'")

    def _document(self, line: str, where: str) -> str:
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f"{where} is no JSON: {error}; each line holds one object"
            ) from None
        if not isinstance(record, dict):
            raise DataError(
                f"{where} holds a {type(record).__name__}, not an object; each line "
                'is like {"text": "..."}'
            )
        if self.field not in record:
            keys = ", ".join(sorted(map(repr, record))) or "none"
            raise DataError(
                f"{where} has no field '{self.field}'; its fields are {keys}; name one "
                "with data.field"
            )
        text = record[self.field]
        if not isinstance(text, str):
            raise DataError(
                f"{where}: the field '{self.field}' holds a {type(text).__name__}, not "
                "a string"
            )
        try:
            utf8(text)  # an escape may name half of a surrogate pair
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        return text


def build_text(config: TextFilesConfig) -> PackedSource:
    """Return the data source of text files."""
    files = find_files(config.path, TEXT_SUFFIXES)
    split_on: str = config.split_on
    if split_on == "auto":  # one document alone could not be split for measuring
        split_on = "file" if len(files) > 1 else "blank-line"
    return PackedSource.from_documents(
        TextDocuments(files, split_on),
        config,
        card={"name": "text", "path": config.path, "files": len(files)},
    )


def build_jsonl(config: JsonlConfig) -> PackedSource:
    """Return the data source of JSON lines."""
    files = find_files(config.path, JSONL_SUFFIXES)
    return PackedSource.from_documents(
        JsonlDocuments(files, config.field),
        config,
        card={"name": "jsonl", "path": config.path, "files": len(files)},
    )
