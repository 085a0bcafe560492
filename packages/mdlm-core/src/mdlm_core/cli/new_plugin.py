"""``mdlm new-plugin``: write a small plugin that works and keeps the contract."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from mdlm_core import __version__
from mdlm_core.catalog import FIRST_PARTY, load_catalog
from mdlm_core.errors import UsageError

from .group import CORE_COMMANDS

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".tmpl"


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the plugin, such as haiku.")
    ],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Write mdlm-NAME in here.")
    ] = Path(),
) -> None:
    """Write the files of a new plugin: a masking policy, a preset and tests."""
    plain = plain_name(name)
    if not into.is_dir():
        raise UsageError(f"there is no folder '{into}'; --into names one that exists")
    target = into / f"mdlm-{plain}"
    check_free(plain, into)
    if target.exists():
        raise UsageError(f"'{target}' exists already; nothing was written")
    written = write_plugin(plain, target)
    print(f"wrote {len(written)} files to {target}")
    print(
        f"\nnext:\n"
        f'  pip install -e "{target}[test]"\n'
        f"  mdlm plugins list\n"
        f"  mdlm train --plugin {plain} --tiny --out runs/{plain}\n"
        f"  pytest {target}"
    )


def plain_name(name: str) -> str:
    """Return `name` in kebab-case, without ``mdlm-``.

    Raises:
        UsageError: if it cannot be a name.
    """
    plain = name.replace("_", "-").removeprefix("mdlm-")
    if not _NAME.fullmatch(plain):
        raise UsageError(
            f"'{name}' cannot be a plugin's name; write small letters and digits "
            f"with single hyphens, a letter first, such as 'end-later'"
        )
    if keyword.iskeyword(plain) or keyword.issoftkeyword(plain):
        raise UsageError(f"'{name}' is a word of Python; choose another name")
    return plain


def check_free(name: str, into: Path) -> None:
    """Refuse a name that something else has.

    The names of core's own plugins are free only beside core itself.

    Raises:
        UsageError: if it is taken, saying by what.
    """
    catalog = load_catalog()
    records = {record.name: record for record in catalog.plugins.records}
    owner = ""
    if name in records:
        owner = f"the installed plugin {records[name].label}"
    elif name in FIRST_PARTY and not (into / "mdlm-core").is_dir():
        owner = f"the package mdlm-{name}"
    elif name in CORE_COMMANDS:
        owner = f"the command 'mdlm {name}'"
    elif catalog.has("masking", name):
        owner = f"the masking policy '{name}'"
    if owner:
        raise UsageError(f"the name '{name}' is taken by {owner}; choose another")


def write_plugin(name: str, target: Path) -> list[Path]:
    """Write the plugin `name` to the folder `target`, and return its files."""
    module = "mdlm_" + name.replace("-", "_")
    major, minor = (int(part) for part in __version__.split(".")[:2])
    values = {
        "name": name,
        "module": module,
        "classname": "".join(part.title() for part in name.split("-")) + "Config",
        "version": f"{major}.{minor}.0",
        "requirement": f">={major}.{minor},<{major}.{minor + 1}",
    }
    written = []
    root = resources.files("mdlm_core").joinpath("templates/plugin")
    for parts, source in _files(root, ()):
        path = target.joinpath(*(module if p == "package" else p for p in parts))
        text = source.read_text("utf-8")
        if path.name.endswith(_SUFFIX):
            path = path.with_name(path.name.removesuffix(_SUFFIX))
            text = _sorted_imports(Template(text).substitute(values))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def _sorted_imports(text: str) -> str:
    """Sort neighbouring imports of ``mdlm_...``, whose order depends on the name."""
    return re.sub(
        r"(?m)(?:^from mdlm_\S+ import .*\n)+",
        lambda found: "".join(sorted(found[0].splitlines(keepends=True))),
        text,
    )


def _files(
    folder: Traversable, parts: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        inner = (*parts, item.name)
        if item.is_dir():
            yield from _files(item, inner)
        else:
            yield inner, item
