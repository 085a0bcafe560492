"""What the processes of one run tell each other. One process: all of it is free."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from mdlm_core.errors import MdlmError

T = TypeVar("T")
GRACE = 0.3
"""Seconds that the threads of a communicator get to end their work."""


def on_main(function: Callable[[], T]) -> T:
    """Run `function` on the main process and return its result on every process.

    What it raises is raised on every process, so that none waits for one that is
    gone. The result must be picklable.
    """
    state = PartialState()
    result: Any = None
    error: BaseException | None = None
    if state.is_main_process:
        try:
            result = function()
        except Exception as raised:
            error = raised
    if state.num_processes > 1:
        told = [result, None if error is None else _picklable(error)]
        broadcast_object_list(told)
        result, other = told
        error = error or other
    if error is not None:
        raise error
    return cast("T", result)


def _picklable(error: BaseException) -> MdlmError:
    kind = type(error) if isinstance(error, MdlmError) else MdlmError
    return kind(str(error))


def sum_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums over all processes, in float64 where the device has it."""
    if PartialState().num_processes == 1:
        return [float(value) for value in values]
    dtype = torch.float32 if device.type == "mps" else torch.float64
    tensor = torch.tensor(values, dtype=dtype, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def gather_lists(values: list[int]) -> list[int]:
    """Return the lists of all processes, one after the other."""
    count = PartialState().num_processes
    if count == 1:
        return values
    lists: list[list[int]] = [[] for _ in range(count)]
    dist.all_gather_object(lists, values)
    return [value for part in lists for value in part]


def leave() -> None:
    """End what the processes of a run have in common; free where there is one process.

    All of them must come here. A program that ends without it is given `GRACE` as well.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        time.sleep(GRACE)


@atexit.register
def _let_threads_end() -> None:
    """Wait, without holding the interpreter, where `leave` was not called.

    A worker thread of the communicator may still hold the tensors of the last
    collective, and needs the interpreter to let go of them. If Python ends first, the
    process aborts after all work is done. There is no barrier here: another process may
    have failed.
    """
    if dist.is_available() and dist.is_initialized():
        time.sleep(GRACE)
