"""What `accelerate launch` runs on two processes; test_sft_distributed reads it.

Usage: accelerate launch ... sft_two_processes.py FOLDER.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from sft_run import ADAPTERS, MIRROR, TOKEN, run

from mdlm_core.train import load_run
from mdlm_core.train.processes import leave

torch.set_num_threads(1)


def main(folder):
    """Train and measure as the test does with one process."""
    run(folder / "mirror", MIRROR)
    run(folder / "token", TOKEN, train__micro_batch=1, task__eval_generate=0)
    state = PartialState()
    loaded = load_run(folder / "mirror")
    found = dict(loaded.task.evaluate(loaded.module, loaded.source))
    torch.save(found, folder / f"measured-{state.process_index}.pt")

    # accelerate offers FSDP2 on accelerators only; torch has it on a CPU too.
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }
    kinds = {"fsdp": MIRROR}
    if find_spec("peft"):
        kinds["adapters"] = ADAPTERS
    for name, kind in kinds.items():
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        AcceleratorState._reset_state()
        run(folder / name, kind)
        assert AcceleratorState().distributed_type == DistributedType.FSDP
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
