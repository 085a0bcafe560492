"""Which device is taken, and which is refused."""

import pytest
import torch

from mdlm_core.errors import UsageError
from mdlm_core.train import checks, engine
from mdlm_core.train.devices import choose_device

from .tiny_run import TinySource, TinyTask, config, run


def pretend(monkeypatch, *there):
    for name in ("cuda", "xpu"):
        monkeypatch.setattr(
            getattr(torch, name), "is_available", lambda n=name: n in there
        )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: bool(there))


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ((), "cpu"),
        (("mps",), "cpu"),
        (("xpu",), "xpu"),
        (("cuda",), "cuda"),
        (("cuda", "xpu"), "cuda"),
    ],
)
@pytest.mark.parametrize("asked", [None, "auto"])
def test_a_gpu_with_float64_is_taken_if_there_is_one(monkeypatch, asked, there, chosen):
    pretend(monkeypatch, *there)
    assert choose_device(asked).type == chosen


@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_mps_is_refused_with_the_reason(monkeypatch, tmp_path, device):
    from mdlm_core.train import load_run, train

    told = r"'mps.*cannot be used: .*float64, which MPS does not have.*--device cpu"
    with pytest.raises(UsageError, match=told):
        choose_device(device)
    new = tmp_path / "new"
    with pytest.raises(UsageError, match=told):
        train(config(), out=new, device=device, source=TinySource(), task=TinyTask())
    assert not new.exists()
    run(tmp_path / "old", steps=1)
    with pytest.raises(UsageError, match=told):
        load_run(tmp_path / "old", device=device, source=TinySource(), task=TinyTask())


@pytest.mark.parametrize("world", ["1", "2"])
@pytest.mark.parametrize(
    ("there", "cpu"), [(("mps",), True), ((), True), (("cuda",), False)]
)
def test_accelerate_is_not_left_to_choose_mps(monkeypatch, world, there, cpu):
    told = []

    class Processes:
        _shared_state = None
        num_processes = int(world)

        def __init__(self, cpu):
            told.append(cpu)

    pretend(monkeypatch, *there)
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setattr(engine, "PartialState", Processes)
    engine.start_processes(None)
    assert told == [cpu]


def test_doctor_says_that_mps_is_not_used(monkeypatch):
    pretend(monkeypatch, "mps")
    found = checks._device()
    assert found.level == "note"
    assert found.text.startswith("cpu, ")
    assert "MPS is not used: noise and schedules are computed in float64" in found.text
