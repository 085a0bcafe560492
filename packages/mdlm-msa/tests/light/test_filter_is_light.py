"""Filtering is light until it runs, and refuses wrong options before that."""

from __future__ import annotations

import subprocess
import sys


def test_command_and_its_refusals_need_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; "
        "from mdlm_msa.cli import app; "
        "done = CliRunner().invoke(app, ['filter', 'a', 'b', '--rows', '3']); "
        "assert 'go together' in str(done.exception), done; "
        "print(sorted({'torch', 'numpy', 'scipy', 'pyhmmer'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
