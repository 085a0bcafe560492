"""Set up everything in ``.venv`` and train a first model: ``python3 tools/try.py``.

Arguments are those of ``mdlm``; without any it is ``mdlm train``.
"""

import sys

from environment import ROOT, make, require_python, run

if __name__ == "__main__":
    require_python()
    python = str(make(ROOT / ".venv"))
    install = (python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt")
    print("installing mdlm-core", flush=True)
    run(*install, "-e", "packages/mdlm-core")
    run(python, "-m", "mdlm_core", *(sys.argv[1:] or ["train"]))
