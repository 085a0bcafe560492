"""What `accelerate launch` runs on two processes; test_two_processes reads the result.

Usage: accelerate launch ... two_fits.py FOLDER.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import PartialState

from mdlm_classify import MDLMClassifier
from mdlm_core.train.processes import leave

torch.set_num_threads(1)
SETTINGS = {
    "data.min_count": 1,
    "model.blocks": 1,
    "model.width": 8,
    "model.heads": 2,
    "model.cond_width": 4,
    "task.eval_rows": 4,
    "task.eval_draws": 2,
    "task.sample_count": 0,
    "train.epochs": 0,
    "train.steps": 2,
    "train.batch_size": 4,
}
NOUNS = ["film", "plot", "cast", "song", "book", "play", "score", "scene"]


def main() -> None:
    folder = Path(sys.argv[1])
    tempfile.tempdir = str(folder / "temporary")
    X = [f"{word} {noun}" for word in ("good", "bad") for noun in NOUNS]
    y = [1] * len(NOUNS) + [0] * len(NOUNS)
    more = {"settings": SETTINGS, "length": 4, "draws": 2, "device": "cpu"}
    found = {}
    for name, out in (("temporary", None), ("kept", folder / "run")):
        model = MDLMClassifier(**more, out=out).fit(X, y)
        found[name] = model.predict_log_proba(X).tolist()
    model.partial_fit([f"fine {noun}" for noun in NOUNS], [2] * len(NOUNS))
    found["classes"] = model.classes_.tolist()
    rank = PartialState().process_index
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main()
