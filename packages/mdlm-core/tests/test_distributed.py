"""Two processes under `accelerate launch` do what one does.

One launch for all tests, because starting three interpreters is what takes the time.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from mdlm_core.errors import ConfigError
from mdlm_core.train import checkpoint, load_run
from mdlm_core.train import zero as deepspeed

from .tiny_run import GENTLE, TinySource, TinyTask, config, real_run, run, trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    task = TinyTask(dropout=0.0)
    run(folder / "alone", task=task)
    run(folder / "raw-alone", task=task, ema=0)
    run(folder / "alone-first", task=task, steps=6)
    real_run(folder / "real-alone", dropout=0.0, lr=GENTLE)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port"]
    command += ["0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    program = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*command, str(program), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def met(folder):
    return [json.loads((folder / f"rank-{i}.json").read_text()) for i in (0, 1)]


zero, zero3 = (
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            find_spec("deepspeed") is None, reason="deepspeed is not installed"
        ),
    )
    for kind in ("zero", "zero3")
)


@pytest.mark.parametrize(
    "kind", ["ddp", "accumulated", "alone-first", "real", "fsdp", zero, zero3]
)
def test_the_trace_is_that_of_one_process(folder, kind):
    reference = {"real": "real-alone", "zero3": "raw-alone"}.get(kind, "alone")
    alone, both = trace(folder / reference), trace(folder / kind)
    assert [line["step"] for line in alone] == sorted(n["step"] for n in alone)
    steps = {line["step"] for line in both}
    assert steps == set(range(1, 13))
    for kind_of_line in ("train", "validation"):
        pairs = [
            {n["step"]: n for n in lines if n["kind"] == kind_of_line}
            for lines in (alone, both)
        ]
        for step in pairs[0].keys() & pairs[1].keys():
            one, other = pairs[0][step], pairs[1][step]
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
            if kind_of_line == "train":
                assert one["tokens"] == other["tokens"]
                assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
                assert one["lr"] == other["lr"]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_weights_are_those_of_one_process(folder, kind):
    ends = [folder / name / "checkpoints" / "step-00000012" for name in ("alone", kind)]
    for name in ("model", "ema", "optimizer"):
        one, other = (checkpoint.read_tensors(end, name) for end in ends)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.shape == other[key].shape
            assert torch.allclose(value, other[key], atol=1e-5), (name, key)
    loaded = load_run(folder / kind, task=TinyTask(0.0), source=TinySource())
    assert loaded.weights == "ema"


def test_fsdp_was_fsdp(folder):
    assert {answer["kind"] for answer in met(folder)} == {"DistributedType.FSDP"}
    state = checkpoint.read_state(folder / "fsdp" / "checkpoints" / "step-00000012")
    assert state["world"] == 2


def test_a_signal_to_one_process_stops_both_at_one_step(folder):
    assert [answer["stopped"] for answer in met(folder)] == [[5, False], [5, True]]
    newest = checkpoint.checkpoints(folder / "stopped" / "checkpoints")[-1]
    assert newest.name == "step-00000005"
    assert not checkpoint.damage(newest)


def test_errors_reach_both_processes(folder):
    first, second = met(folder)
    assert first == {**second, "stopped": first["stopped"]}
    assert "the loss of step 2 is not finite" in first["broken"]
    assert "sample_id" in first["broken"]
    assert (
        "must be a multiple of the number of processes, which is 2" in first["uneven"]
    )
    assert "already in use by process" in first["taken"]


def test_the_head_is_gathered_for_a_loss_measured_aside(monkeypatch):
    """A task may ask its module for losses, not the root that DeepSpeed has wrapped."""
    seen = []
    zero = SimpleNamespace(
        register_external_parameter=lambda outer, parameter: seen.append(
            (outer, parameter)
        )
    )
    for name in ("deepspeed", "deepspeed.runtime", "deepspeed.runtime.zero"):
        monkeypatch.setitem(sys.modules, name, zero)
    module = torch.nn.Module()
    module.backbone = torch.nn.Module()
    module.backbone.head = torch.nn.Linear(2, 3, bias=False)
    root = deepspeed._Plain(module)
    deepspeed._gather_with_the_root(root, module)
    head = module.backbone.head.weight
    assert [outer for outer, _ in seen] == [root, module]
    assert all(parameter is head for _, parameter in seen)


@pytest.mark.parametrize(
    ("stage", "precision", "changes", "told"),
    [
        (0, "bf16", {}, "stage 0 is not supported, only 1, 2 and 3"),
        (3, "bf16", {}, "ema is 0.9, which needs whole weights"),
        (2, "fp16", {}, "fp16, which is not supported under DeepSpeed"),
        (1, "bf16", {"optimizer": "muon"}, "muon, which needs whole matrices"),
        (None, "bf16", {}, "accelerate does not use it here"),
    ],
)
def test_deepspeed_set_up_in_another_way(stage, precision, changes, told):
    used = DistributedType.DEEPSPEED if stage is not None else DistributedType.MULTI_CPU
    plugin = SimpleNamespace(zero_stage=stage)
    accelerator = SimpleNamespace(
        distributed_type=used, state=SimpleNamespace(deepspeed_plugin=plugin)
    )
    with pytest.raises(ConfigError, match=told):
        deepspeed.ZeroEngine(
            torch.nn.Linear(1, 1), accelerator, config(**changes).train, precision
        )
