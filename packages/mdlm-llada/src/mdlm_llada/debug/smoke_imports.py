"""``python -m mdlm_llada.debug.smoke_imports``: import every module of the package."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import walk_packages

import mdlm_llada

OPTIONAL = {"mdlm_llada.lm_eval": "lm_eval"}
"""Modules that need an extra, and what it installs."""


def main() -> int:
    """Import all modules; return 1 and say which if one does not load."""
    failed = 0
    names = sorted(
        module.name for module in walk_packages(mdlm_llada.__path__, "mdlm_llada.")
    )
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            if OPTIONAL.get(name) == (error.name or "").partition(".")[0]:
                sys.stdout.write(f"skipped {name}: {error.name} is not installed\n")
                continue
            failed += 1
            sys.stdout.write(f"failed {name}: {error}\n")
    sys.stdout.write(f"{len(names)} modules, {failed} do not load\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
