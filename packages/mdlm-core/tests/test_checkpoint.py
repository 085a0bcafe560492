"""Checkpoints are whole or not there, and never lose what is already saved."""

import errno
import json
import math
import os
import resource
import shutil

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from mdlm_core.errors import CheckpointError, UsageError
from mdlm_core.train import checkpoint, state

TENSORS = {
    "model": {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)},
    "ema": {"w": torch.ones(2, 3, dtype=torch.bfloat16)},
}


def write(folder, step, score=None):
    return checkpoint.write_checkpoint(folder, step, TENSORS, {"score": score})


def steps(folder):
    return [checkpoint.step_of(path) for path in checkpoint.checkpoints(folder)]


def test_what_is_written_is_read(tmp_path):
    path = write(tmp_path, 500, score=1.25)
    assert path.name == "step-00000500"
    assert {file.name for file in path.iterdir()} == {
        "model.safetensors",
        "ema.safetensors",
        "state.json",
        "manifest.json",
    }
    for name, values in TENSORS.items():
        read = checkpoint.read_tensors(path, name)
        assert read.keys() == values.keys()
        for key, value in values.items():
            assert read[key].dtype == value.dtype
            assert torch.equal(read[key], value)
    assert checkpoint.read_state(path) == {"step": 500, "score": 1.25}
    assert checkpoint.damage(path) == ""
    assert not checkpoint.has_tensors(path, "optimizer")


def test_tied_tensors_are_saved_under_both_names(tmp_path):
    shared = torch.arange(4.0)
    values = state.collect({"a": shared, "b": shared})
    path = checkpoint.write_checkpoint(tmp_path, 1, {"model": values}, {})
    assert torch.equal(checkpoint.read_tensors(path, "model")["b"], shared)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda p: (p / "ema.safetensors").unlink(), "ema.safetensors is missing"),
        (lambda p: os.truncate(p / "model.safetensors", 40), "has 40 bytes instead"),
        (lambda p: flip(p / "model.safetensors"), "not what was written"),
        (lambda p: flip(p / "state.json"), "not what was written"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda p: (p / "manifest.json").write_text("{}"), "does not list state.json"),
        (lambda p: (p / "manifest.json").unlink(), "cannot be read"),
    ],
)
def test_damage_is_found_and_the_previous_one_used(tmp_path, harm, told):
    write(tmp_path, 1, score=2.0)
    harm(write(tmp_path, 2, score=1.0))
    for choice in (
        lambda say: checkpoint.newest_sound(tmp_path, say),
        lambda say: checkpoint.choose(tmp_path, "best", say),
        lambda say: checkpoint.choose(tmp_path, "last", say),
    ):
        said = []
        assert choice(said.append).name == "step-00000001"
        assert len(said) == 1
        assert told in said[0]
    with pytest.raises(CheckpointError, match=r"step-00000002' is damaged"):
        checkpoint.choose(tmp_path, 2, print)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def test_every_single_flipped_byte_is_found(tmp_path):
    path = write(tmp_path, 1)
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 25)):
            broken = bytearray(content)
            broken[place] ^= 0x10
            file.write_bytes(broken)
            assert checkpoint.damage(path), (file.name, place)
        file.write_bytes(content)
    assert not checkpoint.damage(path)


def test_nothing_there(tmp_path):
    assert checkpoint.newest_sound(tmp_path, print) is None
    assert checkpoint.checkpoints(tmp_path / "no") == []
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        checkpoint.choose(tmp_path, "best", print)


def test_choose(tmp_path):
    for step, score in ((1, None), (2, 3.0), (3, 2.0), (4, 2.5), (5, None)):
        write(tmp_path, step, score)
    found = {
        which: checkpoint.step_of(checkpoint.choose(tmp_path, which, print))
        for which in ("best", "last", 2, "4")
    }
    assert found == {"best": 3, "last": 5, 2: 2, "4": 4}
    with pytest.raises(UsageError, match="'first' is not 'best', 'last' or"):
        checkpoint.choose(tmp_path, "first", print)
    with pytest.raises(CheckpointError, match="there are those of steps 1, 2, 3, 4, 5"):
        checkpoint.choose(tmp_path, 9, print)


