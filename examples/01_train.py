"""Train a small model on the documentation that comes with Python.

What to look for: an untrained model is as unsure as it can be, which is log2(257) or
8.0 bits for each byte. After a few seconds of training the bound on held-out text has
fallen by about half, and the samples are made of letters and spaces. The
same, longer, is `mdlm train`.
"""

import math
import tempfile
from pathlib import Path

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.train import train

SETTINGS = [
    "model={blocks: 2, width: 128, heads: 2, cond_width: 32, conv_kernel: 7}",
    "data.length=64",
    "data.max_documents=300",
    "task={name: pretrain, t_sampling: bell, eval_rows: 64, sample_count: 2}",
    "train.steps=120",
    "train.batch_size=32",
    "train.lr=3e-3",
    "train.warmup=10",
    "train.ema=0.9",
    "train.precision=fp32",
    "train.eval_every=60",
    "train.save_every=0",
    "train.log_every=20",
]


def main() -> None:
    config = resolve(load_catalog(), sets=SETTINGS).config
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(config, out=Path(folder) / "run", device="cpu")
        names = sorted(path.name for path in outcome.folder.iterdir())
    print(f"a run is a folder with {', '.join(names)}")
    print(f"at the start: {math.log2(257):.2f} bits per byte")
    for name, value in outcome.held_out.items():
        print(f"held out, {name}: {value:.3f}")
    for text in outcome.samples:
        print(f"sample: {text!r}")


if __name__ == "__main__":
    main()
