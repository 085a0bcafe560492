"""``python -m mdlm_llada.debug.smoke_imports``: import every module of the package."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import walk_packages

import mdlm_llada

OPTIONAL = ("lm_eval", "peft", "antlr4")
"""What extras install: a module that lacks one of these is skipped."""


def main() -> int:
    """Import all modules; return 1 and say which if one does not load."""
    failed = 0
    found = walk_packages(mdlm_llada.__path__, "mdlm_llada.")
    names = sorted(m.name for m in found if not m.name.endswith("__main__"))
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] in OPTIONAL:
                sys.stdout.write(f"skipped {name}: {error.name} is not installed\n")
                continue
            failed += 1
            sys.stdout.write(f"failed {name}: {error}\n")
    sys.stdout.write(f"{len(names)} modules, {failed} do not load\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
