"""See what a module imports, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

HEAVY = ("torch", "numpy", "transformers", "datasets", "accelerate", "safetensors")
"""What takes seconds to import, and must wait until it is used."""

_PROBE = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
for function in list(vars(module).values()):
    if sys.argv[2] == "hooks" and hasattr(function, "mdlm_impl"):
        list(function())
print(json.dumps([name for name in sys.argv[3:] if name in sys.modules]))
"""


@cache
def heavy_imports(module: str, *, call_hooks: bool = False) -> tuple[str, ...]:
    """Return which heavy modules come along when `module` is imported.

    Args:
        module: its dotted name.
        call_hooks: whether its hook implementations are run as well.

    Raises:
        ImportError: if it cannot be imported.
    """
    result = subprocess.run(
        [sys.executable, "-c", _PROBE, module, "hooks" * call_hooks or "-", *HEAVY],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ImportError(f"'{module}' cannot be imported by itself: {last}")
    return tuple(json.loads(result.stdout.splitlines()[-1]))
