"""What happens before the first step, and when a run stops by itself."""

from dataclasses import replace

import pytest
import torch

from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run
from mdlm_core.data.tokenizers import ByteTokenizer, CharTokenizer
from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.train import checkpoint
from mdlm_core.train.lock import is_held
from mdlm_core.train.loop import held_out_text
from mdlm_core.train.metrics import read_metrics
from mdlm_core.train.start import train
from mdlm_core.train.warm_start import warm_start

from .tiny_run import TinyBackbone, TinySource, TinyTask, config, run


class Starting(TinyTask):
    """A task that begins with weights of its own."""

    started = 0

    def start(self, module, source):
        self.started += 1
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.25)


class Refusing(TinyTask):
    """A task that finds its settings wrong."""

    def start(self, module, source):
        raise ConfigError("cannot start")


class Scripted(TinyTask):
    """A task whose held-out losses are known beforehand."""

    def __init__(self, losses):
        super().__init__()
        self.losses = list(losses)

    def evaluate(self, module, source):
        return {"loss": self.losses.pop(0)}


def test_a_task_starts_a_new_run_once(tmp_path):
    task = Starting()
    settings = config(steps=2, eval_start=True, save_every=1, keep_last=9)
    train(settings, out=tmp_path, source=TinySource(), task=task)
    assert task.started == 1
    first = checkpoint.checkpoints(tmp_path / "checkpoints")[0]
    assert checkpoint.step_of(first) == 0
    values = checkpoint.read_tensors(first, "model").values()
    assert all((value == 0.25).all() for value in values)
    more = replace(settings, train=replace(settings.train, steps=3))
    train(more, out=tmp_path, resume=True, source=TinySource(), task=task)
    assert task.started == 1


def test_the_start_is_measured_and_may_be_the_best(tmp_path):
    task = Scripted([1.0, 2.0, 3.0, 4.0])
    settings = config(eval_start=True, keep_best=1, keep_last=1)
    train(settings, out=tmp_path, source=TinySource(), task=task)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [n["step"] for n in lines if n["kind"] == "validation"] == [0, 4, 8, 12]
    best = checkpoint.choose(tmp_path / "checkpoints", "best", lambda text: None)
    assert checkpoint.step_of(best) == 0


def test_a_run_stops_when_it_gets_no_better(tmp_path, capsys):
    task = Scripted([3.0, 2.0, 2.5, 2.0, 1.0])
    settings = config(steps=40, patience=2)
    outcome = train(
        settings, out=tmp_path, source=TinySource(), task=task, verbose=True
    )
    assert outcome.step == 16
    assert outcome.signal is None
    assert outcome.samples == ["a sample"]
    assert "no better in 2 measurements" in capsys.readouterr().out
    paths = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert checkpoint.step_of(paths[-1]) == 16
    again = train(
        settings, out=tmp_path, resume=True, source=TinySource(), task=Scripted([])
    )
    assert again.step == 16
    longer = replace(settings, train=replace(settings.train, patience=4, steps=20))
    more = train(
        longer, out=tmp_path, resume=True, source=TinySource(), task=Scripted([1.0])
    )
    assert more.step == 20


def test_settings_that_the_data_decides_are_recorded(tmp_path):
    class Source(TinySource):
        def completed(self, settings):
            return replace(settings, length=77)

    train(config(steps=1), out=tmp_path, source=Source(), task=TinyTask())
    assert read_run(tmp_path, load_catalog()).data.config.length == 77


def test_weights_of_another_run_are_taken(tmp_path):
    run(tmp_path, steps=2)
    path = checkpoint.choose(tmp_path / "checkpoints", "best", lambda text: None)
    means = checkpoint.read_tensors(path, "ema")
    fresh = TinyBackbone()
    found = warm_start(fresh, tmp_path, ByteTokenizer())
    assert not found.grown
    assert not found.new
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, means[f"backbone.{name}"])


def test_a_tensor_that_has_grown_gets_its_beginning(tmp_path):
    run(tmp_path, steps=2)
    fresh = TinyBackbone()
    name, old = next(
        (name, value) for name, value in fresh.named_parameters() if value.ndim == 2
    )
    wide = torch.nn.Parameter(torch.full((old.shape[0], old.shape[1] + 3), 9.0))
    owner = fresh.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], wide)
    found = warm_start(fresh, tmp_path, ByteTokenizer())
    assert found.grown == (name,)
    assert (wide[:, -3:] == 9.0).all()
    assert not (wide[:, :-3] == 9.0).any()


def test_another_tokenizer_is_refused(tmp_path):
    run(tmp_path, steps=1)
    with pytest.raises(CheckpointError, match="ids would mean other texts"):
        warm_start(TinyBackbone(), tmp_path, CharTokenizer("abc"))


def test_a_warm_start_that_would_lose_weights_is_refused(tmp_path):
    train(config(steps=2), out=tmp_path, source=TinySource(), task=TinyTask())
    model = TinyBackbone()
    name = next(iter(dict(model.named_parameters())))
    first = name.split(".")[0]
    delattr(model, first)
    with pytest.raises(CheckpointError, match=rf"'{first}.*has none of that name"):
        warm_start(model, tmp_path, TinySource().tokenizer)


@pytest.mark.parametrize("made", [False, True])
def test_a_refused_run_leaves_no_folder(tmp_path, made):
    folder = tmp_path / "run"
    if not made:
        folder.mkdir()
    with pytest.raises(ConfigError, match="cannot start"):
        train(config(steps=2), out=folder, source=TinySource(), task=Refusing())
    assert folder.exists() is not made
    assert not list(tmp_path.rglob("*.lock"))
    assert not is_held(folder)


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({"loss": 1.5, "loss_se": 0.25}, "held out 1.5000 ± 0.2500 nats/token"),
        ({"loss": 1.5, "nats_per_row": 1.5}, "held out 1.5000 nats/row"),
        ({"loss": 1.5, "nats_per_token": 1.5}, "held out 1.5000 nats/token"),
        (
            {"loss": 0.2, "log_loss": 0.5, "nats_per_token": 3.0, "accuracy": 0.8},
            "held out 3.0000 nats/token, 0.5000 log-loss, 80.0% right",
        ),
        ({}, "held out nothing"),
    ],
)
def test_held_out_numbers_are_said_in_their_own_unit(numbers, line):
    assert held_out_text(numbers) == line
