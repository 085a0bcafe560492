"""What ends a run early, and what it leaves behind."""

import errno
import math
import os
import signal
import time

import pytest
import torch

from mdlm_core.errors import (
    CheckpointError,
    TrainingError,
)
from mdlm_core.train import checkpoint
from mdlm_core.train.lock import FolderLock, is_held

from .tiny_run import TinySource, TinyTask, run, trace


def steps_in(folder):
    found = checkpoint.checkpoints(folder / "checkpoints")
    return [checkpoint.step_of(path) for path in found]


# ---- what stops a run -------------------------------------------------------


class Fragile(TinyTask):
    """Its loss breaks at the given step for the row with the largest id."""

    def __init__(self, step, what="loss"):
        super().__init__(0.0)
        self.step, self.what = step, what

    def build(self, source):
        module, task = super().build(source), self
        forward = module.forward

        def breaking(batch, draw):
            loss = forward(batch, draw)
            if draw.step != task.step:
                return loss
            row = batch.sample_id.argmax()
            bad = loss.masked.nonzero()[:, 0] == row
            nll = loss.nll.masked_fill(bad, math.nan)
            scale = math.nan if task.what == "loss" else 1.0
            total = loss.total * scale
            if task.what == "gradient":
                total.register_hook(lambda grad: grad * math.inf)
            return type(loss)(total, loss.count, nll, loss.masked)

        module.forward = breaking
        return module


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, what):
    source = TinySource()
    batches = source.batches("train", size=4, seed=0, start=6)
    worst = int(next(batches).sample_id.max())
    with pytest.raises(TrainingError) as error:
        run(tmp_path, task=Fragile(6, what))
    text = str(error.value)
    assert f"the {what} of step 7 is not finite" in text
    assert f"sample_id {worst})" in text
    assert "train.lr" in text
    assert steps_in(tmp_path)[-1] == 6
    assert not checkpoint.damage(checkpoint.checkpoints(tmp_path / "checkpoints")[-1])
    assert run(tmp_path, resume=True).step == 12  # and nothing is lost


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    save, calls = checkpoint.save_file, []

    def full(values, path):
        calls.append(path)
        if len(calls) > 4:  # the second file of the second checkpoint
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(values, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left.*step 2 is untouched"):
        run(tmp_path)
    assert steps_in(tmp_path) == [2]
    monkeypatch.undo()
    run(tmp_path, resume=True)
    run(tmp_path.with_name("whole"))
    assert trace(tmp_path) == trace(tmp_path.with_name("whole"))


def test_metrics_on_a_full_disk_are_a_clear_error(tmp_path, monkeypatch):
    from mdlm_core.train.metrics import MetricsFile

    file = MetricsFile(tmp_path / "m.jsonl")
    file.close()

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(TrainingError, match=r"No space left.*--resume"):
        file.write({"step": 1})
    file.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(tmp_path, capsys, number):
    class Signalling(TinySource):
        def batches(self, split, *, start=0, **rest):
            batches = super().batches(split, start=start, **rest)
            for index, batch in enumerate(batches, start):
                if split == "train" and index == 4:
                    os.kill(os.getpid(), number)
                yield batch

    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    outcome = run(tmp_path / "a", source=Signalling(), verbose=True)
    assert handlers == [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    assert outcome.signal is number
    assert outcome.step == 5
    assert steps_in(tmp_path / "a")[-1] == 5
    assert f"{number.name}: finishing this step" in capsys.readouterr().out
    run(tmp_path / "a", resume=True)
    run(tmp_path / "b")
    assert trace(tmp_path / "a") == trace(tmp_path / "b")


@pytest.fixture
def ctrl_c():
    """What Python does with Ctrl-C in a terminal; a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_stops_at_once(tmp_path, ctrl_c):
    class Impatient(TinySource):
        def batches(self, split, *, start=0, **rest):
            for batch in super().batches(split, start=start, **rest):
                if split == "train":
                    for _ in range(2):  # two at the same time may arrive as one
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(0.05)
                yield batch

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source=Impatient())


def test_a_folder_in_use_is_refused(tmp_path):
    run(tmp_path, steps=1)
    assert not is_held(tmp_path)
    lock = FolderLock(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(TrainingError, match=f"in use by process {os.getpid()} on"):
        run(tmp_path, steps=2, resume=True)
    lock.release()
    lock.release()
    assert run(tmp_path, steps=2, resume=True).step == 2


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        held = FolderLock(tmp_path)
        os.write(write, b"x" if held else b"")
        time.sleep(30)
        os._exit(0)
    try:
        assert os.read(read, 1) == b"x"
        assert is_held(tmp_path)
        with pytest.raises(TrainingError, match=f"by process {pid} on"):
            FolderLock(tmp_path)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
    FolderLock(tmp_path).release()


def test_data_that_ends_is_told(tmp_path):
    class Short(TinySource):
        def batches(self, split, **rest):
            batches = super().batches(split, **rest)
            if split != "train":
                return batches
            return iter([next(batches), next(batches)])

    with pytest.raises(TrainingError, match="the data ended after step 2 of 12"):
        run(tmp_path, source=Short())


def test_nothing_free_is_told(tmp_path):
    class Frozen(TinySource):
        def rows(self, split, ids, epoch):
            batch = super().rows(split, ids, epoch)
            return type(batch).of(
                batch.tokens, frozen=torch.ones_like(batch.frozen), sample_id=ids
            )

    with pytest.raises(TrainingError, match="step 1: the batch has no free token"):
        run(tmp_path, source=Frozen())
