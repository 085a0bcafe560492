"""Run every check, in environments of its own: ``python3 tools/test.py``.

Arguments are those of ``nox``. Without any, all sessions run, two at a time where there
are two cores, and each one's output appears when it ends. The last line is written like
pytest's last line, over all test sessions; a session of another kind that fails counts
as an error.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from xml.etree import ElementTree

from environment import ROOT, make, require_python, run

NOX = ROOT / ".nox"
REPORTS = NOX / "reports"
AT_ONCE = min(2, os.cpu_count() or 1)


def main() -> int:
    """Run nox, and return its exit code."""
    require_python()
    start = time.monotonic()
    python = make(NOX / "driver")
    run(str(python), "-m", "pip", "install", "--quiet", "nox", "uv")
    for old in REPORTS.glob("*"):
        old.unlink()
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    nox = [str(python), "-m", "nox"]
    if sys.argv[1:]:
        command = [*nox, *sys.argv[1:]]
        result = subprocess.run(command, check=False, cwd=ROOT, env=environment)
        failed = int(result.returncode != 0)
    else:
        failed = run_all(nox, environment)
    print(last_line(failed, time.monotonic() - start), flush=True)
    return min(failed, 1)


def run_all(nox: list[str], environment: Mapping[str, str]) -> int:
    """Run all sessions, `AT_ONCE` at a time; return how many of them failed."""
    started = {"cwd": ROOT, "env": environment, "text": True, "errors": "replace"}

    def session(name: str) -> tuple[bool, str, float]:
        print(f"{name}: started", flush=True)
        start = time.monotonic()
        result = subprocess.run(
            [*nox, "-s", name],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **started,
        )
        return result.returncode == 0, result.stdout, time.monotonic() - start

    listed = subprocess.check_output([*nox, "--list", "--json"], **started)
    names = [entry["session"] for entry in json.loads(listed)]
    summary, failed = [], 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(session, name): name for name in names}
        for ended in as_completed(running):
            good, output, seconds = ended.result()
            print(output, flush=True)
            result = "success" if good else "failed"
            summary.append(f"{running[ended]}: {result}, {seconds:.0f} s")
            failed += not good
    print("\n".join(summary), flush=True)
    return failed


def last_line(broken: int, seconds: float) -> str:
    """Return the counts of all test sessions, in the form of pytest's last line.

    `broken` sessions failed; they are counted where no test did.
    """
    count = dict.fromkeys(("failed", "passed", "skipped", "errors"), 0)
    for report in REPORTS.glob("*.xml"):
        for suite in ElementTree.parse(report).iter("testsuite"):
            number = {
                key: int(value) for key, value in suite.items() if value.isdigit()
            }
            bad = number["failures"] + number["errors"]
            count["failed"] += number["failures"]
            count["errors"] += number["errors"]
            count["skipped"] += number["skipped"]
            count["passed"] += number["tests"] - bad - number["skipped"]
    if not count["failed"] and not count["errors"]:
        count["errors"] = broken
    words = {word: word for word in count}
    words["errors"] = "error" if count["errors"] == 1 else "errors"
    parts = [f"{n} {words[word]}" for word, n in count.items() if n]
    text = f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s "
    return text.center(80, "=")


if __name__ == "__main__":
    sys.exit(main())
