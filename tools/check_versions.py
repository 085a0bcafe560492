"""Check that the packages fit together: versions, requirements, licences."""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def problems() -> list[str]:
    """Return what does not fit, one line each.

    All packages have the same major and minor version; a plugin asks for
    ``mdlm-core>=X.Y,<X.(Y+1)``; every LICENSE is a copy of the root's.
    """
    found = []
    licence = (ROOT / "LICENSE").read_bytes()
    versions = {}
    for folder in sorted(
        path.parent for path in ROOT.glob("packages/*/pyproject.toml")
    ):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        name = project["name"]
        if name != folder.name:
            found.append(f"{folder.name}: the project is called '{name}'")
        versions[name] = version_of(folder)
        for file in ("README.md", "CHANGELOG.md", "LICENSE"):
            if not (folder / file).is_file():
                found.append(f"{name}: there is no {file}")
            elif file == "LICENSE" and (folder / file).read_bytes() != licence:
                found.append(f"{name}: LICENSE differs from the one at the root")
        if name != "mdlm-core":
            found += core_problems(name, project)
    minors = {(v.major, v.minor) for v in versions.values()}
    if len(minors) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        found.append(f"versions differ in major or minor: {listed}")
    return found


def version_of(folder: Path) -> Version:
    """Return the ``__version__`` of the package."""
    module = folder.name.replace("-", "_")
    text = (folder / "src" / module / "__init__.py").read_text()
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if match is None:
        sys.exit(f"error: {folder.name} has no __version__ in __init__.py")
    return Version(match[1])


def core_problems(name: str, project: dict) -> list[str]:
    """Return what is wrong with a plugin's requirement on core."""
    core = version_of(ROOT / "packages" / "mdlm-core")
    wanted = {f">={core.major}.{core.minor}", f"<{core.major}.{core.minor + 1}"}
    lines = [Requirement(line) for line in project.get("dependencies", [])]
    mine = [line for line in lines if canonicalize_name(line.name) == "mdlm-core"]
    if not mine:
        return [f"{name}: mdlm-core is not among its dependencies"]
    if {str(part) for part in mine[0].specifier} != wanted:
        return [f"{name}: it asks for '{mine[0]}', not mdlm-core{','.join(wanted)}"]
    return []


if __name__ == "__main__":
    lines = problems()
    print("\n".join(f"error: {line}" for line in lines) or "the packages fit together")
    sys.exit(bool(lines))
