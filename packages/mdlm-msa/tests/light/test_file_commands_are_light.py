"""The commands for files are light until they are called."""

from __future__ import annotations

import subprocess
import sys


def test_commands_need_nothing_heavy() -> None:
    program = (
        "import sys, mdlm_msa, mdlm_msa.cli.convert, mdlm_msa.cli.check, "
        "mdlm_msa.cli.inspect; "
        "print(sorted({'torch', 'numpy', 'scipy', 'pyhmmer'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
