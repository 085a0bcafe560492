"""The loop: what a run folder holds, and what stops a run."""

import json
import math

import pytest
import torch
import yaml

from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run
from mdlm_core.data.tokenizers import CharTokenizer, load_tokenizer
from mdlm_core.diffusion import Draw
from mdlm_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    TrainingError,
    UsageError,
)
from mdlm_core.kernels.noise import Noise
from mdlm_core.train import checkpoint, load_run, precision
from mdlm_core.train.folder import HARMLESS, check_same, next_folder
from mdlm_core.train.metrics import read_metrics
from mdlm_core.train.progress import clock, describe
from mdlm_core.train.runs import LazySource
from mdlm_core.train.trackers import check_trackers

from .tiny_run import SETTINGS, TinyBackbone, TinySource, TinyTask, config, run, trace


def steps_in(folder):
    found = checkpoint.checkpoints(folder / "checkpoints")
    return [checkpoint.step_of(path) for path in found]


# ---- what a run leaves ------------------------------------------------------


def test_a_run_folder_holds_what_it_promises(tmp_path):
    outcome = run(tmp_path, sample_every=6)
    assert outcome.step == 12
    assert outcome.signal is None
    assert outcome.samples == ["a sample"]
    assert read_run(tmp_path, load_catalog()) == config(sample_every=6)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert {"python", "torch", "mdlm-core", "accelerate"} <= written["versions"].keys()
    assert load_tokenizer(tmp_path / "tokenizer").mask_id == 257
    samples = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert samples == ["step-00000006.txt", "step-00000012.txt"]
    assert "a sample" in (tmp_path / "samples" / samples[0]).read_text()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [n["step"] for n in lines if n["kind"] == "validation"] == [4, 8, 12]
    train = [n for n in lines if n["kind"] == "train"]
    assert [n["step"] for n in train] == list(range(1, 13))
    assert {"loss", "lr", "grad_norm", "tokens", "tokens_per_second"} <= {*train[0]}
    state = checkpoint.read_state(checkpoint.checkpoints(tmp_path / "checkpoints")[-1])
    assert state["score"] == outcome.held_out["loss"]
    assert state["precision"] == "fp32"


def test_the_held_out_bound_starts_at_chance_and_falls(tmp_path):
    module = TinyTask().build(TinySource())
    start = TinyTask().evaluate(module, TinySource())["loss"]
    assert start == pytest.approx(math.log(257), abs=1e-5)
    assert run(tmp_path, steps=40, warmup=0).held_out["loss"] < start - 1


def test_held_out_numbers_are_those_of_the_averaged_weights(tmp_path):
    outcome = run(tmp_path)
    for weights, same in (("ema", True), ("raw", False)):
        loaded = load_run(
            tmp_path,
            weights=weights,
            checkpoint="last",
            task=TinyTask(),
            source=TinySource(),
        )
        assert loaded.weights == weights
        assert not loaded.module.training
        found = TinyTask().evaluate(loaded.module, TinySource())["loss"]
        assert (found == outcome.held_out["loss"]) is same


def test_ema_is_the_recursion_of_the_weights(tmp_path):
    run(tmp_path, steps=3, save_every=1, keep_last=9, eval_every=0)
    paths = checkpoint.checkpoints(tmp_path / "checkpoints")
    weights = [checkpoint.read_tensors(p, "model") for p in paths]
    means = [checkpoint.read_tensors(p, "ema") for p in paths]
    for n in (1, 2):  # update n + 1
        decay = min(0.9, (2 + n) / (11 + n))
        for name, mean in means[n].items():
            expected = decay * means[n - 1][name] + (1 - decay) * weights[n][name]
            assert torch.allclose(mean, expected, atol=1e-6), name


def test_without_ema_there_is_none(tmp_path):
    run(tmp_path, steps=2, ema=0.0)
    path = checkpoint.checkpoints(tmp_path / "checkpoints")[-1]
    assert not checkpoint.has_tensors(path, "ema")
    loaded = load_run(tmp_path, task=TinyTask(), source=TinySource())
    assert loaded.weights == "raw"


