"""Run a program that a model wrote, with limits, and see whether it comes to its end.

The program runs in a process group of its own, in an empty folder, without input and
without the environment, with limits on time, memory, file size and processes; whatever
is left of the group is killed. This guards against accidents. It is no security
boundary: the program runs with the rights of who started it, and can read files and use
the network. Run it in a container, or on a machine that may be lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mdlm_core.errors import UsageError

Status = Literal["passed", "failed", "timed out", "killed"]

_REPORT_BYTES = 1000
_PROGRAM = "program.py"

# The guard sets limits and runs the program in the same process, as a module that is
# imported: what it does as a script alone (`__main__`) is no part of the answer. Only a
# program that runs to its end is reported as done: leaving early with exit code 0 does
# not count.
_GUARD = r"""
import os, resource, sys, types

report, seconds, memory, size = (int(word) for word in sys.argv[1:5])
limits = {"CPU": seconds, "AS": memory, "FSIZE": size, "NPROC": 0, "CORE": 0}
for name, value in limits.items():
    kind = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
sys.argv = ["program.py"]
try:
    with open("program.py", encoding="utf-8") as file:
        source = file.read()
    os.unlink("program.py")
    module = sys.modules["program"] = types.ModuleType("program")
    exec(compile(source, "program.py", "exec"), module.__dict__)
except BaseException as error:
    text = f"{type(error).__name__}: {error}"
else:
    text = "done"
os.write(report, text.encode("utf-8", "replace")[:1000])
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    status: Status
    detail: str = ""
    """The exception, or the signal."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the program ran to its end."""
        return self.status == "passed"


def run_program(
    source: str,
    *,
    timeout: float = 5.0,
    memory: int = 1 << 30,
    file_size: int = 1 << 20,
) -> Outcome:
    """Run Python source in a process of its own.

    Args:
        source: the program.
        timeout: seconds on the clock before it is killed; the time on the processor is
            limited to the same, rounded up, and one more.
        memory: bytes of address space.
        file_size: bytes of a file that it writes.

    Raises:
        UsageError: on a system that has no such limits.
    """
    if os.name != "posix":
        raise UsageError(
            "programs can only be run with limits on Linux, macOS and other POSIX "
            "systems; score the predictions there"
        )
    began = time.monotonic()
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(
        prefix="mdlm-sandbox-", ignore_cleanup_errors=True
    ) as folder:
        Path(folder, _PROGRAM).write_text(source, "utf-8", errors="replace")
        limits = (writing, int(timeout) + 2, memory, file_size)
        try:
            with subprocess.Popen(
                [sys.executable, "-I", "-c", _GUARD, *map(str, limits)],
                cwd=folder,
                env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
            ) as process:
                try:
                    code: int | None = process.wait(timeout)
                except subprocess.TimeoutExpired:
                    code = None
                finally:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
            os.set_blocking(reading, False)
            try:
                said = os.read(reading, _REPORT_BYTES).decode("utf-8", "replace")
            except BlockingIOError:
                said = ""
        finally:
            os.close(reading)
            os.close(writing)
    seconds = time.monotonic() - began
    if code is None:
        return Outcome("timed out", f"longer than {timeout:g} s", seconds)
    if code < 0:
        return Outcome("killed", _signal(-code), seconds)
    if said == "done":
        return Outcome("passed", "", seconds)
    return Outcome("failed", said or "it left before its end", seconds)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
