"""``python -m mdlm_llada.engines.llada_plus.debug.smoke_test``: train a little.

Every mode of the loss takes a few steps on a tiny model, with and without a fitted
density of times, and the last model answers a prompt. Seconds on a CPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

MODES = ("Normal", "MultiSample", "MIRROR")
SMALL = ("samples_x0=4", "samples_t=6", "samples_xt=3", "starts=3")


def commands(folder: Path) -> list[list[str]]:
    """Return the commands, each as the words behind ``python -m mdlm_core``."""
    found = []
    for mode in MODES:
        for fitted in (False, True):
            words = ["train", "--plugin", "llada", "--tiny", "--device", "cpu"]
            words += ["--set", f"task.train_mode={mode}"]
            words += ["--set", f"task.times.ppots={str(fitted).lower()}"]
            for setting in SMALL:
                words += ["--set", f"task.times.{setting}"]
            found.append([*words, "--out", str(folder / f"{mode}-{fitted}")])
    last = str(folder / "MIRROR-True")
    words = ["llada", "generate", last, "--prompt", "1000020041200341"]
    words += ["--gen-length", "16", "--steps", "4", "--block-length", "8"]
    return [*found, [*words, "--device", "cpu"]]


def main() -> int:
    """Run the commands; return the first exit code that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        for words in commands(Path(folder)):
            sys.stdout.write("mdlm " + " ".join(words) + "\n")
            sys.stdout.flush()
            command = [sys.executable, "-m", "mdlm_core", *words]
            code = subprocess.run(command, check=False).returncode
            if code:
                return code
    sys.stdout.write("all commands ran\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