def test_checkpoints_are_rotated_and_the_best_stays(tmp_path):
    class Scored(TinyTask):
        def evaluate(self, module, source):
            self.calls = getattr(self, "calls", 0) + 1
            return {"loss": [3.0, 1.0, 2.0, 4.0, 5.0, 6.0][self.calls - 1]}

    run(tmp_path, task=Scored(), eval_every=2, save_every=3, keep_last=1, keep_best=1)
    # Step 4 was the best; it was saved although saving was not due.
    assert steps_in(tmp_path) == [4, 12]
    loaded = load_run(tmp_path, task=TinyTask(), source=TinySource())
    assert loaded.step == 4


def test_a_run_without_a_name_gets_a_number(tmp_path):
    names = [next_folder("x", tmp_path).name for _ in range(3)]
    assert names == ["x-1", "x-2", "x-3"]


# ---- one step ---------------------------------------------------------------


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    for name, micro in (("one", 0), ("three", 3), ("single", 1)):
        task = TinyTask(dropout=0.0)
        run(tmp_path / name, task=task, micro_batch=micro)
    for name in ("three", "single"):
        traces = (trace(tmp_path / "one"), trace(tmp_path / name))
        for one, other in zip(*traces, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
            if "grad_norm" in one:
                assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_the_first_step_by_hand(tmp_path):
    """The first loss is the module's, over the free tokens of the whole batch."""
    run(tmp_path, steps=1, micro_batch=1, task=TinyTask(dropout=0.0))
    source = TinySource()
    batch = next(source.batches("train", size=4, seed=0))
    module = TinyTask(dropout=0.0).build(source)
    draw = Draw(Noise(0).child("train"), torch.arange(4), 4, step=0)
    loss = module(batch, draw)
    assert int(loss.count) == int(batch.free.sum()) < 4 * 8
    [line] = [n for n in trace(tmp_path) if n["kind"] == "train"]
    # A new head says the same whatever the trunk is, so the weights do not matter.
    expected = loss.total.item() / loss.count.item()
    assert line["loss"] == pytest.approx(expected, rel=1e-5)
    assert line["lr"] == pytest.approx(SETTINGS["lr"] / 3)


def test_a_task_that_counts_otherwise_gets_its_own_mean(tmp_path):
    """Gradients are those of total / count, whatever a task's count is."""

    class Halves(TinyTask):
        def build(self, source):
            module = super().build(source)
            forward = module.forward

            def halved(batch, draw):
                loss = forward(batch, draw)
                return type(loss)(loss.total, loss.count * 2, loss.nll, loss.masked)

            module.forward = halved
            return module

    run(tmp_path / "a", steps=1, task=TinyTask(0.0), clip=0)
    run(tmp_path / "b", steps=1, task=Halves(0.0), clip=0)
    first, second = trace(tmp_path / "a")[0], trace(tmp_path / "b")[0]
    assert second["loss"] == pytest.approx(first["loss"] / 2)
    assert second["grad_norm"] == pytest.approx(first["grad_norm"] / 2, rel=1e-5)


def test_clipping_bounds_the_update(tmp_path):
    """The norm before clipping is logged; the first moment shows the one after."""
    run(tmp_path / "a", steps=1, clip=0)
    run(tmp_path / "b", steps=1, clip=1e-3)
    first, second = trace(tmp_path / "a")[0], trace(tmp_path / "b")[0]
    assert first["grad_norm"] == pytest.approx(second["grad_norm"])
    assert first["grad_norm"] > 1e-2
    moments = [
        checkpoint.read_tensors(
            checkpoint.checkpoints(tmp_path / name / "checkpoints")[-1], "optimizer"
        )
        for name in "ab"
    ]
    norms = [
        math.sqrt(sum(v.square().sum() for k, v in m.items() if k.endswith("exp_avg")))
        for m in moments
    ]
    assert norms[1] < 1.01e-4 < norms[0]  # exp_avg is a tenth of the gradient


def test_global_random_state_is_left_alone(tmp_path):
    before = torch.random.get_rng_state()
    run(tmp_path, steps=2)
    assert torch.equal(before, torch.random.get_rng_state())


# ---- options ----------------------------------------------------------------


def test_checkpointing_of_activations_needs_a_model_that_can(tmp_path):
    class Task(TinyTask):
        def build(self, source):
            module = super().build(source)
            self.backbone = module.backbone
            return module

    task = Task()
    run(tmp_path / "a", steps=1, task=task, checkpoint_activations="true")
    assert task.backbone.gradient_checkpointing

    class Without(TinyTask):
        def build(self, source):
            module = super().build(source)
            del module.backbone.gradient_checkpointing
            return module

    with pytest.raises(ConfigError, match=r"checkpoint_activations.*cannot recompute"):
        run(tmp_path / "b", steps=1, task=Without(), checkpoint_activations="true")


def test_compile_wraps_the_trunk_alone(tmp_path, monkeypatch):
    compiled = []

    def fake(function):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", fake)
    run(tmp_path, steps=1, compile="true")
    [function] = compiled
    assert function.__name__ == "hidden"
    names = checkpoint.read_tensors(
        checkpoint.checkpoints(tmp_path / "checkpoints")[-1], "model"
    )
    assert set(names) == {f"backbone.{n}" for n in TinyBackbone().state_dict()}


def test_bf16_runs_the_forward_pass_only(tmp_path):
    run(tmp_path, steps=4, precision="bf16")
    path = checkpoint.checkpoints(tmp_path / "checkpoints")[-1]
    for name in ("model", "ema", "optimizer"):
        tensors = checkpoint.read_tensors(path, name)
        assert {v.dtype for v in tensors.values()} == {torch.float32}
    assert checkpoint.read_state(path)["precision"] == "bf16"
    run(tmp_path.with_name("fp32"), steps=4)
    assert trace(tmp_path) != trace(tmp_path.with_name("fp32"))
    # What was decided stays decided: bit for bit also with auto.
    assert run(tmp_path, resume=True, steps=5, precision="bf16").step == 5


def test_auto_precision_measures_once_and_remembers(tmp_path, monkeypatch):
    times = [(1.0, 0.5)]
    monkeypatch.setattr(
        "mdlm_core.train.start.measure_step", lambda *a, **k: times.pop()
    )
    run(tmp_path, steps=1, precision="auto")
    run(tmp_path, steps=2, precision="auto", resume=True)  # would fail to pop
    path = checkpoint.checkpoints(tmp_path / "checkpoints")[-1]
    assert checkpoint.read_state(path)["precision"] == "bf16"


def test_settings_that_cannot_work_here_make_no_run(tmp_path):
    with pytest.raises(ConfigError, match="fp16, which needs a GPU"):
        run(tmp_path, steps=1, precision="fp16")
    assert not (tmp_path / "config.yaml").exists()
    assert run(tmp_path, steps=1).step == 1  # the same folder
    assert read_run(tmp_path, load_catalog()).train.precision == "fp32"


def test_precision_decisions():
    cpu = torch.device("cpu")
    assert precision.decide("auto", cpu, lambda: (1.0, 0.5)).name == "bf16"
    assert precision.decide("auto", cpu, lambda: (1.0, 0.95)).name == "fp32"
    assert precision.decide("auto", cpu, lambda: (1.0, 2.0)).name == "fp32"
    assert "2.00 times" in precision.decide("auto", cpu, lambda: (1.0, 0.5)).reason
    for name in ("fp32", "bf16"):
        assert precision.decide(name, cpu, None).name == name
    with pytest.raises(ConfigError, match="needs a GPU, and this runs on 'cpu'"):
        precision.decide("fp16", cpu, None)
    assert precision.decide("auto", torch.device("mps"), None).name == "fp32"


def test_measuring_a_step_leaves_no_trace():
    source = TinySource()
    module = TinyTask().build(source)
    before = {n: v.clone() for n, v in module.state_dict().items()}
    random = torch.random.get_rng_state()
    batch = next(source.batches("train", size=4, seed=0))
    fp32, bf16 = precision.measure_step(module, batch, seed=0)
    assert fp32 > 0
    assert bf16 > 0
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_tensorboard_gets_the_numbers(tmp_path):
    run(tmp_path, steps=2, report_to='["tensorboard"]')
    files = list((tmp_path / "trackers").rglob("events.out.tfevents*"))
    assert files
    content = b"".join(file.read_bytes() for file in files)
    assert b"train/loss" in content
    assert b"validation/loss" in content


def test_trackers_that_cannot_work_are_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"has 'tensorbord'; there are .*tensorboard"):
        check_trackers(["tensorbord"])
    monkeypatch.setattr("mdlm_core.train.trackers.get_available_trackers", list)
    with pytest.raises(ImportError, match=r"pip install 'mdlm-core\[tensorboard\]'"):
        check_trackers(["tensorboard"])


