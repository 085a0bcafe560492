"""Run every check, in environments of its own: ``python3 tools/test.py``.

Arguments are those of ``nox``; without any, all sessions run. The last line is written
like pytest's last line, over all test sessions; a session of another kind that fails
counts as an error.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from environment import ROOT, make, require_python, run

NOX = ROOT / ".nox"
REPORTS = NOX / "reports"


def main() -> int:
    """Run nox, and return its exit code."""
    require_python()
    start = time.monotonic()
    python = make(NOX / "driver")
    run(str(python), "-m", "pip", "install", "--quiet", "nox", "uv")
    for old in REPORTS.glob("*"):
        old.unlink()
    REPORTS.mkdir(parents=True, exist_ok=True)
    sessions = REPORTS / "sessions.json"
    scripts = str(python.parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    command = [str(python), "-m", "nox", "--report", str(sessions), *sys.argv[1:]]
    result = subprocess.run(
        command, cwd=ROOT, check=False, env={**os.environ, "PATH": path}
    )
    print(last_line(sessions, result.returncode, time.monotonic() - start), flush=True)
    return result.returncode


def last_line(sessions: Path, code: int, seconds: float) -> str:
    """Return the counts of all test sessions, in the form of pytest's last line."""
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
    if code and not count["failed"] and not count["errors"]:
        count["errors"] = max(1, len(failed_sessions(sessions)))
    words = {word: word for word in count}
    words["errors"] = "error" if count["errors"] == 1 else "errors"
    parts = [f"{n} {words[word]}" for word, n in count.items() if n]
    text = f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s "
    return text.center(80, "=")


def failed_sessions(path: Path) -> list[str]:
    """Return the names of the sessions that did not succeed."""
    if not path.exists():
        return []
    sessions = json.loads(path.read_text())["sessions"]
    return [s["name"] for s in sessions if s["result"] != "success"]


if __name__ == "__main__":
    sys.exit(main())
