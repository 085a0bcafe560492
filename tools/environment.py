"""Make the environments that `tools/try.py` and `tools/test.py` work in."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def require_python() -> None:
    """Stop with one clear line if this Python is too old."""
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"error: this is Python {found}, and mdlm needs {wanted} or later; "
            f"run it with a newer one, such as python{wanted}"
        )


def make(folder: Path) -> Path:
    """Return the Python of the virtual environment `folder`, made if need be."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not works(python):
        print(f"making a virtual environment in {folder}", flush=True)
        run(sys.executable, "-m", "venv", "--clear", str(folder))
    return python


def works(python: Path) -> bool:
    """Return whether there is a Python with pip."""
    if not python.exists():
        return False
    command = [str(python), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(*command: str) -> None:
    """Run a command, and stop with its exit code if it fails."""
    code = subprocess.run(command, check=False, cwd=ROOT).returncode
    if code:
        print(f"error: '{' '.join(command)}' failed with exit code {code}", flush=True)
        sys.exit(code)