def test_a_tracker_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("no network")

    monkeypatch.setattr("accelerate.Accelerator.init_trackers", broken)
    with pytest.raises(TrainingError, match="did not start: no network"):
        run(tmp_path, steps=1, report_to='["tensorboard"]')


def test_a_device_that_is_not_there(tmp_path):
    from mdlm_core.train import train

    with pytest.raises(UsageError, match="device 'cuda:7' cannot be used"):
        train(config(), out=tmp_path, device="cuda:7", source=TinySource())
    with pytest.raises(UsageError, match="--resume needs the run folder"):
        train(config(), resume=True)


def test_what_may_change_is_what_is_said():
    check_same(config(), config(steps=99, eval_every=1, keep_best=7))
    for name in ("batch_size", "seed", "precision", "micro_batch", "clip"):
        assert f"train.{name}" not in HARMLESS
    with pytest.raises(ConfigError, match=r"train\.clip"):
        check_same(config(), config(clip=2.0))


# ---- loading ----------------------------------------------------------------


def test_a_loaded_run_reads_no_data_until_asked(tmp_path, monkeypatch):
    run(tmp_path, steps=2)
    loaded = load_run(tmp_path, task=TinyTask())
    assert loaded.step == 2
    assert loaded.backbone.mask_id == loaded.tokenizer.mask_id == 257
    assert loaded.source.length == 8
    assert loaded.data["name"] == "tiny"
    built = []
    monkeypatch.setattr(
        type(loaded.catalog),
        "build",
        lambda self, kind, component, **rest: built.append(kind) or TinySource(),
    )
    assert loaded.source.size("validation") == 6
    assert loaded.source.rows  # what only the real one has
    assert built == ["dataset"]


