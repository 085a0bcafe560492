"""Train in children that kill themselves. A program of its own: one import of torch.

Usage: python killed_runs.py FOLDER SEED KIND, where KIND is tiny or real (see
`tiny_run`). The children are forked before torch has computed anything, so that each
starts as a new process would.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from tiny_run import SETTINGS, TinySource, real_run, real_source, run

from mdlm_core.kernels.noise import Noise
from mdlm_core.train import checkpoint

torch.set_num_threads(1)
MORE = {"micro_batch": 3, "log_every": 1}
KINDS = {"tiny": (run, TinySource), "real": (real_run, real_source)}


def deadly(source, step):
    """Let `source` kill the process when it is asked for the batch of a step."""
    batches = source.batches

    def dying(split, *, start=0, **rest):
        for index, batch in enumerate(batches(split, start=start, **rest), start):
            if split == "train" and index >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    source.batches = dying
    return source


def die_while_saving(count):
    """Kill the process when the `count`-th file of checkpoints is to be synced."""
    left = [count]
    sync = checkpoint._sync

    def dying(path):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    checkpoint._sync = dying


def child(kind, out, *, resume, step=None, syncs=0):
    """Fork, train, and return how the child ended: 0, or the signal's number."""
    train, data = KINDS[kind]
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        if syncs:
            die_while_saving(syncs)
        code = 1
        try:
            source = data() if step is None else deadly(data(), step)
            train(out, resume=resume, source=source, **MORE)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def main(folder, seed, kind):
    whole, killed = folder / "whole", folder / "killed"
    assert child(kind, whole, resume=False) == 0
    u = Noise(seed).child("kill").uniform(torch.arange(7), 1)[:, 0].tolist()
    steps = sorted(int(x * SETTINGS["steps"]) for x in u[:5])
    # A negative number: killed while the file of that number is written.
    kills = [*steps[:2], -1 - int(u[5] * 7), *steps[2:4], -1 - int(u[6] * 7), steps[4]]
    for kill in kills:
        resume = (killed / "config.yaml").exists()
        step = kill if kill >= 0 else None
        ended = child(kind, killed, resume=resume, step=step, syncs=max(0, -kill))
        assert ended == signal.SIGKILL, (kill, ended)
        left = [path.name for path in checkpoint.checkpoints(killed / "checkpoints")]
        sys.stdout.write(f"killed at {kill}, left {left}\n")
    assert child(kind, killed, resume=True) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
