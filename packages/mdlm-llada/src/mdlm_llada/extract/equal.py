"""Whether two answers in LaTeX are equal, decided by sympy in a process of its own.

Simplifying can take for ever, so that the work is done elsewhere: after the time limit
the process is killed and a new one made. It answers many questions, since sympy takes
long to import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import Empty, Queue
from threading import Lock, Thread

from mdlm_core.errors import DataError

_START_SECONDS = 60.0

_WORKER = r"""
import json, sys, warnings
warnings.simplefilter("ignore")
import sympy
from sympy.parsing.latex import parse_latex

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    first, second = json.loads(line)
    try:
        difference = parse_latex(first) - parse_latex(second)
        equal = bool(sympy.simplify(difference) == 0)
        answer = "equal" if equal else "different"
    except Exception as error:
        answer = "unread: " + type(error).__name__
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Equality:
    """Compares answers with sympy; `close` it, or let it end with the program."""

    seconds: float = 5.0
    """Time limit for one comparison."""
    _process: subprocess.Popen[str] | None = None
    _lines: Queue[str] = field(default_factory=Queue)
    _lock: Lock = field(default_factory=Lock)

    def ask(self, first: str, second: str) -> str:
        """Return equal, different, unread, slow, or missing: without the parser."""
        if find_spec("antlr4") is None:
            return "missing"
        with self._lock:
            self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps([first, second]) + "\n")
                self._process.stdin.flush()
                line = self._lines.get(timeout=self.seconds)
            except BrokenPipeError:
                line = ""
            except Empty:
                self._stop()
                return "slow"
            if not line:  # the process ended: it ran out of memory, for example
                self._stop()
                return "unread"
        return str(json.loads(line)).partition(":")[0]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if self._process is not None:
            return
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        lines: Queue[str] = Queue()
        Thread(target=_pump, args=(process, lines), daemon=True).start()
        self._process, self._lines = process, lines
        try:
            ready = lines.get(timeout=_START_SECONDS)
        except Empty:
            ready = ""
        if not ready:
            self._stop()
            raise DataError(
                "sympy could not be started with its parser of LaTeX; install them "
                "with: pip install 'mdlm-llada[math]'"
            )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _pump(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Put what the process says into a queue, which can be read with a time limit."""
    assert process.stdout is not None
    with suppress(ValueError):  # closed while it was read
        for line in process.stdout:
            lines.put(line)
    lines.put("")