def test_a_tokenizer_that_was_made_anew_is_refused():
    source = TinySource()
    source.tokenizer = CharTokenizer("abd")  # the text has changed
    saved = CharTokenizer("abc")
    lazy = LazySource(saved, 8, lambda: source)
    assert lazy.tokenizer.decode([2]) == "c"  # needs no data
    for _ in range(2):
        with pytest.raises(DataError) as error:
            lazy.size("train")
    told = str(error.value)
    assert f"'char' with fingerprint {saved.fingerprint()} in the run folder" in told
    assert f"'char' with {source.tokenizer.fingerprint()} made from" in told
    assert "Bring the old data back" in told
    source.tokenizer = CharTokenizer("cba")
    assert lazy.size("train") == 20


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, steps=1)

    class Wider(TinyTask):
        def build(self, source):
            module = super().build(source)
            module.backbone = TinyBackbone(width=10)
            return module

    with pytest.raises(CheckpointError, match="belongs to another model: 'backbone"):
        load_run(tmp_path, task=Wider(), source=TinySource())
    with pytest.raises(CheckpointError, match="belongs to another model"):
        run(tmp_path, task=Wider(), steps=2, resume=True)
    with pytest.raises(ConfigError, match="is no run"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="weights are 'mean'"):
        load_run(tmp_path, weights="mean")


# ---- what a person sees -----------------------------------------------------


def test_lines_for_a_pipe(tmp_path, capsys):
    run(tmp_path, verbose=True)
    out = capsys.readouterr().out
    assert "parameters, cpu, fp32 (as set)" in out
    assert "step 12/12  loss" in out
    assert "tokens/s" in out
    assert "step 4: held out" in out
    assert " ± " in out


def test_the_bar_shows_the_same(monkeypatch):
    from mdlm_core.train.progress import Bar

    bar = Bar(0, 10)
    bar.say("a line [not markup]")
    bar.update(3, {"loss": 1.5})
    bar.close()
    assert bar._progress.tasks[0].completed == 3


def test_numbers_in_words():
    numbers = {"loss": 1.23456, "bits_per_byte": 2.5, "tokens_per_second": 12345.6}
    assert describe(numbers) == "loss 1.235  held out 2.500 bits/byte  12,346 tokens/s"
    assert clock(59.6) == "1:00"
    assert clock(3725) == "1:02:05"


def test_metrics_are_exact_and_null_where_not_finite(tmp_path):
    from mdlm_core.train.metrics import MetricsFile

    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    value = 0.1 + 0.2
    file.write({"step": 1, "loss": value, "grad_norm": math.inf})
    file.close()
    assert read_metrics(path) == [{"step": 1, "loss": value, "grad_norm": None}]
    assert json.loads(path.read_text())["loss"].hex() == value.hex()
