"""Two processes under `accelerate launch` fine-tune as one does.

One launch for all tests, because starting three interpreters is what takes the time.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mdlm_core.train import checkpoint, load_run

from .sft_run import ADAPTERS, MIRROR, TOKEN, run, trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run(folder / "mirror-alone", MIRROR)
    run(folder / "token-alone", TOKEN, task__eval_generate=0)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port"]
    command += ["0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    program = Path(__file__).with_name("sft_two_processes.py")
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


def model(folder):
    return checkpoint.read_tensors(folder / "checkpoints" / "step-00000006", "model")


PAIRS = [
    ("mirror-alone", "mirror"),
    ("token-alone", "token"),
    ("mirror-alone", "fsdp"),
]


@pytest.mark.parametrize(("alone", "both"), PAIRS)
def test_the_trace_is_that_of_one_process(folder, alone, both):
    for kind in ("train", "validation"):
        pairs = zip(
            trace(folder / alone, kind), trace(folder / both, kind), strict=True
        )
        for one, other in pairs:
            assert one.keys() == other.keys()
            for name in one.keys() - {"kind"}:
                assert one[name] == pytest.approx(other[name], rel=1e-4), name


@pytest.mark.parametrize(("alone", "both"), PAIRS)
def test_the_weights_are_those_of_one_process(folder, alone, both):
    one, other = model(folder / alone), model(folder / both)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=1e-4, equal_nan=True), name


def test_fsdp_cuts_adapters_and_the_weights_of_another_type_below_them(
    folder, tmp_path
):
    pytest.importorskip("peft", reason="adapters need the extra peft")
    run(tmp_path / "alone", ADAPTERS)
    one, other = model(tmp_path / "alone"), model(folder / "adapters")
    assert one.keys() == other.keys()
    kinds = {value.dtype for name, value in other.items() if "lora_" in name}
    assert kinds == {torch.float32}
    assert {value.dtype for value in other.values()} > {torch.bfloat16}
    for name, value in one.items():
        if "lora_" not in name:
            assert torch.equal(value, other[name]), name
        else:  # what is between them is rounded to bfloat16
            assert torch.allclose(value, other[name], atol=1e-3), name
            assert "lora_B" not in name or bool(value.abs().max() > 1e-3)
    losses = [
        [line["loss"] for line in trace(place, "train")]
        for place in (tmp_path / "alone", folder / "adapters")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("both", ["mirror", "fsdp"])
def test_all_processes_draw_times_from_one_fitted_density(folder, both):
    """A density fitted by each process for itself would bias the mean over them."""
    one, other = model(folder / "mirror-alone"), model(folder / both)
    assert int(one["times.measured"]) == int(other["times.measured"]) == 4
    for name in ("times.density", "times.g", "times.v"):
        assert torch.allclose(one[name], other[name], rtol=2e-3), name


def test_both_processes_measure_the_same_and_what_one_measures(folder):
    first, second = (torch.load(folder / f"measured-{rank}.pt") for rank in (0, 1))
    assert first == second
    loaded = load_run(folder / "mirror")
    assert dict(loaded.task.evaluate(loaded.module, loaded.source)) == first
