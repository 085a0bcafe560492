"""What `accelerate launch` runs on two processes; test_distributed reads the result.

Usage: accelerate launch ... two_processes.py FOLDER. Each process writes what it met to
FOLDER/rank-N.json.
"""

import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from tiny_run import GENTLE, TinySource, TinyTask, real_run, run

from mdlm_core.errors import MdlmError
from mdlm_core.train.lock import FolderLock
from mdlm_core.train.processes import leave

torch.set_num_threads(1)


class OneSignal(TinySource):
    """The second process is asked to stop while it does the fifth step."""

    def batches(self, split, *, start=0, **rest):
        batches = super().batches(split, start=start, **rest)
        for index, batch in enumerate(batches, start):
            if split == "train" and index == 4 and rest.get("rank") == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


class Broken(TinyTask):
    """Its loss is not a number on the second process alone."""

    def build(self, source):
        module = super().build(source)
        forward = module.forward

        def breaking(batch, draw):
            loss = forward(batch, draw)
            bad = torch.nan if int(draw.rows.max()) == 3 and draw.step == 1 else 1.0
            nll = loss.nll * bad
            return type(loss)(loss.total * bad, loss.count, nll, loss.masked)

        module.forward = breaking
        return module


def refusal(folder, **settings):
    """Return the message that a run ends with."""
    try:
        run(folder, **settings)
    except MdlmError as error:
        return str(error)
    return ""


def zero(folder, task):
    """Train under DeepSpeed, which on a CPU must be told to use it."""
    import deepspeed

    os.environ |= {
        "ACCELERATE_USE_FSDP": "false",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
        "DS_ACCELERATOR": "cpu",
    }
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
    deepspeed.init_distributed(dist_backend="gloo")
    run(folder / "zero", task=task, micro_batch=1, steps=6)
    run(folder / "zero", task=task, micro_batch=1, resume=True)
    os.environ["ACCELERATE_DEEPSPEED_ZERO_STAGE"] = "3"
    AcceleratorState._reset_state()
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
    run(folder / "zero3", task=task, micro_batch=1, ema=0, steps=6)
    run(folder / "zero3", task=task, micro_batch=1, ema=0, resume=True)


def main(folder):
    task = TinyTask(dropout=0.0)
    met = {}
    run(folder / "ddp", task=task)
    run(folder / "accumulated", task=task, micro_batch=1)
    run(folder / "alone-first", task=task, resume=True)
    real_run(folder / "real", dropout=0.0, lr=GENTLE, micro_batch=1)
    outcome = run(folder / "stopped", task=task, source=OneSignal())
    met["stopped"] = [outcome.step, outcome.signal is not None]
    met["broken"] = refusal(folder / "broken", task=Broken(0.0))
    met["uneven"] = refusal(folder / "uneven", batch_size=5)
    state = PartialState()
    if state.is_main_process:
        (folder / "taken").mkdir()
        lock = FolderLock(folder / "taken")
    state.wait_for_everyone()
    met["taken"] = refusal(folder / "taken")
    if state.is_main_process:
        lock.release()

    # accelerate offers FSDP2 on accelerators only; torch has it on a CPU too.
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    run(folder / "fsdp", task=task, steps=6)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    run(folder / "fsdp", task=task, resume=True)
    met["kind"] = str(PartialState._shared_state["distributed_type"])
    if find_spec("deepspeed") is not None:
        zero(folder, task)
    (folder / f"rank-{state.process_index}.json").write_text(json.dumps(met))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