def test_best_is_the_newest_if_none_was_measured(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert checkpoint.choose(tmp_path, "best", print).name == "step-00000003"


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    scores = {1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0, 6: None, 7: 6.0}
    for step, score in scores.items():
        write(tmp_path, step, score)
    checkpoint.rotate(tmp_path, 7, keep_last=2, keep_best=3)
    assert steps(tmp_path) == [2, 4, 5, 6, 7]
    checkpoint.rotate(tmp_path, 7, keep_last=1, keep_best=0)
    assert steps(tmp_path) == [7]
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000007"]


def test_rotation_never_removes_what_was_just_written(tmp_path):
    for step, score in ((100, 1.0), (150, 3.0), (200, 2.0)):
        write(tmp_path, step, score)
    checkpoint.rotate(tmp_path, 150, keep_last=1, keep_best=0)
    assert steps(tmp_path) == [150, 200]


def test_what_comes_after_a_step_is_set_aside(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    said = []
    checkpoint.set_aside(tmp_path, 1, said.append)
    assert steps(tmp_path) == [1]
    assert len(said) == 2
    kept = tmp_path / "damaged-step-00000002"
    assert not checkpoint.damage(kept)
    write(tmp_path, 2, score=5.0)
    checkpoint.set_aside(tmp_path, 1, said.append)  # a second time
    assert checkpoint.score(kept) == 5.0


def test_among_the_best(tmp_path):
    assert checkpoint.is_among_best(tmp_path, 9.0, 1)
    for step, score in ((1, 3.0), (2, 2.0), (3, None)):
        write(tmp_path, step, score)
    assert checkpoint.is_among_best(tmp_path, 2.5, 2)
    assert not checkpoint.is_among_best(tmp_path, 2.5, 1)
    assert not checkpoint.is_among_best(tmp_path, 1.0, 0)
    assert not checkpoint.is_among_best(tmp_path, math.nan, 3)


def disk_full(values, path):
    path.write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_full_in_rust(values, path):
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fault", [disk_full, disk_full_in_rust])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, fault):
    before = write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", fault)
    with pytest.raises(CheckpointError) as error:
        write(tmp_path, 2)
    text = str(error.value)
    assert "checkpoint of step 2 could not be written" in text
    assert "No space left on device" in text
    assert "step 1 is untouched" in text
    assert "--resume" in text
    assert [item.name for item in tmp_path.iterdir()] == [before.name]
    assert not checkpoint.damage(before)


def test_a_real_limit_on_file_size_is_told(tmp_path):
    before = write(tmp_path, 1)
    big = {"model": {"w": torch.zeros(100_000)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"0\.4 MB"):
            checkpoint.write_checkpoint(tmp_path, 2, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [item.name for item in tmp_path.iterdir()] == [before.name]


def test_an_old_one_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 1, score=1.0)
    write(tmp_path, 1, score=2.0)
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.score(tmp_path / "step-00000001") == 2.0


def test_what_a_crash_left_is_swept(tmp_path):
    write(tmp_path, 1)
    place = checkpoint.temporary(tmp_path, 2)
    shutil.copytree(tmp_path / "step-00000001", place)
    assert steps(tmp_path) == [1]  # never taken for a checkpoint
    checkpoint.sweep(tmp_path)
    assert not place.exists()
    assert steps(tmp_path) == [1]


def test_files_are_synced_before_the_rename(tmp_path, monkeypatch):
    events = []
    sync, put = checkpoint._sync, checkpoint._put_in_place
    monkeypatch.setattr(
        checkpoint, "_sync", lambda path: (events.append(path.name), sync(path))
    )
    monkeypatch.setattr(
        checkpoint, "_put_in_place", lambda *a: (events.append("rename"), put(*a))[1]
    )
    write(tmp_path, 1)
    before = events[: events.index("rename")]
    assert {*before} >= {"model.safetensors", "ema.safetensors", "state.json"}
    assert before[-2:] == ["manifest.json", ".writing-step-00000001"]
    assert events[-1] == tmp_path.name


def model(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1, bias=False))


def test_another_model_is_told_apart():
    ours = state.named_tensors(model())
    first = {name: value.clone() for name, value in ours.items()}
    wider = state.named_tensors(model(4))
    cases = {
        r"'0\.weight' is \(4, 2\) there and \(3, 2\) here": wider,
        "it lacks '0.weight'": {n: v for n, v in ours.items() if n != "0.weight"},
        "it has 'more', which is not": {**ours, "more": torch.zeros(1)},
    }
    for told, values in cases.items():
        with pytest.raises(CheckpointError, match=told):
            state.restore(ours, values, "it")
    for name, value in first.items():
        assert torch.equal(ours[name], value)


@pytest.mark.parametrize("fused", [True, False])
def test_optimizer_state_goes_by_name(fused):
    def trained(seed, steps):
        with torch.random.fork_rng():
            torch.random.default_generator.manual_seed(seed)
            module = model()
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=fused)
        step(module, optimizer, steps)
        return module, optimizer

    def step(module, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            module(torch.ones(1, 2)).sum().backward()
            optimizer.step()

    module, optimizer = trained(0, 3)
    saved = state.collect_optimizer(optimizer, module)
    assert set(saved) == {
        f"{name}.{key}"
        for name, _ in module.named_parameters()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    other, its_optimizer = trained(1, 0)
    state.restore(state.named_tensors(other), state.named_tensors(module), "it")
    state.restore_optimizer(its_optimizer, other, saved, "it")
    for one, opt in ((module, optimizer), (other, its_optimizer)):
        step(one, opt, 2)
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    with pytest.raises(CheckpointError, match="'gone'"):
        state.restore_optimizer(optimizer, module, {"gone.step": torch.ones(1)}, "it")


def test_state_is_json(tmp_path):
    path = write(tmp_path, 1, score=0.1 + 0.2)
    assert json.loads((path / "state.json").read_text())["score"] == 0.1 + 0.2
