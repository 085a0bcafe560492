"""The commands that explain, sample and edit are light until they are called."""

from __future__ import annotations

import subprocess
import sys


def test_commands_need_nothing_heavy() -> None:
    program = (
        "import sys; import mdlm_classify.cli, mdlm_classify.cli.explain; "
        "import mdlm_classify.cli.sample, mdlm_classify.cli.edit; "
        "print(sorted({'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
